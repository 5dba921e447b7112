"""Whether another stage is worth its time: what a stage adds to those before it."""

from __future__ import annotations

import numpy as np

_LOOKED_AT = 4000
_RIDGE = 1e-2


def share_below(labels: np.ndarray, smallest: int) -> float:
    """Give the share of rows that lie in groups of fewer than ``smallest`` rows, 0 to 1."""
    _, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return float((sizes[own] < smallest).mean())


def added(new: np.ndarray, before: np.ndarray, seed: int) -> float:
    """Give the share of a stage's embedding that no linear map of earlier ones gives.

    A ridge regression is fitted on half of at most 4,000 rows and judged on the other half.

    Args:
        new: Embeddings of the stage, (N, D).
        before: Those of the stages before it, side by side, (N, E).
        seed: Of the halves.

    Returns:
        1 - R squared over all columns together, cut to 0 and 1: 0 = the stage adds nothing that is
        not there already, 1 = it has nothing in common with them.
    """
    order = np.random.default_rng(seed).permutation(len(new))[:_LOOKED_AT]
    fit, judge = order[: len(order) // 2], order[len(order) // 2 :]
    x = (before - before[fit].mean(axis=0)) / np.maximum(before[fit].std(axis=0), 1e-8)
    y = new - new[fit].mean(axis=0)
    gram = x[fit].T @ x[fit] + _RIDGE * len(fit) * np.eye(x.shape[1])
    left = y[judge] - x[judge] @ np.linalg.solve(gram, x[fit].T @ y[fit])
    total = float((y[judge] ** 2).sum())
    return float(np.clip((left**2).sum() / total, 0.0, 1.0)) if total > 0 else 0.0
