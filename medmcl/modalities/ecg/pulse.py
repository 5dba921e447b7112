"""How fast a heart beats and how long its complexes last, from how steepness repeats."""

from __future__ import annotations

import numpy as np

from medmcl.modalities.ordered import quantile

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
