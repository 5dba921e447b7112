"""Nearest neighbours among frozen embeddings: a probe that fits nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.geometry import unit
from medmcl.evaluation.metrics.survival.metric import integrated_brier_metric
from medmcl.evaluation.models.contract import Fitted, Model

NEIGHBOURS = (5, 10, 20, 50, 100, 200)
CELLS = 8_000_000  # similarities held at once: 64 MB
_Parts = list[np.ndarray]
"""Rows to look among while k is chosen, to choose it on, and to look among then (indices)."""
STEPS = 50  # times at which a curve is averaged to a risk


def knn(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    strengths: Sequence[float] | None = None,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Predict the mean outcome of the nearest train rows by cosine; k chosen on ``tuning``.

    Only neighbours whose outcome is known count, column by column; k is smaller than their number,
    since among all of them everyone has the same neighbours (half of it on very few). Embeddings
    are compared as they are, without standardisation. Of a survival task the prediction is the
    Kaplan-Meier curve of the neighbours, the risk its mean fall until the last event of the train
    rows, and k has the lowest integrated Brier score on ``tuning``.

    Args:
        features: (N, E).
        targets: The task.
        train: Rows to look among (indices).
        tuning: Rows to choose k on, by squared error (indices).
        strengths: Candidate numbers of neighbours.
        refit_on: Rows to look among once k is chosen; default ``train``.

    Raises:
        LeakageError: A row given is of `held_out`, where the targets know it.
    Source:
        Wu et al. 2018, arXiv 1805.01978 (kNN on embeddings); Lowsky et al. 2013, Stat Med
        32:2062-2069 (survival). Differs: neighbours count equally, and are near by cosine.
    """
    targets.refuse_leak("the rows that kNN looks among", train, refit_on)
    targets.refuse_leak("the choice of the number of neighbours", tuning)
    fit = _mean_outcome if targets.kind != "survival" else _survival
    x, final = np.asarray(features, dtype=np.float64), train if refit_on is None else refit_on
    parts: _Parts = [np.asarray(rows, dtype=np.int64) for rows in (train, tuning, final)]
    return fit(x, targets, parts, [int(k) for k in strengths or NEIGHBOURS])


def _mean_outcome(x: np.ndarray, targets: Targets, parts: _Parts, sizes: list[int]) -> Fitted:
    train, tuning, final = parts
    outcomes, known = one_hot(targets)
    sizes = _fewer(sizes, int(known[train].sum(axis=0).max(initial=0)))

    def mean(rows: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Mean outcome of the k nearest rows with a known outcome, (N, C)."""
        vectors, found = unit(x[rows]), np.zeros((len(queries), outcomes.shape[1]))
        step = max(1, CELLS // max(1, len(rows)))
        for column in range(outcomes.shape[1]):
            here = known[rows, column]
            for part, nearest in _nearest(queries, vectors[here], k, step):
                found[part, column] = outcomes[rows[here][nearest], column].mean(axis=1)
        return found

    losses = [
        float((((mean(train, x[tuning], k) - outcomes[tuning]) ** 2) * known[tuning]).sum())
        for k in sizes
    ]
    best = sizes[int(np.argmin(losses))] if len(tuning) else sizes[1 % len(sizes)]
    return Fitted(predict=lambda rows: mean(final, rows, best), chosen=(float(best),))


def _nearest(
    queries: np.ndarray, vectors: np.ndarray, k: int, step: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of queries, and for each query the places of the k nearest unit vectors, (N, k)."""
    size = min(k, len(vectors))
    for first in range(0, len(queries) if size else 0, step):
        part = slice(first, first + step)
        near = -(np.asarray(queries[part], dtype=np.float64) @ vectors.T)
        yield part, np.argpartition(near, size - 1, axis=1)[:, :size]


def _fewer(sizes: Sequence[int], rows: int) -> list[int]:
    """The numbers of neighbours that are not all rows, who would be everyone's; half if none is."""
    return [k for k in sizes if k < rows] or [max(1, rows // 2)]


def one_hot(targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes with one column a class for multiclass tasks, as they are otherwise."""
    if targets.kind != "multiclass":
        return targets.values, targets.known
    classes = np.arange(len(targets.classes))
    known = np.broadcast_to(targets.known, (len(targets.known), len(classes)))
    return (targets.values == classes).astype(np.float64) * known, known


def _survival(x: np.ndarray, targets: Targets, parts: _Parts, sizes: list[int]) -> Fitted:
    event, time, known = targets.event, targets.time, targets.complete
    train, tuning, final = (part[known[part]] for part in parts)
    sizes = _fewer(sizes, len(train))
    ends = time[train][event[train]]
    grid = np.linspace(0, ends.max(), STEPS + 1)[1:] if len(ends) and ends.max() > 0 else np.ones(1)

    def curves(rows: np.ndarray, queries: np.ndarray, k: int, times: np.ndarray) -> np.ndarray:
        """P(T > times) among the k nearest rows, (N, T)."""
        vectors, found = unit(x[rows]), np.ones((len(queries), len(times)))
        step = max(1, CELLS // max(1, len(rows), min(k, len(rows)) * len(times)))
        for part, nearest in _nearest(unit(queries), vectors, k, step):
            found[part] = _kaplan_meier(event[rows[nearest]], time[rows[nearest]], times)
        return found

    losses = [
        _loss(curves(train, x[tuning], k, grid), event[tuning], time[tuning], grid) for k in sizes
    ]
    notes = () if np.isfinite(losses).any() else ("k not tuned: tuning follow-up is too short",)
    best = sizes[int(np.argmin(losses))] if not notes else sizes[len(sizes) // 2]
    if not len(ends):
        notes = (*notes, "no event in training, constant risk")
    return Fitted(
        predict=lambda rows: 1 - curves(final, rows, best, grid).mean(axis=1, keepdims=True),
        chosen=(float(best),),
        notes=notes,
        survival=lambda rows, times: curves(final, rows, best, np.asarray(times, np.float64)),
        times=grid,
    )


def _loss(survival: np.ndarray, event: np.ndarray, time: np.ndarray, grid: np.ndarray) -> float:
    if len(time) == 0 or len(grid) < 2:
        return float("inf")
    score = integrated_brier_metric(grid)(event, time, survival)
    return score if isinstance(score, float) else float("inf")


def _kaplan_meier(event: np.ndarray, time: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The curve of each row's own sample (N, k), read at times: (N, T); flat after its last."""
    # events before censored rows of the same time; one by one they multiply to the tied factor
    order = np.lexsort((~event, time), axis=1)
    when, died = (np.take_along_axis(a, order, axis=1) for a in (time, event))
    at_risk = np.arange(time.shape[1], 0, -1)
    curve = np.cumprod(np.where(died, 1 - 1 / at_risk, 1.0), axis=1)
    padded = np.concatenate([np.ones((len(curve), 1)), curve], axis=1)
    passed = (when[:, None, :] <= times[None, :, None]).sum(axis=2)
    return np.take_along_axis(padded, passed, axis=1)


KNN = Model(fit=knn)
