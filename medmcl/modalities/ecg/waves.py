"""Waves of a median beat: where P begins, QRS begins and ends, T peaks and ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.modalities.ecg.beats import CENTRE
from medmcl.modalities.ecg.complexes import BEAT_HZ

_STEEP = 0.07  # share of the steepest slope at which a QRS begins and ends
_GAP = round(0.016 * BEAT_HZ)  # a flat top inside a QRS
_QRS_SECONDS = (0.04, 0.24)
_EARLIEST, _LATEST = round(0.14 * BEAT_HZ), round(0.18 * BEAT_HZ)
_LEAST_MV = 0.025  # no smaller wave is believed
_LEAST_NOISE = 3.0  # and none smaller than so many standard errors


@dataclass(frozen=True, kw_only=True)
class Waves:
    """Samples within a median beat; None where a wave cannot be told.

    Attributes:
        onset: Begin of the QRS.
        offset: End of the QRS (J).
        p_onset: Begin of the P wave.
        p_peak: Its peak.
        t_peak: Peak of the T wave.
        t_end: Its end.
        level: Level just before the QRS, mV. (L,)
    """

    onset: int
    offset: int
    p_onset: int | None
    p_peak: int | None
    t_peak: int | None
    t_end: int | None
    level: np.ndarray


def find_waves(median: np.ndarray, noise: np.ndarray, interval: float) -> Waves | None:
    """Delineate a median beat over all leads together; None if it has no clear QRS.

    QRS: while the length of the slope over leads is above a share of its largest. T and P: the
    combination of leads that varies most between the QRS and the next or last beat; a wave ends
    or begins where the tangent at its steepest point meets its foot.

    Args:
        median: (L, W) in mV at `BEAT_HZ`, QRS at `CENTRE`.
        noise: Standard error of each lead, (L,).
        interval: Usual seconds from beat to beat.

    Source:
        Lepeschkin & Surawicz 1952, Circulation 6:378 (tangent). Differs: one combination of leads.
    """
    found = _qrs(median)
    if found is None:
        return None
    onset, offset = found
    level = median[:, max(0, onset - 7) : max(1, onset - 1)].mean(axis=1)
    flat = median - level[:, None]
    least = max(_LEAST_MV, _LEAST_NOISE * float(np.sqrt((noise**2).mean())))
    last = min(median.shape[1], CENTRE + round(max(0.3, interval - 0.18) * BEAT_HZ))
    t_peak, t_end = _wave(flat, offset + round(0.05 * BEAT_HZ), last, least, is_t=True)
    before = 0 if t_end is None else t_end - round(interval * BEAT_HZ) + 8
    first = max(before, onset - round(0.34 * BEAT_HZ), 0)
    p_peak, p_onset = _wave(flat, first, onset - 6, least, is_t=False)
    return Waves(
        onset=onset,
        offset=offset,
        p_onset=p_onset,
        p_peak=p_peak,
        t_peak=t_peak,
        t_end=t_end,
        level=level,
    )


def _qrs(median: np.ndarray) -> tuple[int, int] | None:
    from scipy.ndimage import binary_closing, uniform_filter1d

    slope = np.gradient(uniform_filter1d(median, 5, axis=1, mode="nearest"), axis=1)
    steep = np.sqrt((slope**2).sum(axis=0))
    window = slice(CENTRE - _EARLIEST, CENTRE + _LATEST)
    part = steep[window]
    still = float(np.sort(steep)[len(steep) // 5])
    top = float(part.max())
    if top < 6 * still or top <= 0:
        return None
    active = np.pad(part > still + _STEEP * (top - still), _GAP)
    active = binary_closing(active, np.ones(_GAP))[_GAP:-_GAP]
    middle = int(np.abs(np.flatnonzero(active) - _EARLIEST).argmin())
    middle = int(np.flatnonzero(active)[middle])
    rest = np.flatnonzero(~active)
    left, right = rest[rest < middle], rest[rest > middle]
    if not len(left) or not len(right):
        return None
    onset, offset = int(left[-1]) + 1, int(right[0]) - 1
    if not _QRS_SECONDS[0] <= (offset - onset) / BEAT_HZ <= _QRS_SECONDS[1]:
        return None
    return onset + window.start, offset + window.start


def _wave(
    flat: np.ndarray, first: int, last: int, least: float, is_t: bool
) -> tuple[int | None, int | None]:
    """Peak of the wave in a window, and its end (T) or begin (P)."""
    from scipy.ndimage import uniform_filter1d

    if last - first < round(0.06 * BEAT_HZ):
        return None, None
    part = flat[:, first:last]
    if not is_t:  # P rides on the end of the last T wave
        part = part - np.linspace(0, 1, part.shape[1]) * (part[:, -1:] - part[:, :1])
        part = part - part[:, :1]
    left = np.linalg.svd(part, full_matrices=False)[0][:, 0]
    wave = uniform_filter1d(left @ part, 9, mode="nearest")
    wave = wave * np.sign(wave[np.abs(wave).argmax()])
    foot = wave[-1] if is_t else 0.0
    peak = int(wave.argmax())
    if wave[peak] - max(wave[0], wave[-1]) < least or peak in (0, len(wave) - 1):
        return None, None
    side = wave[peak:] if is_t else wave[peak::-1]
    if is_t:
        foot = float(side.min())
    slope = np.diff(side)
    at = int(slope.argmin())
    if slope[at] >= 0:
        return first + peak, None
    reach = at + (side[at] - foot) / -slope[at]
    if reach > len(side):
        return first + peak, None
    edge = peak + reach if is_t else peak - reach
    return first + peak, first + round(float(edge))
