"""Pieces of an ECG round its beats, and how well they fit a template at each lag."""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ordered import middle

MOST_SHIFT = 20
"""Samples that centres move at most to fit a template: 40 ms at 500 Hz."""
HALF = 35
"""Samples of half of what is fitted: 70 ms."""


def align(rows: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move centres to where the QRS fits the median QRS best.

    Args:
        rows: Leads, (L, S).
        peaks: Centres of beats, (K,).

    Returns:
        Centres, and correlation with the median QRS, (K,) each.
    """
    margin = HALF + MOST_SHIFT
    padded = np.pad(rows, ((0, 0), (margin, margin)), mode="edge")
    fit = np.ones(len(peaks))
    for _ in range(2):
        wide = windows(padded, peaks, 2 * margin + 1)  # (K, L, 2 margin + 1)
        template = middle(wide[:, :, MOST_SHIFT:-MOST_SHIFT])
        scores = likeness(wide, template - template.mean(axis=1, keepdims=True))
        best = scores.argmax(axis=1)
        fit = scores[np.arange(len(peaks)), best]
        peaks = np.clip(peaks + best - MOST_SHIFT, 0, rows.shape[1] - 1)
    return peaks, fit


def windows(rows: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Cut windows of leads (L, S) that begin at ``starts``, (K, L, width)."""
    views = np.lib.stride_tricks.sliding_window_view(rows, width, axis=1)
    return np.asarray(views[:, starts].transpose(1, 0, 2))


def likeness(wide: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Correlation of each beat with the template at each lag, over leads together, (K, lags).

    Args:
        wide: Beats with a margin for the lags, (K, L, W + lags - 1).
        template: Mean zero in each lead, (L, W).
    """
    width = template.shape[1]
    products = slide(wide, template)
    lags = products.shape[1]
    sums = np.zeros((2, *wide.shape[:2], wide.shape[2] + 1))
    np.cumsum(wide, axis=2, out=sums[0, :, :, 1:])
    np.cumsum(wide**2, axis=2, out=sums[1, :, :, 1:])
    first, second = sums[..., width:] - sums[..., :lags]
    energy = np.maximum((second - first**2 / width).sum(axis=1), 0)
    return np.asarray(products / np.maximum(np.sqrt(energy * (template**2).sum()), 1e-12))


def slide(wide: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Inner product of each beat (K, L, W + lags - 1) with the template (L, W), (K, lags)."""
    beats, leads, long = wide.shape
    lags = long - template.shape[1] + 1
    padded = np.pad(template, ((0, 0), (lags - 1, lags - 1)))
    moved = np.lib.stride_tricks.sliding_window_view(padded, lags, axis=1)[:, :, ::-1]
    return np.asarray(wide.reshape(beats, leads * long) @ moved.reshape(leads * long, lags))
