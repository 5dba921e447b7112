"""Quantiles and medians of values that are sorted already."""

from __future__ import annotations

import numpy as np


def quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    """Give what `numpy.quantile` gives along the last axis, to the last bit.

    Sorting takes less time than the overhead of `numpy.quantile`, for arrays as small as ours.

    Args:
        ordered: (..., S) ascending, finite.
        share: In [0, 1].

    Returns:
        (...) float64.
    """
    place = share * (ordered.shape[-1] - 1)
    before = int(place)
    part = np.float64(place - before)
    low, high = ordered[..., before], ordered[..., min(before + 1, ordered.shape[-1] - 1)]
    between = low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
    return np.asarray(between, dtype=np.float64)


def median(ordered: np.ndarray) -> np.ndarray:
    """Give what `numpy.median` gives along the last axis, to the last bit.

    Args:
        ordered: (..., S) ascending, without NaN.

    Returns:
        (...) float64.
    """
    size = ordered.shape[-1]
    one, two = (ordered[..., n].astype(np.float64) for n in ((size - 1) // 2, size // 2))
    return np.asarray(one if size % 2 else (one + two) / 2)
