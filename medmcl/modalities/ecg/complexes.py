"""Where the QRS complexes of an ECG lie: one curve of its leads, matched with a median beat."""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ecg.signal import both_ways, sections
from medmcl.modalities.ordered import middle, quantile

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


def band_of(rows: np.ndarray, hertz: tuple[float, float]) -> np.ndarray:
    """Give a band of leads at `BEAT_HZ`, filtered both ways, (L, S)."""
    return both_ways(rows, *sections(BEAT_HZ, hertz, "bandpass"), pad=15)  # as sosfiltfilt


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
    slope = np.abs(np.gradient(band_of(rows, STEEP_HZ), axis=1))
    usual = usual_size(slope)
    moves = usual > 0
    if not moves.any():
        return np.zeros(rows.shape[1])
    return smooth(np.minimum(slope[moves] / usual[moves, None], AT_MOST), COMPLEX_SECONDS)
