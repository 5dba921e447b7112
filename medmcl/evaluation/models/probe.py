"""Probes: simple predictors on frozen embeddings.

A probe sees train rows to fit and tuning rows to choose its one setting; where the targets know
the split of their rows, those of `held_out` are refused. Features are standardised with train
statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import log_expit, log_softmax

from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted, Model
from medmcl.evaluation.models.linear_model import LinearModel, Link
from medmcl.evaluation.models.logistic import Logistic, LogisticPath
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.scaling import Rotation, Scaler, Scaling
from medmcl.evaluation.models.strength import (
    STRENGTHS,
    choice_notes,
    chosen_strength,
    deciding_cases,
    prior_loss,
)
from medmcl.evaluation.models.survival_models import Walk, cox_probe, cox_walk

LEAST = float(np.log(1e-15))  # log probability that a loss counts at the least


@one_blas_thread()
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
    log partial likelihood), from strong to weak; where fewer than `strength.ENOUGH` cases decide,
    what they say is weighed against the middle of the grid.

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
    return _fitted(job, strengths)


def linear_walk(
    features: np.ndarray, targets: Targets, train: np.ndarray, *, scaling: Scaling = Scaler.of
) -> Walk:
    """Give the linear probe of some rows under one strength after another.

    Rows are standardised and turned once, and each fit begins where the last ended: from strong to
    weak. Arguments as of `linear_probe`.

    Raises:
        LeakageError: A row given is of `held_out`, where the targets know it.
    """
    if targets.kind == "survival":
        return cox_walk(features, targets, train, scaling=scaling)
    targets.refuse_leak("a probe and its standardisation", train)
    x, train = np.asarray(features, dtype=np.float64), np.asarray(train)
    job = _Job(x, targets, train, train[:0], train, scaling)
    return lambda strength: _fitted(job, [strength]).predict


def _fitted(job: _Job, strengths: Sequence[float] | None) -> Fitted:
    kind, columns = job.targets.kind, range(job.targets.values.shape[1])
    choices = strengths or STRENGTHS[kind]
    if kind == "multiclass":
        return _softmax_probe(job, choices)
    if kind == "survival":
        return cox_probe(
            job.x,
            job.targets,
            job.train,
            job.tuning,
            strengths=choices,
            refit_on=job.final,
            scaling=job.scaling,
        )
    fit = _ridge_column if kind == "regression" else _logistic_column
    return stack([fit(job, column, choices) for column in columns])


@dataclass(frozen=True)
class _Job:
    """Rows of one fit; the rows of a column are those where it is known."""

    x: np.ndarray
    targets: Targets
    train: np.ndarray
    tuning: np.ndarray
    final: np.ndarray
    scaling: Scaling
    designs: dict[bytes, tuple[Scaler, Rotation]] = field(default_factory=dict)
    paths: dict[tuple[bytes, int], LogisticPath] = field(default_factory=dict)
    ridges: dict[tuple[bytes, int], tuple[Scaler, Ridges]] = field(default_factory=dict)

    def design(self, rows: np.ndarray) -> tuple[Scaler, Rotation]:
        """Standardise and turn rows; once for all columns that are known for the same rows."""
        key = rows.tobytes()
        if key not in self.designs:
            scaler = self.scaling(self.x[rows])
            self.designs[key] = scaler, Rotation.of(scaler(self.x[rows]))
        return self.designs[key]

    def path(self, rows: np.ndarray, column: int, codes: np.ndarray) -> LogisticPath:
        """Logistic fits of rows to the classes of a column; one path, however often asked for."""
        key = rows.tobytes(), column
        if key not in self.paths:
            self.paths[key] = LogisticPath(self.design(rows)[1], codes)
        return self.paths[key]

    def ridge(self, rows: np.ndarray, column: int) -> tuple[Scaler, Ridges]:
        """Ridge regressions of a column on rows, decomposed once."""
        key = rows.tobytes(), column
        if key not in self.ridges:
            scaler = self.scaling(self.x[rows])
            self.ridges[key] = scaler, _ridges(scaler(self.x[rows]), self.y(column)[rows])
        return self.ridges[key]

    def rows(self, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        known = self.targets.known[:, column]
        return tuple(rows[known[rows]] for rows in (self.train, self.tuning, self.final))

    def y(self, column: int) -> np.ndarray:
        return np.asarray(self.targets.values[:, column])


def stack(parts: Sequence[Fitted]) -> Fitted:
    """Join predictors of single columns."""
    models = [part.linear for part in parts if part.linear is not None]
    return Fitted.of(
        LinearModel(
            link=models[0].link,
            weights=np.concatenate([one.weights for one in models], axis=1),
            offset=np.concatenate([one.offset for one in models]),
        ),
        chosen=tuple(value for part in parts for value in part.chosen),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _constant(link: Link, job: _Job, values: np.ndarray, note: str) -> Fitted:
    return Fitted.of(LinearModel.constant(link, job.x.shape[1], values), notes=(note,))


def _logistic_column(job: _Job, column: int, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = (job.y(column) > 0).astype(int), job.targets.columns[column]
    if len(np.unique(y[train])) < 2:
        share = float(y[train].mean()) if len(train) else 0.5
        note = f"{name}: one class in training, constant prediction"
        return _constant("logistic", job, np.array([share]), note)
    signs = np.where(y[tuning] == 1, 1.0, -1.0)

    def loss(scores: np.ndarray) -> float:
        return float(-np.maximum(log_expit(signs * scores[:, 0]), LEAST).sum())

    best, fit, scaler = _logistic(job, column, y, (train, tuning, final), strengths, loss)
    model = LinearModel.scaled("logistic", scaler, fit.weights, fit.offset)
    said = _chosen_notes(job, best, strengths, y[tuning], name)
    return Fitted.of(model, (best,), (*_unfinished(fit, f"{name}: "), *said))


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

    def loss(scores: np.ndarray) -> float:
        scores = scores if len(present) > 2 else np.hstack([0 * scores, scores])
        whole = np.full((len(tuning), count), -np.inf)
        whole[:, present] = log_softmax(scores, axis=1)
        return float(-np.maximum(whole[np.arange(len(tuning)), y[tuning]], LEAST).sum())

    best, fit, scaler = _logistic(job, 0, y, (train, tuning, final), strengths, loss)
    seen = np.unique(y[final])
    absent = [str(job.targets.classes[c]) for c in range(count) if c not in seen]
    notes = [f"no training row of: {', '.join(absent)}"] if absent else []
    weights, offset = fit.weights, fit.offset
    if len(seen) == 2:  # the log odds of the second class
        weights, offset = np.hstack([0 * weights, weights]), np.append(0.0, offset)
    all_weights, all_offsets = np.zeros((len(weights), count)), np.full(count, -np.inf)
    all_weights[:, seen], all_offsets[seen] = weights, offset
    found = LinearModel.scaled("softmax", scaler, all_weights, all_offsets)
    notes += [*_unfinished(fit), *_chosen_notes(job, best, strengths, y[tuning])]
    return Fitted.of(found, (best,), tuple(notes))


def _unfinished(fit: Logistic, name: str = "") -> tuple[str, ...]:
    return () if fit.converged else (f"{name}logistic fit did not converge",)


def _logistic(
    job: _Job,
    column: int,
    classes: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    strengths: Sequence[float],
    loss: Callable[[np.ndarray], float],
) -> tuple[float, Logistic, Scaler]:
    """Choose a penalty by `chosen_strength`, and fit it.

    ``loss`` judges the scores of tuning rows, summed. The fit to the final rows starts at the best.
    """
    train, tuning, final = rows
    scaler, _ = job.design(train)
    seen, codes = np.unique(classes[train], return_inverse=True)
    path = job.path(train, column, codes)
    checks = scaler(job.x[tuning])
    fits: list[Logistic] = []

    def lost(strength: float) -> float:
        fits.append(path.fit(strength))
        return loss(fits[-1].scores(checks))

    where = len(strengths) // 2
    if len(tuning):
        where = chosen_strength(strengths, lost, deciding_cases(job.targets.kind, classes[tuning]))
    best = strengths[where]
    if np.array_equal(train, final):
        return best, fits[where] if fits else path.fit(best), scaler
    scaler, rotation = job.design(final)
    present, codes = np.unique(classes[final], return_inverse=True)
    path = LogisticPath(rotation, codes)
    if fits and np.array_equal(seen, present):
        path.begin(fits[where])
    return best, path.fit(best), scaler


def _chosen_notes(
    job: _Job, best: float, strengths: Sequence[float], tuning: np.ndarray, name: str = ""
) -> tuple[str, ...]:
    """What a reader must know of a choice by these outcomes of tuning rows."""
    name = name if len(job.targets.columns) > 1 else ""
    return choice_notes(best, strengths, deciding_cases(job.targets.kind, tuning), name)


def _ridge_column(job: _Job, column: int, strengths: Sequence[float]) -> Fitted:
    train, tuning, final = job.rows(column)
    y, name = job.y(column), job.targets.columns[column]
    if len(train) < 2 or np.ptp(y[train]) == 0:
        value = float(y[train].mean()) if len(train) else 0.0
        note = f"{name}: too little to fit, constant prediction"
        return _constant("value", job, np.array([value]), note)
    best = strengths[len(strengths) // 2]
    if len(tuning):
        scaler, ridges = job.ridge(train, column)
        weights, offset = ridges(strengths)
        errors = (scaler(job.x[tuning]) @ weights + offset - y[tuning, None]) ** 2
        losses = 0.5 * len(tuning) * np.log(np.maximum(errors.mean(axis=0), np.finfo(float).tiny))
        best = strengths[int(np.argmin(losses + prior_loss(strengths, len(tuning))))]
    scaler, ridges = job.ridge(final, column)
    solution, offset = ridges([best])
    said = _chosen_notes(job, best, strengths, y[tuning], name)
    return Fitted.of(LinearModel.scaled("value", scaler, solution, offset), (best,), said)


Ridges = Callable[[Sequence[float]], tuple[np.ndarray, float]]
"""Weights (E, strengths) that minimise |y - Xw - b|² + strength * rows * |w|², and b."""


def _ridges(x: np.ndarray, y: np.ndarray) -> Ridges:
    offset, is_tall = float(y.mean()), len(x) >= x.shape[1]
    values, vectors = np.linalg.eigh(x.T @ x if is_tall else x @ x.T)
    projected = vectors.T @ (x.T @ (y - offset) if is_tall else y - offset)

    def at(strengths: Sequence[float]) -> tuple[np.ndarray, float]:
        shrunk = np.maximum(values, 0)[:, None] + np.array(strengths) * len(x)
        found = vectors @ (projected[:, None] / shrunk)
        return found if is_tall else x.T @ found, offset

    return at


LINEAR_PROBE = Model(fit=linear_probe)
