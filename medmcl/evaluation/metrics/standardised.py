"""Standardised mean differences: how far two groups differ, whatever their size."""

from __future__ import annotations

import numpy as np


def smd_moments(a: tuple[float, float], b: tuple[float, float]) -> float | None:
    """Give the gap of two means over the root of the mean variance; 0 is best.

    Args:
        a: Mean and variance (n - 1) of one group of two people or more.
        b: Those of the other.

    Returns:
        None where both are constant and differ.
    Source:
        Austin 2009, Stat Med 28:3083-3107. Differs: none.
    """
    gap = abs(float(a[0] - b[0]))
    spread = float(np.sqrt((a[1] + b[1]) / 2))
    if spread <= 1e-12 * max(1.0, abs(float(a[0]))):
        return 0.0 if gap <= spread else None
    return gap / spread


def smd_categories(a: np.ndarray, b: np.ndarray) -> float | None:
    """Give the Mahalanobis distance of the shares of levels; 0 is best.

    With two levels it is |p - q| over the root of the mean of p (1 - p) and q (1 - q).

    Args:
        a: Counts of each level in one group. (K,)
        b: Counts in the other. (K,)

    Returns:
        None for an empty group, or where a level separates the groups wholly.
    Source:
        Yang & Dalton 2012, SAS Global Forum paper 335. Differs: levels that neither group has are
        left out.
    """
    if a.sum() == 0 or b.sum() == 0:
        return None
    some = (a + b) > 0
    p, q = a[some] / a.sum(), b[some] / b.sum()
    if len(p) == 1:
        return 0.0
    gap = (p - q)[1:]
    covariance = sum((np.diag(x) - np.outer(x, x))[1:, 1:] / 2 for x in (p, q))
    if np.linalg.matrix_rank(covariance) < len(gap):
        return 0.0 if np.allclose(gap, 0) else None
    return float(np.sqrt(max(0.0, gap @ np.linalg.solve(covariance, gap))))
