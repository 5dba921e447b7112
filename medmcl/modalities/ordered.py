"""Quantiles and medians: of values that are sorted already, or of few arrays."""

from __future__ import annotations

from functools import cache

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


def percentiles(values: np.ndarray, wanted: tuple[float, ...]) -> list[np.ndarray]:
    """Give what sorting all values gives, to the last bit, in a quarter of the time.

    Args:
        values: Any shape, finite.
        wanted: In [0, 100].
    """
    last = values.size - 1
    before = [int(percentile / 100 * last) for percentile in wanted]
    places = sorted({min(place + step, last) for place in before for step in (0, 1)})
    ordered = np.partition(values, places, axis=None)
    return [quantile(ordered, percentile / 100) for percentile in wanted]


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


def middle(arrays: np.ndarray) -> np.ndarray:
    """Give what `numpy.median` gives along the first axis, to the last bit, for a few long arrays.

    All places are sorted together by one network of minima and maxima.

    Args:
        arrays: (K, ...) float64, finite, K >= 1.

    Returns:
        (...) float64.
    Source:
        Batcher 1968, AFIPS 32:307 (merge exchange), as Knuth, The Art of Computer Programming 3,
        5.2.2 algorithm M. Differs: none.
    """
    rows, size = list(np.array(arrays, dtype=np.float64)), len(arrays)
    for low, high in _network(size):
        least = np.minimum(rows[low], rows[high])
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low] = least
    one, two = rows[(size - 1) // 2], rows[size // 2]
    return np.asarray(one if size % 2 else (one + two) / 2)


@cache
def _network(size: int) -> tuple[tuple[int, int], ...]:
    """Pairs to compare in turn, lower place first."""
    pairs = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    step = top
    while size > 1 and step > 0:
        far, rest, gap = top, 0, step
        while True:
            pairs += [(i, i + gap) for i in range(size - gap) if i & step == rest]
            if far == step:
                break
            gap, far, rest = far - step, far >> 1, step
        step >>= 1
    return tuple(pairs)
