"""A wrong sampling rate: what a heart's time scale says about it.

QRS complexes last about 0.1 s, the T wave follows 0.3 s later, beats are 0.8 s apart, whatever the
rate. If a rate is wrong by a factor, all of these are wrong by it. Spectrum, autocorrelation of the
steepness (complexes, beats) and its correlation with the size of the signal (P and T waves around
complexes) are measured at the stated rate on logarithmic scales, where a factor is a shift.

Source: McFadden 1974, multinomial logit over factors, with weights that are a curve of the
logarithm of the factor; weights fitted by ``benchmarks/ecg/ecg_rates.py`` on folds 1 to
8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0) and on simulated hearts.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from medmcl.modalities.ecg.checks.learned import learned
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
    weight, bias = _weights_by_factor()
    score = np.concatenate([measured, measured**2]) @ weight + bias
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
    found = learned("rate")
    return found["weights"].reshape(2 * MEASURES, -1), found["biases"]


@cache
def _weights_by_factor() -> tuple[np.ndarray, np.ndarray]:
    """Weights of measures and their squares by factor, (2 * MEASURES, 12), and biases, (12,)."""
    weight, bias = weights()
    return weight @ curves(), bias


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
    span = _moving(span)
    short = span.shape[1] < SHORTEST_SECONDS * rate_hz
    if len(span) == 0 or short or rate_hz < 4 * BAND_HZ[0]:
        return None
    spectrum, rows = _band(span, rate_hz)
    slope = rows[:, 1:] - rows[:, :-1]
    power, mean = np.einsum("ls,ls->l", slope, slope), slope.sum(axis=1) / slope.shape[1]
    slope /= (np.sqrt(power / slope.shape[1] - mean**2) + 1e-12)[:, None]
    steep = _mean_size(slope)
    steep = np.minimum(steep, quantile(np.sort(steep), 0.99))
    size = _mean_size(rows)
    size = np.minimum((size[1:] + size[:-1]) / 2, quantile(np.sort(size), 0.99))
    lags = _correlate(steep, size)
    return np.concatenate([spectrum, *(b @ lag for b, lag in zip(_bins(), lags, strict=True))])


def _moving(span: np.ndarray) -> np.ndarray:
    """Leads that do not stay at their first value."""
    moves = (span != span[:, :1]).any(axis=1)
    return span if moves.all() else span[moves]


def _mean_size(rows: np.ndarray) -> np.ndarray:
    """Root mean square over leads, (S,)."""
    return np.asarray(np.sqrt(np.einsum("ls,ls->s", rows, rows) / len(rows)))


def _band(span: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Log power by frequency, and the leads between `BAND_HZ` at `GRID_HZ` with unit variance."""
    ramp, grid, band, kernel = _grid(span.shape[1], rate_hz)
    spectrum = np.fft.rfft(span - np.multiply.outer(span @ ramp / (ramp @ ramp), ramp), axis=1)
    spectrum[:, : band.start] = 0
    spectrum[:, band.stop :] = 0
    rows = np.fft.irfft(spectrum, grid, axis=1)
    spread = np.sqrt(np.einsum("ls,ls->l", rows, rows) / grid)
    moves = spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-30)
    wide = spectrum[:, band]
    if not moves.all():
        rows, wide, spread = rows[moves], wide[moves], spread[moves]
    rows /= spread[:, None]
    share = spread**-2 @ (wide.real**2 + wide.imag**2) / len(wide)
    energy = kernel @ share / max(float(share.sum()), 1e-30)
    return np.log10(energy + 1e-4), rows


@lru_cache(maxsize=64)
def _grid(length: int, rate_hz: float) -> tuple[np.ndarray, int, slice, np.ndarray]:
    """What `_band` needs for signals of one length and rate.

    Returns:
        A ramp from -1 to 1, (S,); samples on the grid; the frequencies of the spectrum that lie in
        `BAND_HZ`; and how they are averaged around `SPECTRUM_HZ`, (18, frequencies).
    """
    seconds = length / rate_hz
    grid = round(seconds * GRID_HZ)
    hertz = np.arange(min(length, grid) // 2 + 1) / seconds
    within = np.flatnonzero((hertz >= BAND_HZ[0]) & (hertz <= BAND_HZ[1]))
    band = slice(int(within[0]), int(within[-1]) + 1)
    near = np.abs(np.log(hertz[band])[None] - np.log(SPECTRUM_HZ)[:, None])
    kernel = np.maximum(0, 1 - near / np.log(SPECTRUM_HZ[1] / SPECTRUM_HZ[0]))
    return np.linspace(-1, 1, length), grid, band, kernel


def _correlate(steep: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlation of steepness with itself, and with the size later and earlier, by lag.

    Returns:
        (LONGEST,) each.
    """
    count = len(steep)
    both = np.stack([steep, size])
    both -= both.mean(axis=1, keepdims=True)
    whole = 1 << (count + max(count, LONGEST)).bit_length()
    spectrum = np.fft.rfft(both, whole, axis=1)
    product = np.fft.irfft(spectrum[0].conj() * spectrum, whole, axis=1)
    power = np.einsum("ns,ns->n", both, both)
    product /= np.maximum(np.sqrt(power[0] * power), 1e-12)[:, None]
    share = _share(count)
    later = product[:, :LONGEST] * share
    return later[0], later[1], product[1, _EARLIER] * share


_EARLIER = -np.arange(LONGEST)


@lru_cache(maxsize=64)
def _share(count: int) -> np.ndarray:
    """Make up for the samples that are missing at a lag; lags with hardly any count 0."""
    lags = np.arange(LONGEST)
    return np.where(lags < 0.8 * count, 1 / np.maximum(1 - lags / count, 0.2), 0.0)


@cache
def _centres() -> np.ndarray:
    return np.log(np.maximum(np.arange(LONGEST), 1e-3) / GRID_HZ)


@cache
def _bins() -> tuple[np.ndarray, ...]:
    """Weights that average lags around some seconds, on a logarithmic scale, (bins, LONGEST)."""
    every = (AGAIN_SECONDS, AFTER_SECONDS, BEFORE_SECONDS)
    return tuple(_averages(seconds) for seconds in every)


def _averages(seconds: np.ndarray) -> np.ndarray:
    step = np.log(seconds[1] / seconds[0])
    rows = []
    for centre in seconds:
        weight = np.maximum(0, 1 - np.abs(_centres() - np.log(centre)) / step)
        if (weight > 0).sum() < 3:  # lags are sparse here: read between two of them
            lag = centre * GRID_HZ
            weight = np.maximum(0, 1 - np.abs(np.arange(LONGEST) - lag))
        rows.append(weight / weight.sum())
    return np.stack(rows)
