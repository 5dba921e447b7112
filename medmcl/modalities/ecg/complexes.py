"""Where the QRS complexes of an ECG are, also where noise is as steep as they are."""

from __future__ import annotations

from functools import cache

import numpy as np

from medmcl.modalities.ecg.signal import both_ways
from medmcl.modalities.ecg.template import HALF, MOST_SHIFT, align, likeness, slide, windows
from medmcl.modalities.ordered import middle, quantile

BEAT_HZ = 500
"""Rate at which beats are measured."""
ALIKE = 0.7
"""Correlation with the median QRS of beats of one shape."""

_STEEP_HZ = (5.0, 25.0)  # where a QRS is steep and T waves and muscle are not
_WIDE_HZ = (3.0, 12.0)  # where a wide complex is strong
_USUAL = 0.98  # quantile of a lead within its complexes: its scale
_AT_MOST = 3.0  # what exceeds the usual by this factor is an artefact
_COMPLEX_SECONDS = 0.10  # a QRS
_WIDE_SECONDS = 0.14  # a wide one
_APART_SECONDS = 0.26  # no two beats are nearer: 230 a minute
_LOOK_SECONDS = 2.0  # a window this long nearly always holds a beat
_HEIGHT = 0.35  # share of the usual height that a beat has at least
_T_SECONDS, _T_HEIGHT = 0.42, 0.6  # what follows so soon and so much lower is a T wave
_REST_SECONDS, _REST = 1.0, 0.3  # the level between complexes: this quantile within so long
_REST_STEP = BEAT_HZ // 20  # samples of which one is looked at for it
_ABOVE_REST = 2.6  # levels of rest that a complex stands out from by itself
_FITS = 0.5  # share of the template that a complex among noise holds
_AS_LARGE = 0.6  # share of the usual size of a complex of any other shape


def find_complexes(rows: np.ndarray) -> np.ndarray:
    """Find the complexes of all leads together.

    Steepness between 5 and 25 Hz, each lead by its own scale, is averaged over leads and over the
    width of a QRS; its peaks are complexes if each stands out from the rest of the second round it
    or looks like the others. Otherwise there is noise: the size of the same band, each lead by its
    noise, is looked at instead, and a peak counts that stands out, fits the median of the highest
    peaks, or is as large as they are between 3 and 12 Hz.

    Args:
        rows: Leads at `BEAT_HZ`, free of baseline, finite, (L, S).

    Returns:
        Centres in samples, ascending, (K,) int64.

    Source:
        Pan & Tompkins 1985, IEEE Trans Biomed Eng 32:230 (steepness in a band, moving average).
        Differs: all leads, one threshold from the median height, no search back; where there is
        noise a matched filter (Turin 1960, IRE Trans Inf Theory 6:311). Thresholds were chosen and
        judged by ``benchmarks/ecg_beats.py``.
    """
    steep = _steepness(rows)
    found = _peaks(steep)
    if len(found) < 2:
        return found
    clear = _stands_out(steep, found)
    if clear.all() or (clear | (align(rows, found)[1] > ALIKE)).all():
        return found
    return _among_noise(rows)


@cache
def _band(hertz: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Sections of a band pass and their state while the input stays 1."""
    from scipy.signal import butter, sosfilt_zi

    sections = np.asarray(butter(2, hertz, btype="bandpass", fs=BEAT_HZ, output="sos"))
    return sections, np.asarray(sosfilt_zi(sections))[:, None]


def _steepness(rows: np.ndarray) -> np.ndarray:
    """Mean steepness over leads, smooth over the width of a QRS, (S,)."""
    band = both_ways(rows, *_band(_STEEP_HZ), pad=15)  # as in sosfiltfilt
    slope = np.empty_like(band)  # as of numpy.gradient
    np.subtract(band[:, 2:], band[:, :-2], out=slope[:, 1:-1])
    slope[:, 1:-1] /= 2
    slope[:, 0], slope[:, -1] = band[:, 1] - band[:, 0], band[:, -1] - band[:, -2]
    usual = _usual(np.abs(slope, out=slope))
    moves = usual > 0
    if not moves.any():
        return np.zeros(rows.shape[1])
    return _smooth(np.minimum(slope[moves] / usual[moves, None], _AT_MOST), _COMPLEX_SECONDS)


def _usual(sizes: np.ndarray) -> np.ndarray:
    """Size of each lead within its complexes, (L,)."""
    place = int(_USUAL * (sizes.shape[1] - 1))
    return quantile(np.partition(sizes, (place, place + 1), axis=1), _USUAL)


def _smooth(sizes: np.ndarray, seconds: float) -> np.ndarray:
    """Root mean square over leads and over some seconds, (S,)."""
    from scipy.ndimage import uniform_filter1d

    power = (sizes**2).mean(axis=0)
    power = uniform_filter1d(power, round(seconds * BEAT_HZ), mode="constant")
    return np.asarray(np.sqrt(np.maximum(power, 0)))  # running sums leave rounding below zero


def _peaks(steep: np.ndarray) -> np.ndarray:
    """Peaks that are high enough and far enough apart for beats, (K,)."""
    from scipy.signal import find_peaks

    windows = max(1, round(len(steep) / (_LOOK_SECONDS * BEAT_HZ)))
    highest = [part.max() for part in np.array_split(steep, windows)]
    usual = float(np.median(highest))
    if usual <= 0:
        return np.zeros(0, np.int64)
    apart = round(_APART_SECONDS * BEAT_HZ)
    found, _ = find_peaks(steep, height=_HEIGHT * usual, distance=apart)
    soon = np.diff(found, prepend=-len(steep)) < _T_SECONDS * BEAT_HZ
    low = steep[found] < _T_HEIGHT * steep[np.roll(found, 1)]
    return np.asarray(found[~(soon & low)], dtype=np.int64)


def _stands_out(curve: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Whether peaks are far above the level of rest in the second round them, (K,) bool."""
    coarse = curve[::_REST_STEP]
    width = min(len(coarse), round(_REST_SECONDS * BEAT_HZ / _REST_STEP) | 1)
    around = np.lib.stride_tricks.sliding_window_view(coarse, width)
    rest = quantile(np.sort(around, axis=1), _REST)
    at = np.clip(found // _REST_STEP - width // 2, 0, len(rest) - 1)
    return np.asarray(curve[found] > _ABOVE_REST * rest[at])


def _among_noise(rows: np.ndarray) -> np.ndarray:
    """Find complexes where noise is as steep as some of them, (K,)."""
    band = _by_noise(rows, _STEEP_HZ)
    size = _smooth(band, _COMPLEX_SECONDS)
    found = _peaks(size)
    if len(found) < 2:
        return found
    keep = _stands_out(size, found) | (_share_of_template(band, size, found) > _FITS)
    wide = _smooth(_by_noise(rows, _WIDE_HZ), _WIDE_SECONDS)
    large = _stands_out(wide, found)
    large &= wide[found] > _AS_LARGE * np.median(wide[found[keep]] if keep.any() else wide)
    before = np.maximum.accumulate(np.where(keep, found, -len(size)))
    return np.asarray(found[keep | (large & (found - before > _T_SECONDS * BEAT_HZ))])


def _by_noise(rows: np.ndarray, hertz: tuple[float, float]) -> np.ndarray:
    """Give a band of each lead in units of its noise, artefacts clipped, (L, S)."""
    band = both_ways(rows, *_band(hertz), pad=15)
    sizes = np.abs(band)
    most = _AT_MOST * _usual(sizes)[:, None]
    noise = np.maximum(np.median(sizes, axis=1, keepdims=True), 0.01 * most)
    return np.asarray(np.clip(band, -most, most) / np.where(noise > 0, noise, 1.0))


def _share_of_template(band: np.ndarray, size: np.ndarray, found: np.ndarray) -> np.ndarray:
    """How much of the median of the highest peaks each peak holds, at its best lag, (K,)."""
    margin = HALF + MOST_SHIFT
    wide = windows(np.pad(band, ((0, 0), (margin, margin))), found, 2 * margin + 1)
    parts = np.array_split(np.arange(len(size)), max(1, round(len(size) / _LOOK_SECONDS / BEAT_HZ)))
    within = [np.flatnonzero((found >= part[0]) & (found <= part[-1])) for part in parts]
    seeds = np.array([peaks[size[found[peaks]].argmax()] for peaks in within if len(peaks)])
    width = 2 * HALF + 1
    template = wide[seeds[size[found[seeds]].argmax()], :, MOST_SHIFT : MOST_SHIFT + width]
    for _ in range(3):
        best = likeness(wide[seeds], template - template.mean(axis=1, keepdims=True)).argmax(axis=1)
        moved = [wide[seed, :, lag : lag + width] for seed, lag in zip(seeds, best, strict=True)]
        template = middle(np.stack(moved))
    return np.asarray(slide(wide, template).max(axis=1) / max(float((template**2).sum()), 1e-30))
