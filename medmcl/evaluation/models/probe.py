"""Probes: simple predictors on frozen embeddings, the same for every method.

A probe sees train rows to fit and tuning rows to choose its one setting; where the targets know
the split of their rows, those of `held_out` are refused. Features are standardised with train
statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.evaluation.models.cox_model import Cox
from medmcl.evaluation.models.linear_model import LinearModel, Link, side_by_side
from medmcl.evaluation.models.scaling import Scaler, Scaling
from medmcl.evaluation.models.survival_models import (
    COX_STRENGTHS,
    Standardised,
    cox_survival,
    discrete_time_survival,
)

LOGISTIC_STRENGTHS = tuple(10.0**power for power in range(5, -2, -1))  # 1 / C of scikit-learn
RIDGE_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(8, -9, -1))  # times train rows


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted predictor.

    Attributes:
        predict: Features (N, E) to (N, C): probabilities (binary, multilabel, multiclass), values
            (regression) or a log hazard (survival); higher = more, or earlier.
        chosen: The setting chosen on tuning, one a column (or one for all).
        notes: What a reader must know: constant predictions, settings at the edge of the grid.
        survival: Survival tasks: features (N, E) and times (T,) to P(T > time), (N, T).
        times: Survival tasks: times at which that curve was fitted, ascending. (K,)
        model: All of it as arrays that can be kept; None for a predictor that holds people's rows.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    chosen: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    survival: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    times: np.ndarray | None = None
    model: LinearModel | None = None

    @classmethod
    def of(
        cls, model: LinearModel, chosen: tuple[float, ...] = (), notes: tuple[str, ...] = ()
    ) -> Fitted:
        """Make a predictor from a model."""
        return cls(
            predict=model.predict,
            chosen=chosen,
            notes=notes,
            survival=model.survival if model.has_curves else None,
            times=model.times if model.has_curves else None,
            model=model,
        )


def linear_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
    scaling: Scaling = Scaler.of,
) -> Fitted:
    """Fit a linear model with a ridge penalty on frozen features.

    Logistic (one-vs-rest for labels, multinomial for classes), ridge (each column on the rows where
    it is known, so that missing targets do not dilute it), or Cox with Efron ties. The strength of
    the penalty is the one with the lowest loss on ``tuning`` (log loss, squared error, or negative
    log partial likelihood), from strong to weak.

    Args:
        features: (N, E).
        targets: The task, over the same N rows.
        train: Rows to fit on (indices).
        tuning: Rows to choose the strength on (indices).
        strengths: Candidates; default a grid of powers of ten.
        refit_on: Rows to fit the chosen strength on; default ``train``.
        scaling: How columns are scaled before the penalty, learned on the rows fitted on.

    Raises:
        LeakageError: A row given is of `held_out`, where the targets know it.
    Source:
        Alain & Bengio 2016, arXiv 1610.01644 (linear probes). Differs: penalty chosen on tuning.
    """
    targets.refuse_leak("a probe and its standardisation", train, refit_on)
    targets.refuse_leak("the choice of a probe's penalty", tuning)
    x = np.asarray(features, dtype=np.float64)
    final = train if refit_on is None else refit_on
    job = _Job(x, targets, np.asarray(train), np.asarray(tuning), np.asarray(final), scaling)
    if targets.kind == "multiclass":
        return _softmax_probe(job, strengths or LOGISTIC_STRENGTHS)
    if targets.kind == "survival":
        return _cox_probe(job, strengths or COX_STRENGTHS)
    if targets.kind == "regression":
        return _stack([_ridge_column(job, c, strengths) for c in range(targets.values.shape[1])])
    columns = range(targets.values.shape[1])
    return _stack([_logistic_column(job, c, strengths or LOGISTIC_STRENGTHS) for c in columns])


@dataclass(frozen=True)
class _Job:
    """Rows of one fit; the rows of a column are those where it is known."""

    x: np.ndarray
    targets: Targets
    train: np.ndarray
    tuning: np.ndarray
    final: np.ndarray
    scaling: Scaling

    def rows(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = self.targets.known[:, column]
        return tuple(rows[known[rows]] for rows in (self.train, self.tuning, self.final))

    def y(self, column: int) -> np.ndarray:
        return np.asarray(self.targets.values[:, column])


def _stack(parts: Sequence[Fitted]) -> Fitted:
    """Join predictors of single columns."""
    return Fitted.of(
        side_by_side([part.model for part in parts if part.model is not None]),
        chosen=tuple(value for part in parts for value in part.chosen),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _constant(link: Link, job: _Job, values: np.ndarray, note: str) -> Fitted:
    return Fitted.of(constant_model(link, job.x.shape[1], values), notes=(note,))


def constant_model(link: Link, width: int, values: np.ndarray) -> LinearModel:
    """Give the model that predicts ``values`` (C,) for everyone: probabilities, or numbers."""
    with np.errstate(divide="ignore"):  # a share of zero is minus infinity before the link
        if link == "logistic":
            values = np.log(values) - np.log1p(-values)
        elif link == "softmax":
            values = np.log(values)
    return LinearModel.constant(link, width, values)


def _logistic_column(job: _Job, column: int, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = (job.y(column) > 0).astype(int), job.targets.columns[column]
    if len(np.unique(y[train])) < 2:
        share = float(y[train].mean()) if len(train) else 0.5
        note = f"{name}: one class in training, constant prediction"
        return _constant("logistic", job, np.array([share]), note)

    def loss(probability: np.ndarray) -> float:
        chance = np.where(y[tuning] == 1, probability[:, 1], probability[:, 0])
        return -float(np.log(np.maximum(chance, 1e-15)).mean())

    best, model, scaler = _logistic(job, y, train, tuning, final, strengths, loss)
    offset = model.intercept_
    return Fitted.of(LinearModel.scaled("logistic", scaler, model.coef_.T, offset), (best,))


def _softmax_probe(job: _Job, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(0)
    y = job.y(0).astype(int)
    count = len(job.targets.classes)
    present = np.unique(y[train])
    if len(present) < 2:
        shares = np.bincount(y[train], minlength=count) / max(1, len(train))
        even = np.full(count, 1 / count)
        note = "one class in training, constant prediction"
        return _constant("softmax", job, shares if len(train) else even, note)

    def loss(probability: np.ndarray) -> float:
        chance = _spread(probability, present, count)[np.arange(len(tuning)), y[tuning]]
        return -float(np.log(np.maximum(chance, 1e-15)).mean())

    best, model, scaler = _logistic(job, y, train, tuning, final, strengths, loss)
    seen = np.unique(y[final])
    absent = [str(job.targets.classes[c]) for c in range(count) if c not in seen]
    notes = (f"no training row of: {', '.join(absent)}",) if absent else ()
    weights, offset = model.coef_.T, model.intercept_
    if len(seen) == 2:  # the log odds of the second class
        weights, offset = np.hstack([0 * weights, weights]), np.append(0.0, offset)
    all_weights, all_offsets = np.zeros((len(weights), count)), np.full(count, -np.inf)
    all_weights[:, seen], all_offsets[seen] = weights, offset
    found = LinearModel.scaled("softmax", scaler, all_weights, all_offsets)
    return Fitted.of(found, (best,), notes)


def _logistic(
    job: _Job,
    y: np.ndarray,
    train: np.ndarray,
    tuning: np.ndarray,
    final: np.ndarray,
    strengths: Sequence[float],
    loss: Callable[[np.ndarray], float],
) -> tuple[float, Any, Scaler]:
    """Walk the penalties from strong to weak; stop when tuning has worsened twice."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x = job.x
    scaler = job.scaling(x[train])
    inputs, checks = scaler(x[train]), scaler(x[tuning])
    solver = "newton-cholesky" if len(train) > 2 * x.shape[1] and x.shape[1] <= 1024 else "lbfgs"
    model = LogisticRegression(solver=solver, warm_start=True, max_iter=300)
    losses: list[float] = []
    with warnings.catch_warnings():
        # an unfinished fit is still scored on tuning, and there loses or wins on its merits
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        for strength in strengths if len(tuning) else ():
            model.set_params(C=1 / strength).fit(inputs, y[train])
            losses.append(loss(model.predict_proba(checks)))
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        best = strengths[int(np.argmin(losses))] if losses else _middle(strengths)
        scaler = job.scaling(x[final])
        last = LogisticRegression(solver=solver, C=1 / best, max_iter=1000)
        last.fit(scaler(x[final]), y[final])
    return best, last, scaler


def _ridge_column(job: _Job, column: int, strengths: Sequence[float] | None) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = job.y(column), job.targets.columns[column]
    if len(train) < 2 or np.ptp(y[train]) == 0:
        value = float(y[train].mean()) if len(train) else 0.0
        note = f"{name}: too little to fit, constant prediction"
        return _constant("value", job, np.array([value]), note)
    grid = strengths or RIDGE_STRENGTHS
    scaler = job.scaling(job.x[train])
    weights, offset = _ridge(scaler(job.x[train]), y[train], grid)
    if len(tuning):
        errors = (scaler(job.x[tuning]) @ weights + offset - y[tuning, None]) ** 2
        best = grid[int(np.argmin(errors.mean(axis=0)))]
    else:
        best = _middle(grid)
    scaler = job.scaling(job.x[final])
    solution, offset = _ridge(scaler(job.x[final]), y[final], [best])
    return Fitted.of(LinearModel.scaled("value", scaler, solution, offset), (best,))


def _ridge(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> tuple[np.ndarray, float]:
    """Weights (E, strengths) that minimise |y - Xw - b|² + strength * rows * |w|²."""
    offset = float(y.mean())
    if len(x) >= x.shape[1]:
        values, vectors = np.linalg.eigh(x.T @ x)
        projected = vectors.T @ (x.T @ (y - offset))
        shrunk = np.maximum(values, 0)[:, None] + np.array(strengths) * len(x)
        return vectors @ (projected[:, None] / shrunk), offset
    values, vectors = np.linalg.eigh(x @ x.T)
    projected = vectors.T @ (y - offset)
    shrunk = np.maximum(values, 0)[:, None] + np.array(strengths) * len(x)
    return x.T @ (vectors @ (projected[:, None] / shrunk)), offset


def _cox_probe(job: _Job, strengths: Sequence[float]) -> Fitted:
    model = cox_survival(
        job.x,
        job.targets,
        job.train,
        job.tuning,
        strengths=strengths,
        refit_on=job.final,
        scaling=job.scaling,
    )
    return Fitted.of(survival_arrays(model), model.chosen, model.notes)


def discrete_time_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Fit a discrete-time hazards model on frozen features; see `discrete_time_survival`.

    Raises:
        ConfigError: For a task that is not survival.
        LeakageError: As `linear_probe`.
    """
    require_survival(targets, "discrete_time")
    model = discrete_time_survival(
        features, targets, train, tuning, strengths=strengths, refit_on=refit_on
    )
    return Fitted.of(survival_arrays(model), model.chosen, model.notes)


def cox_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Fit a Cox model on frozen features: what `linear_probe` does for a survival task.

    Raises:
        ConfigError: For a task that is not survival.
        LeakageError: As `linear_probe`.
    """
    require_survival(targets, "cox")
    return linear_probe(features, targets, train, tuning, strengths=strengths, refit_on=refit_on)


def require_survival(targets: Targets, protocol: str) -> None:
    """Refuse a task that has no time to an event."""
    if targets.kind != "survival":
        raise ConfigError(
            f"the protocol '{protocol}' needs a survival task",
            where=f"task {targets.name}",
            got=targets.kind,
            mend="use the linear_probe protocol",
        )


def survival_arrays(fitted: Standardised) -> LinearModel:
    """Give a survival model behind its standardisation as one model of raw features."""
    model, scaler = fitted.model, fitted.scaler
    weights = model.weights[:, None]
    if isinstance(model, Cox):
        # the baseline is that of the training mean; risks count from standardised zero
        shifted = model.baseline.log_cumulative - float(model.mean @ model.weights)
        plain = LinearModel.scaled("cox", scaler, weights, 0.0)
        return replace(plain, times=model.baseline.times, curve=shifted)
    plain = LinearModel.scaled("discrete_time", scaler, weights, 0.0)
    return replace(plain, times=model.cuts, curve=model.intercepts)


def _spread(probability: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Probabilities of some classes as columns among all."""
    whole = np.zeros((len(probability), count))
    whole[:, labels] = probability
    return whole


def _middle(strengths: Sequence[float]) -> float:
    return strengths[len(strengths) // 2]
