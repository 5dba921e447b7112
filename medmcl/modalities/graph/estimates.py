"""Connectivity of regions from their time series: correlation, shrunk, or partial."""

from __future__ import annotations

from typing import Literal

import numpy as np

Estimate = Literal["pearson", "ledoit_wolf", "partial"]
FLAT = 1e-9  # of its size: a signal that varies less is constant but for rounding
LARGEST = 1 - 1e-6  # correlation whose Fisher z is still finite


def constant_columns(series: np.ndarray) -> np.ndarray:
    """Which columns of (T, R) do not vary, (R,) bool; NaN counts as varying, as does no row."""
    if not len(series):
        return np.zeros(series.shape[1], dtype=bool)
    with np.errstate(invalid="ignore"):
        spread = series.max(axis=0) - series.min(axis=0)
        return np.asarray(spread <= FLAT * np.abs(series).max(axis=0))


def connectivity(series: np.ndarray, estimate: Estimate) -> np.ndarray:
    """Give the connectivity of time series (T, R) that are finite and vary: (R, R), diagonal 1.

    ``pearson``: sample correlation. ``ledoit_wolf``: correlation of the covariance of the
    standardised series, shrunk towards a multiple of the identity. ``partial``: minus the inverse
    of that shrunk covariance, scaled to a unit diagonal with its sign turned: what two regions
    share beyond all others.

    Source:
        Ledoit & Wolf 2004, J Multivariate Anal 88:365-411, eq. 14; scikit-learn computes it.
    """
    centred = series - series.mean(axis=0)
    standard = centred / np.sqrt((centred**2).mean(axis=0))
    if estimate == "pearson":
        found = standard.T @ standard / len(standard)
    else:
        from sklearn.covariance import ledoit_wolf

        found = ledoit_wolf(standard, assume_centered=True)[0]
        found = found if estimate == "ledoit_wolf" else -np.linalg.inv(found)
    scale = np.sqrt(np.abs(np.diag(found)))
    found = np.clip((found + found.T) / 2 / np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def fisher_z(correlation: np.ndarray) -> np.ndarray:
    """Give artanh of correlations; those nearer to ±1 than 1e-6 count as ±(1 - 1e-6)."""
    return np.asarray(np.arctanh(np.clip(correlation, -LARGEST, LARGEST)))


def window_starts(length: int, width: int, count: int) -> list[int]:
    """First time points of ``count`` parts of ``width``, evenly spaced over ``length``."""
    if count == 1:
        return [(length - width) // 2]
    return [round(k * (length - width) / (count - 1)) for k in range(count)]
