"""A wrong sampling rate: what a heart's time scale says about it.

QRS complexes last about 0.1 s, the T wave follows 0.3 s later, beats are 0.8 s apart, whatever the
rate. If a rate is wrong by a factor, all of these are wrong by it. Spectrum, autocorrelation of the
steepness (complexes, beats) and its correlation with the size of the signal (P and T waves around
complexes) are measured at the stated rate on logarithmic scales, where a factor is a shift.

Source: McFadden 1974, multinomial logit over factors, with weights that are a curve of the
logarithm of the factor; weights fitted by ``benchmarks/ecg_rates.py`` on folds 1 to
8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0) and on simulated hearts.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from medmcl.modalities.ecg_rate_weights import BIASES, WEIGHTS
from medmcl.modalities.ordered import quantile

FACTORS = (0.1, 0.2, 0.25, 0.4, 0.5, 0.8, 1.0, 1.25, 2.0, 2.5, 4.0, 5.0)
"""Stated rate over true rate; those of usual rates (100, 125, 200, 250, 400, 500, 1000 Hz)."""
RIGHT = FACTORS.index(1.0)
NEAR = (0.8, 1.25)
"""Factors by which hearts differ from one another: one record does not tell them."""
USUAL_SECONDS = 10.0
"""How long a 12-lead ECG at rest lasts nearly everywhere."""
USUAL_LEADS = 8
"""Fewest leads of an ECG whose length is expected to be the usual one."""
LENGTH_ODDS = 3.0
"""Log-odds that the usual length adds to the rate at which it is exactly this; not fitted."""

GRID_HZ = 100
"""Signals are brought to this rate, as stated, before they are measured."""
BAND_HZ = (0.5, 40.0)
"""What lies outside differs from device to device."""
SHORTEST_SECONDS = 1.2
SPECTRUM_HZ = np.geomspace(0.8, 36.0, 18)
AGAIN_SECONDS = np.geomspace(0.015, 2.5, 24)
AFTER_SECONDS = np.geomspace(0.04, 0.9, 14)
BEFORE_SECONDS = np.geomspace(0.04, 0.6, 11)
MEASURES = len(SPECTRUM_HZ) + len(AGAIN_SECONDS) + len(AFTER_SECONDS) + len(BEFORE_SECONDS)
LONGEST = 300
"""Lags, in samples of the grid, that are looked at."""


def log_odds(span: np.ndarray, rate_hz: float) -> np.ndarray | None:
    """Weigh wrong rates against the stated one by the time scale of the heart alone.

    Args:
        span: Leads in any unit, finite, (L, S).
        rate_hz: Samples a second, as stated.

    Returns:
        Log-odds of each of `FACTORS` against 1, (12,); positive: the rate is likelier wrong by this
        factor. None as `measure`.
    """
    measured = measure(span, rate_hz)
    if measured is None:
        return None
    weight, bias = weights()
    score = np.concatenate([measured, measured**2]) @ weight @ curves() + bias
    return np.asarray(score - score[RIGHT])


def length_odds(seconds: float, leads: int, usual: float = USUAL_SECONDS) -> np.ndarray:
    """Log-odds that the length of a record adds to each of `FACTORS`, (12,).

    Args:
        seconds: Length at the stated rate.
        leads: Number of leads.
        usual: Length that is expected.
    """
    odds = np.zeros(len(FACTORS))
    if leads < USUAL_LEADS:
        return odds
    odds[np.abs(seconds * np.array(FACTORS) / usual - 1) < 0.003] = LENGTH_ODDS
    return np.asarray(odds - odds[RIGHT])


@cache
def weights() -> tuple[np.ndarray, np.ndarray]:
    """Weights of measures and their squares by curve, (2 * MEASURES, 4), and biases, (12,)."""
    weight = np.array(WEIGHTS.split(), dtype=float).reshape(2 * MEASURES, -1)
    return weight, np.array(BIASES.split(), dtype=float)


def curves() -> np.ndarray:
    """Curves of the logarithm of the factor that weights are sums of, (4, 12); 0 at factor 1."""
    log = np.log(FACTORS)
    return np.stack([log, np.abs(log), log**2, log**3])


def measure(span: np.ndarray, rate_hz: float) -> np.ndarray | None:
    """Measure the time scale of a signal at a rate.

    Args:
        span: Leads in any unit, finite, (L, S).
        rate_hz: Samples a second, as stated.

    Returns:
        Logarithm of the spectrum, autocorrelation of the steepness, and correlation of steepness
        with the size of what comes after and before, (MEASURES,). None if there is too little
        signal, or no lead moves.
    """
    span = span[(span != span[:, :1]).any(axis=1)]
    if len(span) == 0 or span.shape[1] < SHORTEST_SECONDS * rate_hz:
        return None
    power, rows = _band(span, rate_hz)
    slope = np.diff(rows, axis=1)
    slope /= slope.std(axis=1, keepdims=True) + 1e-12
    steep = np.sqrt((slope**2).mean(axis=0))
    steep = np.minimum(steep, quantile(np.sort(steep), 0.99))
    size = np.sqrt((rows**2).mean(axis=0))
    size = np.minimum((size[1:] + size[:-1]) / 2, quantile(np.sort(size), 0.99))
    again, _ = _correlate(steep, steep)
    after, before = _correlate(steep, size)
    return np.concatenate(
        [
            power,
            _bins(AGAIN_SECONDS) @ again,
            _bins(AFTER_SECONDS) @ after,
            _bins(BEFORE_SECONDS) @ before,
        ]
    )


def _band(span: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Log power by frequency, and the leads between `BAND_HZ` at `GRID_HZ` with unit variance."""
    length = span.shape[1]
    seconds = length / rate_hz
    ramp = np.linspace(-1, 1, length)
    span = span - span.mean(axis=1, keepdims=True)
    span = span - np.outer(span @ ramp / (ramp @ ramp), ramp)
    spectrum = np.fft.rfft(span, axis=1)
    grid = round(seconds * GRID_HZ)
    wide = np.zeros((len(span), grid // 2 + 1), dtype=complex)
    count = min(wide.shape[1], spectrum.shape[1])
    wide[:, :count] = spectrum[:, :count]
    hertz = np.arange(wide.shape[1]) / seconds
    wide[:, (hertz < BAND_HZ[0]) | (hertz > BAND_HZ[1])] = 0
    rows = np.fft.irfft(wide, grid, axis=1)
    spread = rows.std(axis=1)
    moves = spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-30)
    rows = rows[moves] / spread[moves, None]
    share = (np.abs(wide[moves]) ** 2 / (spread[moves, None] ** 2)).mean(axis=0)
    near = np.abs(np.log(np.maximum(hertz, 1e-9))[None] - np.log(SPECTRUM_HZ)[:, None])
    step = np.log(SPECTRUM_HZ[1] / SPECTRUM_HZ[0])
    kernel = np.maximum(0, 1 - near / step) * (hertz > 0)
    energy = kernel @ share / max(float(share.sum()), 1e-30)
    return np.log10(energy + 1e-4), rows


def _correlate(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of ``one`` with ``other`` later and earlier, by lag, (LONGEST,) each."""
    one, other = one - one.mean(), other - other.mean()
    count = len(one)
    size = 1 << (count + max(count, LONGEST)).bit_length()
    spectrum = np.fft.rfft(one, size).conj() * np.fft.rfft(other, size)
    product = np.fft.irfft(spectrum, size)
    product /= max(float(np.sqrt((one @ one) * (other @ other))), 1e-12)
    lags = np.arange(LONGEST)
    seen = lags < 0.8 * count
    share = np.where(seen, 1 / np.maximum(1 - lags / count, 0.2), 0.0)
    return product[lags] * share, product[-lags] * share


@cache
def _centres() -> np.ndarray:
    return np.log(np.maximum(np.arange(LONGEST), 1e-3) / GRID_HZ)


def _bins(seconds: np.ndarray) -> np.ndarray:
    """Weights that average lags around some seconds, on a logarithmic scale, (bins, LONGEST)."""
    return _weights_of(tuple(seconds))


@cache
def _weights_of(seconds: tuple[float, ...]) -> np.ndarray:
    step = np.log(seconds[1] / seconds[0])
    rows = []
    for centre in seconds:
        weight = np.maximum(0, 1 - np.abs(_centres() - np.log(centre)) / step)
        if (weight > 0).sum() < 3:  # lags are sparse here: read between two of them
            lag = centre * GRID_HZ
            weight = np.maximum(0, 1 - np.abs(np.arange(LONGEST) - lag))
        rows.append(weight / weight.sum())
    return np.stack(rows)
