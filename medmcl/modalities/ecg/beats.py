"""Beats of an ECG: its pulse, where beats are, their median, and where the waves of that lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.modalities.ecg.complexes import ALIKE, BEAT_HZ, align, find_complexes, windows
from medmcl.modalities.ordered import middle, quantile

GRID_HZ = 100
"""Longer signals are averaged down to this rate, as stated, before they are looked at."""
REPEATS = 0.2
"""Autocorrelation from which steepness counts as repeating (PTB-XL: 0.19 and more; noise: 0.14)."""
STEEP, EVERYWHERE = 0.3, 0.8
"""Share of the usual steepness of a complex, and share of samples that are as steep: from there on
no complex stands out (PTB-XL: at most 0.70 at any rate; noise 0.97; a sine in one lead 0.81)."""


def pulse_of(span: np.ndarray, rate_hz: float) -> tuple[float, float]:
    """Give `beat_and_width` of a signal, (L, S), finite, of any rate."""
    return beat_and_width(*_on_grid(span, rate_hz))


def _on_grid(span: np.ndarray, rate_hz: float) -> tuple[np.ndarray, float]:
    """Average a signal down to about `GRID_HZ`; and its rate then."""
    step = max(1, round(rate_hz / GRID_HZ))
    length = span.shape[1] // step
    if step > 1:
        span = span[:, : length * step].reshape(len(span), length, step).mean(axis=2)
    return span, rate_hz / step


def beat_and_width(signal: np.ndarray, rate_hz: float) -> tuple[float, float]:
    """Estimate beats a minute, and seconds that a complex lasts, from how steepness repeats.

    Args:
        signal: (L, S), finite.
        rate_hz: Rate that is believed.

    Returns:
        Beats a minute (NaN if nothing repeats, or no complex stands out) and the time after which
        the autocorrelation of the steepness has vanished.
    """
    if signal.shape[1] < 3:
        return float("nan"), 0.0
    steep = _steepness(signal)
    ordered = np.sort(steep)
    repeat, width = _repeats(np.minimum(steep, quantile(ordered, 0.995)))
    rests = _rests(ordered)
    return _beats(repeat, width, rate_hz) if rests else float("nan"), width / rate_hz


def rests_between(span: np.ndarray, rate_hz: float) -> bool:
    """Whether some samples are less steep than others, as between complexes; (L, S) as above."""
    signal, _ = _on_grid(span, rate_hz)
    return signal.shape[1] >= 3 and _rests(np.sort(_steepness(signal)))


def _rests(ordered: np.ndarray) -> bool:
    """Whether few samples are as steep as a complex; steepness ascending."""
    return bool((ordered > STEEP * quantile(ordered, 0.98)).mean() < EVERYWHERE)


def _steepness(signal: np.ndarray) -> np.ndarray:
    """Steepness over leads, each by its own scale, (S - 1,)."""
    slope = np.diff(signal.astype(np.float64), axis=-1)
    slope /= slope.std(axis=-1, keepdims=True) + 1e-12
    return np.asarray(np.sqrt((slope**2).sum(axis=0)))


def _repeats(steep: np.ndarray) -> tuple[np.ndarray, int]:
    """Autocorrelation of the steepness by lag, (S - 1,), and the lag at which it has vanished."""
    from scipy.fft import next_fast_len

    steep = steep - steep.mean()
    length = len(steep)
    size = next_fast_len(2 * length, real=True)  # zeros behind the signal do not change its lags
    spectrum = np.fft.rfft(steep, size)
    repeat = np.fft.irfft(spectrum * spectrum.conj(), size)[:length]
    repeat /= (1 - np.arange(length) / length) * max(repeat[0], 1e-12)
    return repeat, max(1, int(np.argmax(repeat < 0.05)))


def _beats(repeat: np.ndarray, width: int, rate_hz: float) -> float:
    """Beats a minute from the first high peak of the autocorrelation; NaN if nothing repeats."""
    from scipy.signal import find_peaks

    window = np.ones(width // 2 * 2 + 1) / (width // 2 * 2 + 1)
    smooth = np.convolve(repeat, window, mode="same")[width : len(repeat) * 2 // 3]
    peaks, _ = find_peaks(smooth, prominence=0.1)
    if len(peaks) == 0 or smooth[peaks].max() < REPEATS:
        return float("nan")
    high = peaks[smooth[peaks] > 0.6 * smooth[peaks].max()]
    return 60 * rate_hz / float(high[0] + width)


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
    peaks = find_complexes(rows) if rows.shape[1] >= BEAT_HZ else np.zeros(0, np.int64)
    fit = np.ones(len(peaks))
    if len(peaks) >= 2:
        peaks, fit = align(rows, peaks)
    alike = fit > ALIKE
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
