"""A sampling rate that is not the file's, or at which the heart's time scale is unusual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities import ecg_rate
from medmcl.modalities.ecg_checks import fault, judged
from medmcl.modalities.ecg_levels import Look
from medmcl.modalities.ecg_rate import FACTORS, NEAR, RIGHT
from medmcl.modalities.ordered import quantile

RATE_ERROR, RATE_DOUBT = 6.0, 3.0
"""Log-odds of another rate that are an error, and a warning; set on folds 7 and 8 of PTB-XL."""
POSSIBLE = (25.0, 250.0)
"""Beats a minute that a heart may have: a rate at which it does is no error by its looks alone."""
ALSO = 2.0
"""Other rates that are behind the likeliest by less log-odds are named too."""
WEIGHT_OF_ONE = 4.0
"""A record counts at most so much in a cohort, in log-odds."""
ENOUGH = 12.0
"""Log-odds of all records together that are an error."""
REPEATS = 0.2
"""Autocorrelation from which steepness counts as repeating (PTB-XL: 0.19 and more; noise: 0.14)."""
_FAR = [n for n, factor in enumerate(FACTORS) if factor not in NEAR and n != RIGHT]
_CLOSE = [FACTORS.index(factor) for factor in NEAR]


def check_rate(
    look: Look, used: Sequence[str], declared: float | None, where: str, among: int = 1
) -> Iterator[Finding]:
    """A declared rate that is not the header's, or a time scale that is not a heart's.

    ``among`` is as `medmcl.core.contracts.WeighsOdds` says. A tachycardia with wide complexes looks
    like a rate that is twice too high, so looks are an error only with another sign: the record
    would last as long as usual at the other rate, or the heart beats as none does. Rates of
    detection and of false alarms: ``docs/data_formats.md``.
    """
    record = look.record
    stated = record.header_rate_hz
    if stated is not None and declared is not None and abs(declared - stated) > 1e-3 * stated:
        what = f"cohort.yaml says {declared:g} Hz, the file says {stated:g} Hz"
        mend = f"set rate_hz: {stated:g}, or leave rate_hz out: the file is believed"
        yield fault("wrong_rate", where, what, mend)
        return
    shape = rate_odds(look, used)
    if shape is None:
        return
    length = ecg_rate.length_odds(record.seconds, len(record.leads))
    odds = shape + length
    best, most = worst(odds)
    if most <= RATE_DOUBT:
        yield from _near(look, used, shape, where)
        return
    close = [n for n in _FAR if odds[n] > odds[best] - ALSO]
    likely = " or ".join(f"{record.rate_hz / FACTORS[n]:g}" for n in close)
    told, beats = _told(look, used)
    if np.isnan(beats):
        return
    bar = RATE_ERROR + np.log(among)
    impossible = most > bar and not POSSIBLE[0] <= beats <= POSSIBLE[1]
    usual = any(odds[n] > bar and length[n] > 0 for n in _FAR)
    said = f"{told}; log-odds {most:.1f} that the rate is {likely} Hz"
    to_mend = f"set rate_hz: {record.rate_hz / FACTORS[best]:g}"
    if stated is not None:
        to_mend = "correct the file's header"
    if impossible or usual:
        mend = judged(f"the rate is likely {likely} Hz: {to_mend}", "wrong_rate")
        yield fault("wrong_rate", where, f"hardly any heart looks like this: {said}", mend)
    else:
        mend = f"see whether the rate is {likely} Hz: {to_mend} if so"
        yield fault("wrong_rate", where, f"few hearts look like this: {said}", mend, "warning")


def _near(look: Look, used: Sequence[str], shape: np.ndarray, where: str) -> Iterator[Finding]:
    """Doubt a rate that is off by a quarter, where the length would then be the usual one."""
    record = look.record
    length = ecg_rate.length_odds(record.seconds, len(record.leads))
    for place in _CLOSE:
        if length[place] > 0 and shape[place] > 0:
            likely = f"{record.rate_hz / FACTORS[place]:g} Hz"
            what = (
                f"{_told(look, used)[0]}; at {likely} the record lasts "
                f"{ecg_rate.USUAL_SECONDS:g} s, as usual"
            )
            mend = f"see whether the rate is {likely}"
            yield fault("wrong_rate", where, what, mend, "warning")


def rate_odds(look: Look, used: Sequence[str]) -> np.ndarray | None:
    """Log-odds of `ecg_rate.FACTORS` by the shape of the signal; None if nothing repeats."""
    span = look.beginning(used)
    return ecg_rate.log_odds(span, look.record.rate_hz) if len(span) else None


def worst(odds: np.ndarray) -> tuple[int, float]:
    """Give the likeliest of the factors that one record can tell, and its log-odds."""
    best = max(_FAR, key=lambda number: odds[number])
    return best, float(odds[best])


def pool(odds: np.ndarray) -> tuple[int, bool]:
    """Give the likeliest factor of many records, (N, 12), and whether they are sure of it."""
    best = int(np.median(odds, axis=0).argmax())
    column = odds[:, best]
    sure = column.clip(-WEIGHT_OF_ONE, WEIGHT_OF_ONE).sum() > ENOUGH and np.median(column) > 0
    return best, bool(sure) and best != RIGHT


def _told(look: Look, used: Sequence[str]) -> tuple[str, float]:
    """Say how fast the heart beats and how long complexes last; and give the beats, or NaN."""
    span = look.beginning(used)
    rate_hz = look.record.rate_hz
    step = max(1, round(rate_hz / ecg_rate.GRID_HZ))
    length = span.shape[1] // step
    span = span[:, : length * step].reshape(len(span), length, step).mean(axis=2)
    beats, width = beat_and_width(span, rate_hz / step)
    times = "irregularly" if np.isnan(beats) else f"{beats:.0f} times a minute"
    said = f"at {rate_hz:g} Hz the heart beats {times} with complexes of {width * 1000:.0f} ms"
    return said, beats


def beat_and_width(signal: np.ndarray, rate_hz: float) -> tuple[float, float]:
    """Estimate beats a minute, and seconds that a complex lasts, from how steepness repeats.

    Args:
        signal: (L, S), finite.
        rate_hz: Rate that is believed.

    Returns:
        Beats a minute (NaN if nothing repeats) and the time after which the autocorrelation of the
        steepness has vanished.
    """
    repeat, width = _repeats(signal)
    return _beats(repeat, width, rate_hz), width / rate_hz


def _repeats(signal: np.ndarray) -> tuple[np.ndarray, int]:
    """Autocorrelation of the steepness by lag, (S - 1,), and the lag at which it has vanished."""
    from scipy.fft import next_fast_len

    slope = np.diff(signal.astype(np.float64), axis=-1)
    slope /= slope.std(axis=-1, keepdims=True) + 1e-12
    steep = np.sqrt((slope**2).sum(axis=0))
    steep = np.minimum(steep, quantile(np.sort(steep), 0.995))
    steep -= steep.mean()
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
