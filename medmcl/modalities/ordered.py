"""Quantiles of values that are sorted already."""

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
