"""Heart beats of an ECG: where they are, and the median beat of those that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from medmcl.modalities.ecg_signal import both_ways
from medmcl.modalities.ordered import middle, quantile

BEAT_HZ = 500
"""Rate at which beats are measured."""
BEFORE_SECONDS, AFTER_SECONDS = 0.42, 0.56
"""What a beat spans round its centre: a P wave after a long delay, and a late T wave."""
CENTRE = round(BEFORE_SECONDS * BEAT_HZ)
"""Sample of the centre of the QRS in a median beat."""

_STEEP_HZ = (5.0, 25.0)  # where a QRS is steep and T waves and muscle are not
_USUAL = 0.98  # quantile of the steepness of a lead that is its scale
_COMPLEX_SECONDS = 0.10  # a QRS
_APART_SECONDS = 0.26  # no two beats are nearer: 230 a minute
_LOOK_SECONDS = 2.0  # a window this long nearly always holds a beat
_HEIGHT = 0.35  # share of the usual height that a beat has at least
_T_SECONDS, _T_HEIGHT = 0.42, 0.6  # what follows so soon and so much lower is a T wave
_SHIFT = round(0.04 * BEAT_HZ)  # centres move so far to fit the median beat
_HALF = round(0.07 * BEAT_HZ)  # half of what is fitted
_ALIKE = 0.7  # correlation with the median QRS of beats of one shape


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
    """Find the beats of all leads together.

    Steepness between 5 and 25 Hz, each lead by its own scale, is averaged over leads and over the
    width of a QRS; its peaks are beats. Their centres are then moved to fit the median beat.

    Args:
        rows: Leads in mV at `BEAT_HZ`, free of baseline, finite, (L, S).

    Source:
        Pan & Tompkins 1985, IEEE Trans Biomed Eng 32:230 (steepness in a band, moving average).
        Differs: all leads, one threshold from the median height, no search back.
    """
    empty = Beats(
        peaks=np.zeros(0, np.int64),
        alike=np.zeros(0, bool),
        median=None,
        noise=np.zeros(len(rows)),
    )
    if rows.shape[1] < BEAT_HZ:
        return empty
    peaks = _peaks(_steepness(rows))
    if len(peaks) < 2:
        return empty if len(peaks) == 0 else _lonely(empty, peaks)
    peaks, alike = _align(rows, peaks)
    return _median(rows, peaks, alike)


def _lonely(empty: Beats, peaks: np.ndarray) -> Beats:
    return Beats(peaks=peaks, alike=np.ones(1, bool), median=None, noise=empty.noise)


@cache
def _band() -> tuple[np.ndarray, np.ndarray]:
    """Sections of the band pass and their state while the input stays 1."""
    from scipy.signal import butter, sosfilt_zi

    sections = np.asarray(butter(2, _STEEP_HZ, btype="bandpass", fs=BEAT_HZ, output="sos"))
    return sections, np.asarray(sosfilt_zi(sections))[:, None]


def _steepness(rows: np.ndarray) -> np.ndarray:
    """Mean steepness over leads, smooth over the width of a QRS, (S,)."""
    from scipy.ndimage import uniform_filter1d

    band = both_ways(rows, *_band(), pad=15)  # as in sosfiltfilt
    slope = np.empty_like(band)  # as of numpy.gradient
    np.subtract(band[:, 2:], band[:, :-2], out=slope[:, 1:-1])
    slope[:, 1:-1] /= 2
    slope[:, 0], slope[:, -1] = band[:, 1] - band[:, 0], band[:, -1] - band[:, -2]
    np.abs(slope, out=slope)
    place = int(_USUAL * (slope.shape[1] - 1))
    usual = quantile(np.partition(slope, (place, place + 1), axis=1), _USUAL)
    moves = usual > 0
    if not moves.any():
        return np.zeros(rows.shape[1])
    scaled = np.minimum(slope[moves] / usual[moves, None], 3.0)  # an artefact is no beat
    width = round(_COMPLEX_SECONDS * BEAT_HZ)
    power = uniform_filter1d((scaled**2).mean(axis=0), width, mode="constant")
    return np.sqrt(np.maximum(power, 0))  # running sums leave rounding below zero


def _peaks(steep: np.ndarray) -> np.ndarray:
    """Centres of beats, (K,)."""
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


def _align(rows: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move centres to where the QRS fits the median QRS best, and say which fit."""
    margin = _HALF + _SHIFT
    padded = np.pad(rows, ((0, 0), (margin, margin)), mode="edge")
    fit = np.ones(len(peaks))
    for _ in range(2):
        wide = _windows(padded, peaks, 2 * margin + 1)  # (K, L, 2 margin + 1)
        template = middle(wide[:, :, _SHIFT:-_SHIFT])
        scores = _likeness(wide, template - template.mean(axis=1, keepdims=True))
        best = scores.argmax(axis=1)
        fit = scores[np.arange(len(peaks)), best]
        peaks = np.clip(peaks + best - _SHIFT, 0, rows.shape[1] - 1)
    return peaks, fit > _ALIKE


def _likeness(wide: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Correlation of each beat with the template at each lag, over leads together, (K, lags).

    Args:
        wide: Beats with a margin for the lags, (K, L, W + lags - 1).
        template: Mean zero in each lead, (L, W).
    """
    beats, leads, long = wide.shape
    width = template.shape[1]
    lags = long - width + 1
    padded = np.pad(template, ((0, 0), (lags - 1, lags - 1)))
    moved = np.lib.stride_tricks.sliding_window_view(padded, lags, axis=1)[:, :, ::-1]
    found = wide.reshape(beats, leads * long) @ moved.reshape(leads * long, lags)
    sums = np.zeros((2, beats, leads, long + 1))
    np.cumsum(wide, axis=2, out=sums[0, :, :, 1:])
    np.cumsum(wide**2, axis=2, out=sums[1, :, :, 1:])
    first, second = sums[..., width:] - sums[..., :lags]
    energy = np.maximum((second - first**2 / width).sum(axis=1), 0)
    return np.asarray(found / np.maximum(np.sqrt(energy * (template**2).sum()), 1e-12))


def _windows(rows: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Cut windows that begin at ``starts``, (K, L, width)."""
    views = np.lib.stride_tricks.sliding_window_view(rows, width, axis=1)
    return np.asarray(views[:, starts].transpose(1, 0, 2))


def _median(rows: np.ndarray, peaks: np.ndarray, alike: np.ndarray) -> Beats:
    after = round(AFTER_SECONDS * BEAT_HZ)
    whole = (peaks >= CENTRE) & (peaks + after < rows.shape[1]) & alike
    median, noise = None, np.zeros(len(rows))
    if whole.sum() >= 2:
        beats = _windows(rows, peaks[whole] - CENTRE, CENTRE + after + 1)
        median = middle(beats)
        apart = np.abs(beats - median).transpose(1, 0, 2).reshape(len(rows), -1)
        places = ((apart.shape[1] - 1) // 2, apart.shape[1] // 2)
        off = np.partition(apart, places, axis=1)[:, places].mean(axis=1)
        noise = 1.48 * 1.25 * off / np.sqrt(len(beats))  # of a median; MAD to deviation
    return Beats(peaks=peaks, alike=alike, median=median, noise=noise)
