"""Heart beats of an ECG: where they are, and the median beat of those that look alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.modalities.ecg.complexes import ALIKE, BEAT_HZ, find_complexes
from medmcl.modalities.ecg.template import align, windows
from medmcl.modalities.ordered import middle

BEFORE_SECONDS, AFTER_SECONDS = 0.42, 0.56
"""What a beat spans round its centre: a P wave after a long delay, and a late T wave."""
CENTRE = round(BEFORE_SECONDS * BEAT_HZ)
"""Sample of the centre of the QRS in a median beat."""


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Beats of one record.

    Attributes:
        peaks: Sample of each beat's centre, ascending. (K,) int64
        alike: Whether a beat has the shape of the median one. (K,) bool
        median: Median of the whole beats that are alike, (L, W); None if there are fewer than two.
        noise: Standard error of each lead of the median, (L,).
    """

    peaks: np.ndarray
    alike: np.ndarray
    median: np.ndarray | None
    noise: np.ndarray

    @property
    def intervals(self) -> np.ndarray:
        """Seconds between neighbours, (K - 1,)."""
        return np.diff(self.peaks) / BEAT_HZ


def find_beats(rows: np.ndarray) -> Beats:
    """Find the beats of all leads together: complexes, moved to fit the median beat.

    Args:
        rows: Leads in mV at `BEAT_HZ`, free of baseline, finite, (L, S).
    """
    empty = Beats(
        peaks=np.zeros(0, np.int64),
        alike=np.zeros(0, bool),
        median=None,
        noise=np.zeros(len(rows)),
    )
    if rows.shape[1] < BEAT_HZ:
        return empty
    peaks = find_complexes(rows)
    if len(peaks) < 2:
        return empty if len(peaks) == 0 else _lonely(empty, peaks)
    peaks, fit = align(rows, peaks)
    return _median(rows, peaks, fit > ALIKE)


def _lonely(empty: Beats, peaks: np.ndarray) -> Beats:
    return Beats(peaks=peaks, alike=np.ones(1, bool), median=None, noise=empty.noise)


def _median(rows: np.ndarray, peaks: np.ndarray, alike: np.ndarray) -> Beats:
    after = round(AFTER_SECONDS * BEAT_HZ)
    whole = (peaks >= CENTRE) & (peaks + after < rows.shape[1]) & alike
    median, noise = None, np.zeros(len(rows))
    if whole.sum() >= 2:
        beats = windows(rows, peaks[whole] - CENTRE, CENTRE + after + 1)
        median = middle(beats)
        apart = np.abs(beats - median).transpose(1, 0, 2).reshape(len(rows), -1)
        places = ((apart.shape[1] - 1) // 2, apart.shape[1] // 2)
        off = np.partition(apart, places, axis=1)[:, places].mean(axis=1)
        noise = 1.48 * 1.25 * off / np.sqrt(len(beats))  # of a median; MAD to deviation
    return Beats(peaks=peaks, alike=alike, median=median, noise=noise)
