"""Complexes of an ECG where noise is as steep as they are: a matched filter of all leads."""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ecg.curves import (
    ABOVE_REST,
    APART_SECONDS,
    BEAT_HZ,
    COMPLEX_SECONDS,
    REST,
    STEEP_HZ,
    T_SECONDS,
    band_by_noise,
    looks,
    peaks_of,
    separate_peaks,
    smooth,
    stands_out,
)
from medmcl.modalities.ecg.template import HALF, MOST_SHIFT, likeness, windows
from medmcl.modalities.ordered import middle

BEAT_BAND_HZ = (3.0, 25.0)
"""Where a whole beat, wide or narrow, stands out from noise."""
WIDE_HZ, WIDE_SECONDS = (3.0, 12.0), 0.14
"""Where a wide complex is strong, and what it lasts."""

_BEFORE, _AFTER = 50, 180  # samples of a beat: PQ to T
_ROUNDS = 3  # of finding beats by a template and the template by beats
_HELD = (0.5, 0.7)  # share of the template that a beat holds: where noise is low; at most
_DEVIATIONS = 3.3  # of what noise holds of the template that a beat exceeds
_BY_CHANCE = 1e-3  # how often noise alone stands out at a place
_AS_LARGE = 0.6  # share of the usual size of a complex of any other shape
_FORE_SECONDS = 0.3  # a complex of another shape is so long before the next
_LOCAL = 40  # samples over which a template is told from its noise
_REACH = 60  # samples to either side among which the middle of a complex is looked for
_FOOT = 0.2  # share of a complex's greatest power that is no part of it


def among_noise(rows: np.ndarray) -> np.ndarray:
    """Find complexes where noise is as steep as some of them.

    Each lead is measured by its noise, so that the inner product with the median beat weighs leads
    and times by their power over that of noise. The first template is the median of the
    steepest peak of every two seconds; beats are where a good share of it is held, more than noise
    holds by chance; their median, less what may be noise, is the next template: it reaches from
    the PQ to the T wave, so that a T wave alone holds little of it. Beats are told at the middle of
    the power of their complex, for a wide one may be steepest at its end. Complexes of any other
    shape are added where they stand out beyond the chance of noise.

    Args:
        rows: Leads at `BEAT_HZ`, free of baseline, finite, (L, S).

    Returns:
        Centres in samples, ascending, (K,) int64.

    Source:
        Turin 1960, IRE Trans Inf Theory 6:311 (matched filter). Thresholds were chosen and judged
        by ``benchmarks/ecg/ecg_beats.py``.
    """
    size = smooth(band_by_noise(rows, STEEP_HZ), COMPLEX_SECONDS)
    steepest = peaks_of(size)
    if len(steepest) < 2:
        return steepest
    clear = steepest[stands_out(size, steepest, noise_above(len(rows), STEEP_HZ, COMPLEX_SECONDS))]
    found = _like_the_median(band_by_noise(rows, BEAT_BAND_HZ), size, steepest)
    if len(found) < 2:
        return clear
    found = np.clip(found + _to_the_middle(size**2, found), 0, len(size) - 1)
    wide = smooth(band_by_noise(rows, WIDE_HZ), WIDE_SECONDS)
    large = separate_peaks(wide, _AS_LARGE * float(np.median(wide[found])))
    large = large[stands_out(wide, large, noise_above(len(rows), WIDE_HZ, WIDE_SECONDS))]
    for one in [*clear, *large]:
        place = int(np.searchsorted(found, one, side="right"))
        since = one - found[place - 1] if place else np.inf
        until = found[place] - one if place < len(found) else np.inf
        if since > T_SECONDS * BEAT_HZ and until > _FORE_SECONDS * BEAT_HZ:
            found = np.insert(found, place, one)
    return found


def _like_the_median(band: np.ndarray, size: np.ndarray, steepest: np.ndarray) -> np.ndarray:
    """Find what holds a good share of the median beat, (K,).

    Args:
        band: Leads by their noise, (L, S).
        size: Curve whose peaks are taken for beats at first, (S,).
        steepest: Those peaks.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    template, before = _first_template(band, size, steepest), HALF
    length = next_fast_len(band.shape[1] + _BEFORE + _AFTER + 1, real=True)
    spectrum = rfft(band, length, axis=1)
    found = steepest
    for _ in range(_ROUNDS):
        product = (spectrum * rfft(template, length, axis=1).conj()).sum(axis=0)
        held = np.roll(irfft(product, length), before)[: band.shape[1]]
        held /= max(float((template**2).sum()), 1e-30)
        noise = float(np.quantile(np.abs(held), 0.25)) / 0.3186
        found = separate_peaks(held, float(np.clip(_DEVIATIONS * noise, *_HELD)))
        if len(found) < 2:
            break
        template, before = _median_beat(band, found), _BEFORE
    return found


def _first_template(band: np.ndarray, size: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Median of the highest peak of every `LOOK_SECONDS`, each at its best lag, (L, W)."""
    margin, width = HALF + MOST_SHIFT, 2 * HALF + 1
    wide = windows(np.pad(band, ((0, 0), (margin, margin))), found, 2 * margin + 1)
    within = [
        np.flatnonzero((found >= part[0]) & (found <= part[-1]))
        for part in looks(np.arange(len(size)))
    ]
    seeds = np.array([peaks[size[found[peaks]].argmax()] for peaks in within if len(peaks)])
    template = wide[seeds[size[found[seeds]].argmax()], :, MOST_SHIFT : MOST_SHIFT + width]
    for _ in range(3):
        best = likeness(wide[seeds], template - template.mean(axis=1, keepdims=True)).argmax(axis=1)
        moved = [wide[seed, :, lag : lag + width] for seed, lag in zip(seeds, best, strict=True)]
        template = middle(np.stack(moved))
    return template


def _median_beat(band: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Median of beats, the less where it is hardly more than its standard error, (L, W).

    It ends halfway to the next beat, so that none holds a part of its neighbour.
    """
    from scipy.ndimage import uniform_filter1d

    halfway = int(np.median(np.diff(found))) // 2
    after = min(_AFTER, max(_BEFORE, halfway))
    padded = np.pad(band, ((0, 0), (_BEFORE, after)))
    beats = windows(padded, found, _BEFORE + after + 1)
    template = middle(beats)
    power = uniform_filter1d((template**2).sum(axis=0), _LOCAL, mode="nearest")
    apart = middle((beats - template) ** 2).sum(axis=0) / 0.45  # median of a squared normal
    error = np.pi / 2 * uniform_filter1d(apart, _LOCAL, mode="nearest") / len(found)
    return np.asarray(template * np.clip(1 - error / np.maximum(power, 1e-30), 0, 1))


def _to_the_middle(power: np.ndarray, found: np.ndarray) -> int:
    """Samples from where complexes were found to the middle of their median power."""
    width, floor, shift = 2 * _REACH + 1, float(np.quantile(power, REST)), 0
    for _ in range(3):
        starts = found + shift - _REACH
        starts = starts[(starts >= 0) & (starts + width <= len(power))]
        if len(starts) == 0:
            return 0
        usual = np.median(windows(power[None], starts, width)[:, 0], axis=0)
        weights = np.maximum(usual - floor - _FOOT * usual.max(), 0)
        if weights.sum() <= 0:
            return 0
        step = round(float((weights * np.arange(-_REACH, _REACH + 1)).sum() / weights.sum()))
        shift += step
        if abs(step) < 2:
            break
    return shift if abs(shift) <= APART_SECONDS / 2 * BEAT_HZ else 0


def noise_above(leads: int, hertz: tuple[float, float], seconds: float) -> float:
    """Levels of rest that noise alone exceeds by `_BY_CHANCE`; at least `ABOVE_REST`.

    The mean square of a band over some seconds has two degrees of freedom for each Hz, second and
    lead: the fewer leads, the higher its peaks.
    """
    from scipy.special import gammainccinv, gammaincinv

    half = (hertz[1] - hertz[0]) * seconds * leads
    return max(ABOVE_REST, float(np.sqrt(gammainccinv(half, _BY_CHANCE) / gammaincinv(half, REST))))
