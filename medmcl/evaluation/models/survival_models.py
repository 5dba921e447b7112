"""Survival models on frozen features, their penalty chosen on tuning: Cox and discrete time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted, Model
from medmcl.evaluation.models.cox import CoxPath, Ties, cox_loss
from medmcl.evaluation.models.cox_model import cox_model
from medmcl.evaluation.models.discrete_time import discrete_time_loss, discrete_time_model
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.scaling import Rotation, Scaler, Scaling
from medmcl.evaluation.models.strength import STRENGTHS, alike_notes, chosen_strength, weighed_notes


@one_blas_thread()
def cox_survival(
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
    """
    return _tuned(
        _Rows.of(features, targets, train, tuning, refit_on),
        strengths,
        partial(_cox_path, ties=ties, max_steps=20),
        lambda x, seen, when, ridge, start: cox_model(
            x, seen, when, ridge=ridge, ties=ties, start=start
        ),
        scaling,
    )


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
    `cox_survival` says of rows, walks and missing events holds here.

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
    require_survival(targets, "discrete_time")
    rows = _Rows.of(features, targets, train, tuning, refit_on)
    fit = partial(_discrete_time, intervals=intervals)
    return _tuned(rows, strengths, partial(_discrete_time_path, fit=fit), fit)


def require_survival(targets: Targets, protocol: str) -> None:
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
    """Give the log hazard of `cox_survival` under one strength after another, rows sorted once."""
    return _walk(features, targets, train, partial(_cox_path, ties="efron"), scaling)


def discrete_time_walk(features: np.ndarray, targets: Targets, train: np.ndarray) -> Walk:
    """Give the log hazard of `discrete_time_probe` under one strength after another."""
    return _walk(features, targets, train, partial(_discrete_time_path, fit=_discrete_time))


Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Of features, events and times."""
Path = Callable[[float, np.ndarray | None], tuple[np.ndarray, Loss]]
"""Of a strength, and weights to begin with: weights, and their loss on other rows."""
_Found = tuple[LinearModel, tuple[str, ...]]
"""A model, and what a reader must know of its fit."""
_Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray | None], _Found]
"""Of features, events, times, a strength and weights to begin with."""
_Begin = Callable[[np.ndarray, np.ndarray, np.ndarray], Path]
"""Of standardised features, events and times that are fitted on."""


def _cox_path(
    x: np.ndarray, event: np.ndarray, time: np.ndarray, *, ties: Ties, max_steps: int = 50
) -> Path:
    path = CoxPath(x, event, time, ties=ties)

    def at(strength: float, start: np.ndarray | None) -> tuple[np.ndarray, Loss]:
        weights, _ = path.fit(strength, start=start, max_steps=max_steps)
        return weights, partial(cox_loss, weights, ties=ties)

    return at


def _discrete_time_path(x: np.ndarray, event: np.ndarray, time: np.ndarray, *, fit: _Fit) -> Path:
    def at(strength: float, start: np.ndarray | None) -> tuple[np.ndarray, Loss]:
        model, _ = fit(x, event, time, strength, start)
        return model.weights[:, 0], partial(discrete_time_loss, model)

    return at


def _walk(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    begin: _Begin,
    scaling: Scaling = Scaler.of,
) -> Walk:
    rows = _Rows.of(features, targets, train, np.asarray(train)[:0], None)
    x, event, time = rows.part(rows.train)
    scaler = scaling(x)
    last: list[np.ndarray | None] = [None]
    path = begin(scaler(x), event, time)

    def at(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        weights, _ = path(strength, last[-1])
        last[:] = [weights]
        return lambda features: (scaler(features) @ weights)[:, None]

    return at


def _discrete_time(
    x: np.ndarray,
    event: np.ndarray,
    time: np.ndarray,
    strength: float,
    start: np.ndarray | None,
    intervals: int = 20,
) -> _Found:
    rotation = Rotation.of(x)
    start = None if start is None else rotation.inside(start)
    model, notes = discrete_time_model(
        rotation.rows, event, time, ridge=strength, intervals=intervals, start=start
    )
    return replace(model, weights=rotation.back(model.weights[:, 0])[:, None]), notes


@dataclass(frozen=True)
class _Rows:
    """Rows of one fit whose time and event are known."""

    x: np.ndarray
    event: np.ndarray
    time: np.ndarray
    train: np.ndarray
    tuning: np.ndarray
    final: np.ndarray

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        targets: Targets,
        train: np.ndarray,
        tuning: np.ndarray,
        refit_on: np.ndarray | None,
    ) -> _Rows:
        targets.refuse_leak("a survival model and its standardisation", train, refit_on)
        targets.refuse_leak("the choice of a survival model's penalty", tuning)
        known = targets.complete
        sets = (train, tuning, train if refit_on is None else refit_on)
        chosen = (part[known[part]] for part in (np.asarray(s, dtype=np.int64) for s in sets))
        x = np.asarray(features, dtype=np.float64)
        return cls(x, targets.event, targets.time, *chosen)

    @property
    def have_events(self) -> bool:
        """Whether there is an event among the rows fitted on, before and after the choice."""
        return bool(self.event[self.train].any() and self.event[self.final].any())

    def part(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.x[rows], self.event[rows], self.time[rows]


def _tuned(
    rows: _Rows,
    strengths: Sequence[float] | None,
    begin: _Begin,
    fit: _Fit,
    scaling: Scaling = Scaler.of,
) -> Fitted:
    """Walk the penalties from strong to weak, then fit the best on the final rows.

    Each fit starts at the weights before it.
    """
    if not rows.have_events:
        return _constant(rows, fit)
    grid = tuple(strengths or STRENGTHS["survival"])
    where, events, start = _chosen(rows, grid, begin, scaling)
    best = grid[where]
    x, event, time = rows.part(rows.final)
    scaler = scaling(x)
    x = scaler(x)
    model, said = fit(x, event, time, best, start)
    notes = (*weighed_notes(grid, events), *alike_notes(best, grid))
    if not events and len(grid) > 1:
        notes = ("no event in tuning: penalty not tuned",)
    return Fitted.of(_of_features(model, scaler), (best,), (*notes, *said))


def _chosen(
    rows: _Rows, grid: Sequence[float], begin: _Begin, scaling: Scaling
) -> tuple[int, int, np.ndarray | None]:
    """Give the place of the best penalty, the events that told it, and the weights found by it.

    What it holds of many people goes before the best is fitted.
    """
    x, event, time = rows.part(rows.train)
    scaler = scaling(x)
    x = scaler(x)
    path = begin(x, event, time)
    checks, seen, when = rows.part(rows.tuning)
    checks = scaler(checks)
    fits: list[np.ndarray] = []

    def lost(strength: float) -> float:
        weights, loss = path(strength, fits[-1] if fits else None)
        fits.append(weights)
        return loss(checks, seen, when)

    events = int(seen.sum())
    where = chosen_strength(grid, lost, events) if events else len(grid) // 2
    return where, events, fits[where] if fits else None


def _constant(rows: _Rows, fit: _Fit) -> Fitted:
    """The model of rows without an event: constant risk, survival one."""
    width = rows.x.shape[1]
    model, _ = fit(np.zeros((1, width)), np.zeros(1, dtype=bool), np.zeros(1), 1.0, None)
    scaler = Scaler(np.zeros(width), np.ones(width))
    return Fitted.of(_of_features(model, scaler), notes=("no event in training, constant risk",))


def _of_features(model: LinearModel, scaler: Scaler) -> LinearModel:
    """The model of features before they were standardised."""
    plain = LinearModel.scaled(model.link, scaler, model.weights, 0.0)
    return replace(plain, times=model.times, curve=model.curve)


DISCRETE_TIME = Model(fit=discrete_time_probe, kinds=("survival",))
