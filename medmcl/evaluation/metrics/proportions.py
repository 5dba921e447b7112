"""Shares of rows with their intervals; rows of one subject are not independent."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


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
