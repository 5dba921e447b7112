"""Probes: simple predictors on frozen embeddings, the same for every method.

A probe sees train rows to fit and tuning rows to choose its one setting; rows of `held_out` are not
among its arguments, so they cannot influence it. Features are standardised with train statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.cox import cox_fit, cox_loss

LOGISTIC_STRENGTHS = tuple(10.0**power for power in range(5, -2, -1))  # 1 / C of scikit-learn
RIDGE_STRENGTHS = tuple(10.0 ** (power / 2) for power in range(8, -9, -1))  # times train rows
COX_STRENGTHS = tuple(10.0**power for power in range(5, -2, -1))  # against the summed likelihood


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted predictor.

    Attributes:
        predict: Features (N, E) to (N, C): probabilities (binary, multilabel, multiclass), values
            (regression) or a log hazard (survival); higher = more, or earlier.
        chosen: The setting chosen on tuning, one a column (or one for all).
        notes: What a reader must know: constant predictions, settings at the edge of the grid.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    chosen: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scaler:
    """Mean and scale of train rows; a feature that does not vary keeps scale one."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scaler:
        """Learn from train rows, (N, E)."""
        mean = features.mean(axis=0)
        spread = features.std(axis=0)
        flat = spread <= 1e-8 * np.maximum(1e-12, np.abs(mean))
        return cls(mean, np.where(flat, 1.0, spread))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise, (N, E)."""
        return (np.asarray(features, dtype=np.float64) - self.mean) / self.scale


def linear_probe(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
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
    Source:
        Alain & Bengio 2016, arXiv 1610.01644 (linear probes). Differs: penalty chosen on tuning.
    """
    x = np.asarray(features, dtype=np.float64)
    final = train if refit_on is None else refit_on
    job = _Job(x, targets, np.asarray(train), np.asarray(tuning), np.asarray(final))
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

    def rows(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = self.targets.known[:, column]
        return tuple(rows[known[rows]] for rows in (self.train, self.tuning, self.final))

    def y(self, column: int) -> np.ndarray:
        return np.asarray(self.targets.values[:, column])


def _stack(parts: Sequence[Fitted]) -> Fitted:
    """Join predictors of single columns."""
    return Fitted(
        predict=lambda rows: np.column_stack([part.predict(rows)[:, 0] for part in parts]),
        chosen=tuple(value for part in parts for value in part.chosen),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _constant(values: np.ndarray, note: str) -> Fitted:
    return Fitted(
        predict=lambda rows: np.repeat(np.atleast_2d(values), len(rows), axis=0), notes=(note,)
    )


def _logistic_column(job: _Job, column: int, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = (job.y(column) > 0).astype(int), job.targets.columns[column]
    if len(np.unique(y[train])) < 2:
        share = float(y[train].mean()) if len(train) else 0.5
        return _constant(np.array([share]), f"{name}: one class in training, constant prediction")

    def loss(probability: np.ndarray) -> float:
        chance = np.where(y[tuning] == 1, probability[:, 1], probability[:, 0])
        return -float(np.log(np.maximum(chance, 1e-15)).mean())

    best, model, scaler = _logistic(job.x, y, train, tuning, final, strengths, loss)
    return Fitted(predict=lambda rows: model(scaler(rows))[:, 1:], chosen=(best,))


def _softmax_probe(job: _Job, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(0)
    y = job.y(0).astype(int)
    count = len(job.targets.classes)
    present = np.unique(y[train])
    if len(present) < 2:
        shares = np.bincount(y[train], minlength=count) / max(1, len(train))
        even = np.full(count, 1 / count)
        return _constant(
            shares if len(train) else even, "one class in training, constant prediction"
        )

    def spread(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(probability), count))
        whole[:, labels] = probability
        return whole

    def loss(probability: np.ndarray) -> float:
        chance = spread(probability, present)[np.arange(len(tuning)), y[tuning]]
        return -float(np.log(np.maximum(chance, 1e-15)).mean())

    best, model, scaler = _logistic(job.x, y, train, tuning, final, strengths, loss)
    seen = np.unique(y[final])
    absent = [str(job.targets.classes[c]) for c in range(count) if c not in seen]
    notes = (f"no training row of: {', '.join(absent)}",) if absent else ()
    return Fitted(
        predict=lambda rows: spread(model(scaler(rows)), seen), chosen=(best,), notes=notes
    )


def _logistic(
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    tuning: np.ndarray,
    final: np.ndarray,
    strengths: Sequence[float],
    loss: Callable[[np.ndarray], float],
) -> tuple[float, Callable[[np.ndarray], np.ndarray], Scaler]:
    """Walk the penalties from strong to weak; stop when tuning has worsened twice."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaler = Scaler.of(x[train])
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
        scaler = Scaler.of(x[final])
        last = LogisticRegression(solver=solver, C=1 / best, max_iter=1000)
        last.fit(scaler(x[final]), y[final])
    return best, last.predict_proba, scaler


def _ridge_column(job: _Job, column: int, strengths: Sequence[float] | None) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = job.y(column), job.targets.columns[column]
    if len(train) < 2 or np.ptp(y[train]) == 0:
        value = float(y[train].mean()) if len(train) else 0.0
        return _constant(np.array([value]), f"{name}: too little to fit, constant prediction")
    grid = strengths or RIDGE_STRENGTHS
    scaler = Scaler.of(job.x[train])
    weights, offset = _ridge(scaler(job.x[train]), y[train], grid)
    if len(tuning):
        errors = (scaler(job.x[tuning]) @ weights + offset - y[tuning, None]) ** 2
        best = grid[int(np.argmin(errors.mean(axis=0)))]
    else:
        best = _middle(grid)
    scaler = Scaler.of(job.x[final])
    solution, offset = _ridge(scaler(job.x[final]), y[final], [best])
    return Fitted(predict=lambda rows: scaler(rows) @ solution + offset, chosen=(best,))


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
    rows = job.targets.complete
    train, tuning, final = (part[rows[part]] for part in (job.train, job.tuning, job.final))
    time = job.y(job.targets.columns.index("time"))
    event = job.y(job.targets.columns.index("event")) > 0
    if not event[train].any():
        return _constant(np.array([0.0]), "no event in training, constant risk")
    scaler = Scaler.of(job.x[train])
    inputs, checks = scaler(job.x[train]), scaler(job.x[tuning])
    losses: list[float] = []
    weights = np.zeros(job.x.shape[1])
    for strength in strengths if event[tuning].any() else ():
        weights, _ = cox_fit(
            inputs, event[train], time[train], ridge=strength, start=weights, max_steps=20
        )
        losses.append(cox_loss(weights, checks, event[tuning], time[tuning]))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    best = strengths[int(np.argmin(losses))] if losses else _middle(strengths)
    scaler = Scaler.of(job.x[final])
    solution, converged = cox_fit(scaler(job.x[final]), event[final], time[final], ridge=best)
    notes = [] if losses else ["no event in tuning: penalty not tuned"]
    notes += [] if converged else ["Cox fit did not converge"]
    return Fitted(
        predict=lambda x: (scaler(x) @ solution)[:, None], chosen=(best,), notes=tuple(notes)
    )


def _middle(strengths: Sequence[float]) -> float:
    return strengths[len(strengths) // 2]
