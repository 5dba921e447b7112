"""Shares of rows that something holds of, drawn by subjects, with intervals that keep a width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtri

from medmcl.evaluation.metrics.metric import Metric
from medmcl.evaluation.metrics.sampled import ALL_THE_SAME, Interval, Sampled


def share_metric(name: str, nothing: str, *, higher: bool = True) -> Metric:
    """Give the weighted share of rows that are 1; ``nothing``: why there is none without rows."""
    return Metric(
        name,
        "higher" if higher else "lower",
        lambda hits, weights: np.where(
            weights.sum(axis=0) > 0,
            hits @ weights / np.maximum(weights.sum(axis=0), 1e-300),
            np.nan,
        ),
        nothing,
    )


def share_interval(
    sampled: Sampled, level: float, *, is_share: bool = True, alike: str = "all rows alike"
) -> Interval:
    """Give the percentile interval; Wilson's of a share of 0 or 1, of which all draws are alike.

    Args:
        sampled: Points and draws.
        level: Coverage aimed at.
        is_share: Not so of a difference between two shares.
        alike: How the note says that every row is the same.
    """
    found = sampled.interval(level)
    if not is_share or found.value not in (0, 1) or ALL_THE_SAME not in found.note:
        return found
    size = sampled.subjects if sampled.clusters is None else sampled.clusters
    low, high = wilson(found.value, size, level)
    note = found.note.replace(ALL_THE_SAME, f"{alike}: Wilson interval")
    return replace(found, low=low, high=high, note=note)


def effective_size(y: np.ndarray, codes: np.ndarray) -> float:
    """Rows over the design effect of clustering, at most the rows.

    Args:
        y: What the share is of, 0 or 1, (N,) with N >= 1.
        codes: Subject of each row, (N,).
    """
    _, inverse = np.unique(codes, return_inverse=True)
    sums = np.bincount(inverse.reshape(-1), y - y.mean())
    size, clusters, spread = len(y), len(sums), float(y.var())
    if clusters in (1, size) or spread == 0:
        return float(clusters)
    between = float((sums**2).sum()) * clusters / (clusters - 1) / size**2
    return size / max(1.0, between / (spread / size))


def wilson(share: float, size: float, level: float) -> tuple[float, float]:
    """Interval of a share, 0 to 1, of ``size`` independent rows.

    Source:
        Wilson 1927.
    """
    z2 = float(ndtri((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = np.sqrt(z2 * share * (1 - share) / size + (z2 / (2 * size)) ** 2) / (1 + z2 / size)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
