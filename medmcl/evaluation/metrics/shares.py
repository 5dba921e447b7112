"""Shares of rows that something holds of, drawn by subjects, with intervals that keep a width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medmcl.evaluation.metrics.metric import Metric
from medmcl.evaluation.metrics.proportions import wilson
from medmcl.evaluation.metrics.sampled import Interval, Sampled


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
    if found.value is None or found.low is None or found.low != found.high:
        return found
    low, high, said = found.low, found.high, "the same in every draw: an interval without width"
    if is_share and found.value in (0, 1):
        size = sampled.subjects if sampled.clusters is None else sampled.clusters
        (low, high), said = wilson(found.value, size, level), f"{alike}: Wilson interval"
    note = "; ".join(text for text in (found.note, said) if text)
    return replace(found, low=low, high=high, note=note)
