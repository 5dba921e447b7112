"""Survival among nearest neighbours: the Kaplan-Meier curve of the most similar train rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.survival.metric import integrated_brier_metric
from medmcl.evaluation.models.contract import Fitted

CELLS = 8_000_000  # similarities held at once: 64 MB
STEPS = 50  # times at which a curve is averaged to a risk


@dataclass(frozen=True)
class _Memory:
    """Unit vectors and outcomes that neighbours are looked for among."""

    unit: np.ndarray
    event: np.ndarray
    time: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, event: np.ndarray, time: np.ndarray) -> _Memory:
        return cls(_unit(x), event, time)

    def survival(self, queries: np.ndarray, k: int, times: np.ndarray) -> np.ndarray:
        """P(T > times) among the k nearest, (N, T)."""
        size, found = min(k, len(self.unit)), np.ones((len(queries), len(times)))
        if size == 0:
            return found
        step = max(1, CELLS // max(len(self.unit), size * len(times)))
        for first in range(0, len(queries), step):
            near = -(_unit(queries[first : first + step]) @ self.unit.T)
            nearest = np.argpartition(near, size - 1, axis=1)[:, :size]
            found[first : first + step] = _kaplan_meier(
                self.event[nearest], self.time[nearest], times
            )
        return found


def survival_neighbours(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    final: np.ndarray,
    sizes: Sequence[int],
) -> Fitted:
    """Predict the Kaplan-Meier curve of the nearest rows by cosine; see `knn`.

    Args:
        features: (N, E).
        targets: A survival task over the same rows.
        train: Rows to look among while k is chosen (indices).
        tuning: Rows to choose k on (indices).
        final: Rows to look among once it is chosen (indices).
        sizes: Candidate numbers of neighbours.
    Source:
        Lowsky et al. 2013, Stat Med 32:2062-2069 (k-nearest-neighbour survival). Differs: cosine,
        neighbours count equally.
    """
    x = np.asarray(features, dtype=np.float64)
    time = targets.values[:, targets.columns.index("time")]
    event = targets.values[:, targets.columns.index("event")] > 0
    known = targets.complete
    train, tuning, final = (
        part[known[part]] for part in (np.asarray(r, np.int64) for r in (train, tuning, final))
    )
    ends = time[train][event[train]]
    grid = np.linspace(0, ends.max(), STEPS + 1)[1:] if len(ends) and ends.max() > 0 else np.ones(1)
    memory = _Memory.of(x[train], event[train], time[train])
    losses = [
        _loss(memory.survival(x[tuning], k, grid), event[tuning], time[tuning], grid) for k in sizes
    ]
    notes = () if np.isfinite(losses).any() else ("k not tuned: tuning follow-up is too short",)
    best = sizes[int(np.argmin(losses))] if not notes else sizes[len(sizes) // 2]
    if not len(ends):
        notes = (*notes, "no event in training, constant risk")
    memory = _Memory.of(x[final], event[final], time[final])

    def predict(rows: np.ndarray) -> np.ndarray:
        return 1 - memory.survival(rows, best, grid).mean(axis=1, keepdims=True)

    def survival(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return memory.survival(rows, best, np.asarray(times, dtype=np.float64))

    return Fitted(
        predict=predict, chosen=(float(best),), notes=notes, survival=survival, times=grid
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


def _unit(x: np.ndarray) -> np.ndarray:
    rows = np.asarray(x, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
