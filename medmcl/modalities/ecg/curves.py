"""Curves of how steep or large the leads of an ECG are together, and which of their peaks count."""

from __future__ import annotations

from functools import cache

import numpy as np

from medmcl.modalities.ecg.signal import both_ways
from medmcl.modalities.ordered import quantile

BEAT_HZ = 500
"""Rate at which beats are measured."""
STEEP_HZ = (5.0, 25.0)
"""Where a QRS is steep, and T waves and muscle are not."""
COMPLEX_SECONDS = 0.10
"""What a QRS lasts."""
APART_SECONDS = 0.26
"""No two beats are nearer: 230 a minute."""
LOOK_SECONDS = 2.0
"""A window this long nearly always holds a beat."""
T_SECONDS = 0.42
"""What follows a complex so soon may be its T wave."""
AT_MOST = 3.0
"""What exceeds the usual size of a lead within its complexes by this factor is an artefact."""
ABOVE_REST = 2.6
"""Levels of rest that a complex stands out from by itself."""
REST = 0.3
"""The level of rest: this quantile of a curve."""

_USUAL = 0.98  # quantile of a lead within its complexes: its scale
_HEIGHT = 0.35  # share of the usual height that a beat has at least
_T_HEIGHT = 0.6  # a T wave is so much lower than the complex before it
_REST_SECONDS = 1.0  # rest is looked for within so long
_REST_STEP = BEAT_HZ // 20  # samples of which one is looked at for it


@cache
def _band(hertz: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Sections of a band pass and their state while the input stays 1."""
    from scipy.signal import butter, sosfilt_zi

    sections = np.asarray(butter(2, hertz, btype="bandpass", fs=BEAT_HZ, output="sos"))
    return sections, np.asarray(sosfilt_zi(sections))[:, None]


def band_of(rows: np.ndarray, hertz: tuple[float, float]) -> np.ndarray:
    """Give a band of leads at `BEAT_HZ`, filtered both ways, (L, S)."""
    return both_ways(rows, *_band(hertz), pad=15)  # as in sosfiltfilt


def band_by_noise(rows: np.ndarray, hertz: tuple[float, float]) -> np.ndarray:
    """Give a band of each lead in units of its noise, artefacts clipped, (L, S)."""
    band = band_of(rows, hertz)
    sizes = np.abs(band)
    most = AT_MOST * usual_size(sizes)[:, None]
    noise = np.maximum(np.median(sizes, axis=1, keepdims=True), 0.01 * most)
    return np.asarray(np.clip(band, -most, most) / np.where(noise > 0, noise, 1.0))


def usual_size(sizes: np.ndarray) -> np.ndarray:
    """Size of each lead within its complexes, (L,)."""
    place = int(_USUAL * (sizes.shape[1] - 1))
    return quantile(np.partition(sizes, (place, place + 1), axis=1), _USUAL)


def smooth(sizes: np.ndarray, seconds: float) -> np.ndarray:
    """Root mean square over leads and over some seconds, (S,)."""
    from scipy.ndimage import uniform_filter1d

    power = (sizes**2).mean(axis=0)
    power = uniform_filter1d(power, round(seconds * BEAT_HZ), mode="constant")
    return np.asarray(np.sqrt(np.maximum(power, 0)))  # running sums leave rounding below zero


def peaks_of(steep: np.ndarray) -> np.ndarray:
    """Peaks that are high enough and far enough apart for beats, (K,)."""
    highest = [part.max() for part in looks(steep)]
    usual = float(np.median(highest))
    if usual <= 0:
        return np.zeros(0, np.int64)
    found = separate_peaks(steep, _HEIGHT * usual)
    soon = np.diff(found, prepend=-len(steep)) < T_SECONDS * BEAT_HZ
    low = steep[found] < _T_HEIGHT * steep[np.roll(found, 1)]
    return found[~(soon & low)]


def separate_peaks(curve: np.ndarray, height: float) -> np.ndarray:
    """Peaks of at least a height, the higher first, each `APART_SECONDS` from the others, (K,)."""
    from scipy.signal import find_peaks

    found, _ = find_peaks(curve, height=height, distance=round(APART_SECONDS * BEAT_HZ))
    return np.asarray(found, dtype=np.int64)


def looks(curve: np.ndarray) -> list[np.ndarray]:
    """Cut a curve into windows of about `LOOK_SECONDS`."""
    return np.array_split(curve, max(1, round(len(curve) / (LOOK_SECONDS * BEAT_HZ))))


def stands_out(curve: np.ndarray, found: np.ndarray, above: float = ABOVE_REST) -> np.ndarray:
    """Whether peaks are far above the level of rest in the second round them, (K,) bool."""
    coarse = curve[::_REST_STEP]
    width = min(len(coarse), round(_REST_SECONDS * BEAT_HZ / _REST_STEP) | 1)
    around = np.lib.stride_tricks.sliding_window_view(coarse, width)
    rest = quantile(np.sort(around, axis=1), REST)
    at = np.clip(found // _REST_STEP - width // 2, 0, len(rest) - 1)
    return np.asarray(curve[found] > above * rest[at])
