"""Where the QRS complexes of an ECG are, also where noise is as steep as they are."""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ecg.curves import (
    AT_MOST,
    BEAT_HZ,
    COMPLEX_SECONDS,
    STEEP_HZ,
    band_of,
    peaks_of,
    smooth,
    stands_out,
    usual_size,
)
from medmcl.modalities.ecg.matched import among_noise
from medmcl.modalities.ecg.template import align

__all__ = ["ALIKE", "BEAT_HZ", "find_complexes"]

ALIKE = 0.7
"""Correlation with the median QRS of beats of one shape."""


def find_complexes(rows: np.ndarray) -> np.ndarray:
    """Find the complexes of all leads together.

    Steepness between 5 and 25 Hz, each lead by its own scale, is averaged over leads and over the
    width of a QRS; its peaks are complexes if each stands out from the rest of the second round it
    or looks like the others. Otherwise there is noise, and `matched.among_noise` finds them.

    Args:
        rows: Leads at `BEAT_HZ`, free of baseline, finite, (L, S).

    Returns:
        Centres in samples, ascending, (K,) int64.

    Source:
        Pan & Tompkins 1985, IEEE Trans Biomed Eng 32:230 (steepness in a band, moving average).
        Differs: all leads, one threshold from the median height, no search back. Thresholds were
        chosen and judged by ``benchmarks/ecg/ecg_beats.py``.
    """
    steep = _steepness(rows)
    found = peaks_of(steep)
    if len(found) < 2:
        return found
    clear = stands_out(steep, found)
    if clear.all() or (clear | (align(rows, found)[1] > ALIKE)).all():
        return found
    return among_noise(rows)


def _steepness(rows: np.ndarray) -> np.ndarray:
    """Mean steepness over leads, smooth over the width of a QRS, (S,)."""
    band = band_of(rows, STEEP_HZ)
    slope = np.empty_like(band)  # as of numpy.gradient
    np.subtract(band[:, 2:], band[:, :-2], out=slope[:, 1:-1])
    slope[:, 1:-1] /= 2
    slope[:, 0], slope[:, -1] = band[:, 1] - band[:, 0], band[:, -1] - band[:, -2]
    usual = usual_size(np.abs(slope, out=slope))
    moves = usual > 0
    if not moves.any():
        return np.zeros(rows.shape[1])
    return smooth(np.minimum(slope[moves] / usual[moves, None], AT_MOST), COMPLEX_SECONDS)
