"""Survival models on frozen features, their penalty chosen on tuning: Cox and discrete time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.data.tables.mapped import let_go, taken
from medmcl.evaluation.models.contract import Fitted, Model
from medmcl.evaluation.models.cox import CoxPath, Ties, cox_loss
from medmcl.evaluation.models.cox_model import cox_model
from medmcl.evaluation.models.discrete_time import discrete_time_loss, discrete_time_model
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.scaling import Scaler, Scaling
from medmcl.evaluation.models.strength import STRENGTHS, choice_notes, chosen_strength


@one_blas_thread()
def cox_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
    ties: Ties = "efron",
    scaling: Scaling = Scaler.of,
) -> Fitted:
    """Fit a Cox model with a ridge penalty: what the linear probe fits, with its survival curves.

    The strength is the one with the lowest negative log partial likelihood on ``tuning``, by
    `chosen_strength`. Without an event in tuning the middle one is
    taken, with a note; without an event in training the risk is constant, with a note.

    Args:
        features: (N, E).
        targets: A survival task over the same N rows; rows not fully known are left out.
        train: Rows to fit on (indices).
        tuning: Rows to choose the strength on (indices).
        strengths: Candidates, against the summed likelihood.
        refit_on: Rows to fit the chosen strength on; default ``train``.
        ties: Likelihood of tied events; the baseline is Breslow's.
        scaling: How columns are scaled before the penalty, learned on the rows fitted on.

    Raises:
        ConfigError: For a task that is not survival.
        LeakageError: As `linear_probe`.
    """
    _require_survival(targets, "cox")
    fit = partial(cox_model, ties=ties)
    begin = partial(_cox_path, ties=ties, max_steps=20)
    return _tuned(features, targets, train, tuning, strengths, refit_on, begin, fit, scaling)


@one_blas_thread()
def discrete_time_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
    intervals: int = 20,
) -> Fitted:
    """Fit a discrete-time hazards model; the ridge has the lowest loss on ``tuning``.

    The loss is the negative log likelihood of the intervals that tuning rows passed through. What
    `cox_probe` says of rows, walks and missing events holds here.

    Args:
        features: (N, E).
        targets: A survival task over the same N rows; rows not fully known are left out.
        train: Rows to fit on (indices).
        tuning: Rows to choose the strength on (indices).
        strengths: Candidates, against the summed likelihood.
        refit_on: Rows to fit the chosen strength on; default ``train``.
        intervals: Intervals at most.

    Raises:
        ConfigError: For a task that is not survival.
        LeakageError: As `linear_probe`.
    """
    _require_survival(targets, "discrete_time")
    fit = partial(discrete_time_model, intervals=intervals)
    begin = partial(_discrete_time_path, fit=fit)
    return _tuned(features, targets, train, tuning, strengths, refit_on, begin, fit)


def _require_survival(targets: Targets, protocol: str) -> None:
    """Refuse a task that has no time to an event."""
    if targets.kind != "survival":
        raise ConfigError(
            f"the protocol '{protocol}' needs a survival task",
            where=f"task {targets.name}",
            got=targets.kind,
            fix="use the linear_probe protocol",
        )


Walk = Callable[[float], Callable[[np.ndarray], np.ndarray]]
"""Of a strength the predictor, features (N, E) to (N, C); each fit begins where the last ended."""


def cox_walk(
    features: np.ndarray, targets: Targets, train: np.ndarray, *, scaling: Scaling = Scaler.of
) -> Walk:
    """Give the log hazard of `cox_probe` under one strength after another, rows sorted once."""
    return _walk(features, targets, train, partial(_cox_path, ties="efron"), scaling)


def discrete_time_walk(features: np.ndarray, targets: Targets, train: np.ndarray) -> Walk:
    """Give the log hazard of `discrete_time_probe` under one strength after another."""
    return _walk(features, targets, train, partial(_discrete_time_path, fit=discrete_time_model))


Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Of features, events and times."""
_Data = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features, events and times of some rows."""
_Path = Callable[[float, np.ndarray | None], tuple[np.ndarray, Loss]]
"""Of a strength, and weights to begin with: weights, and their loss on other rows."""
_Begin = Callable[..., _Path]
"""Of standardised `_Data` that is fitted on."""
_Fit = Callable[..., tuple[LinearModel, tuple[str, ...]]]
"""Of the same, a ridge and a start: a model, and what a reader must know of its fit."""


def _cox_path(
    x: np.ndarray, event: np.ndarray, time: np.ndarray, *, ties: Ties, max_steps: int = 50
) -> _Path:
    path = CoxPath(x, event, time, ties=ties)

    def at(strength: float, start: np.ndarray | None) -> tuple[np.ndarray, Loss]:
        weights, _ = path.fit(strength, start=start, max_steps=max_steps)
        return weights, partial(cox_loss, weights, ties=ties)

    return at


def _discrete_time_path(x: np.ndarray, event: np.ndarray, time: np.ndarray, *, fit: _Fit) -> _Path:
    def at(strength: float, start: np.ndarray | None) -> tuple[np.ndarray, Loss]:
        model, _ = fit(x, event, time, ridge=strength, start=start)
        return model.weights[:, 0], partial(discrete_time_loss, model)

    return at


def _steps(
    data: _Data, begin: _Begin, scaling: Scaling
) -> tuple[Scaler, Callable[[float], tuple[np.ndarray, Loss]]]:
    """Scale rows, and fit them under one strength after another, each from the weights before."""
    x, event, time = data
    scaler = scaling(x)
    last: list[np.ndarray | None] = [None]
    path = begin(scaler(x), event, time)

    def at(strength: float) -> tuple[np.ndarray, Loss]:
        weights, loss = path(strength, last[-1])
        last[:] = [weights]
        return weights, loss

    return scaler, at


def _known(targets: Targets, rows: np.ndarray) -> np.ndarray:
    """Those of some rows whose event and time are known (indices)."""
    rows = np.asarray(rows, dtype=np.int64)
    return rows[targets.complete[rows]]


def _of(features: np.ndarray, targets: Targets, rows: np.ndarray) -> _Data:
    let_go()  # what an earlier fit held
    return taken(features, rows), targets.event[rows], targets.time[rows]


def _walk(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    begin: _Begin,
    scaling: Scaling = Scaler.of,
) -> Walk:
    targets.refuse_leak("a survival model and its standardisation", train)
    scaler, fitted = _steps(_of(features, targets, _known(targets, train)), begin, scaling)

    def at(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        weights, _ = fitted(strength)
        return lambda features: (scaler(features) @ weights)[:, None]

    return at


def _tuned(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    strengths: Sequence[float] | None,
    refit_on: np.ndarray | None,
    begin: _Begin,
    fit: _Fit,
    scaling: Scaling = Scaler.of,
) -> Fitted:
    """Walk the penalties from strong to weak, then fit the best on the final rows.

    Each fit starts at the weights before it.
    """
    targets.refuse_leak("a survival model and its standardisation", train, refit_on)
    targets.refuse_leak("the choice of a survival model's penalty", tuning)
    features, grid = np.asarray(features), tuple(strengths or STRENGTHS["survival"])
    sets = (train, tuning, train if refit_on is None else refit_on)
    train, tuning, final = (_known(targets, rows) for rows in sets)
    if not (targets.event[train].any() and targets.event[final].any()):
        nobody = np.zeros((1, features.shape[1])), np.zeros(1, dtype=bool), np.zeros(1)
        model, said = fit(*nobody, ridge=1.0, start=None)
        return Fitted.of(model, notes=said)
    where, events, start = _chosen(features, targets, train, tuning, grid, begin, scaling)
    best = grid[where]
    x, event, time = _of(features, targets, final)
    scaler = scaling(x)
    x = scaler(x)
    model, said = fit(x, event, time, ridge=best, start=start)
    notes = choice_notes(best, grid, events)
    if not events and len(grid) > 1:
        notes = ("no event in tuning: penalty not tuned",)
    plain = LinearModel.scaled(model.link, scaler, model.weights, 0.0)
    plain = replace(plain, times=model.times, curve=model.curve)
    return Fitted.of(plain, (best,), (*notes, *said))


def _chosen(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    grid: Sequence[float],
    begin: _Begin,
    scaling: Scaling,
) -> tuple[int, int, np.ndarray | None]:
    """Give the place of the best penalty, the events that told it, and the weights found by it.

    What it holds of many people goes before the best is fitted.
    """
    scaler, fitted = _steps(_of(features, targets, train), begin, scaling)
    checks, seen, when = _of(features, targets, tuning)
    checks = scaler(checks)
    fits: list[np.ndarray] = []

    def lost(strength: float) -> float:
        weights, loss = fitted(strength)
        fits.append(weights)
        return loss(checks, seen, when)

    events = int(seen.sum())
    where = chosen_strength(grid, lost, events) if events else len(grid) // 2
    return where, events, fits[where] if fits else None


COX = Model(fit=cox_probe, kinds=("survival",))
DISCRETE_TIME = Model(fit=discrete_time_probe, kinds=("survival",))
