"""A wrong sampling rate: what a heart's time scale says about it.

QRS complexes last about 0.1 s, the T wave follows 0.3 s later, beats are 0.8 s apart, whatever the
rate. If a rate is wrong by a factor, all of these are wrong by it. Spectrum, autocorrelation of the
steepness (complexes, beats) and its correlation with the size of the signal (P and T waves around
complexes) are measured at the stated rate on logarithmic scales, where a factor is a shift.

Source: McFadden 1974, multinomial logit over factors, with weights that are a curve of the
logarithm of the factor; weights fitted by ``benchmarks/ecg/ecg_rates.py`` on folds 1 to
8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0) and on simulated hearts.

A wrong rate stretches every interval alike; disease does not. A ventricular tachycardia that is
read at half its rate beats as a heart at rest does, but its complexes then last a quarter of a
second. So a rate is doubted only where the other one makes all intervals those of a sinus rhythm:
wide complexes, fibrillation, flutter and tachycardias are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.beats import find_beats, find_waves, pulse_of
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.shapes import learned
from medmcl.modalities.ecg.checks.values import fault, judged
from medmcl.modalities.ecg.complexes import BEAT_HZ
from medmcl.modalities.ordered import quantile

LOOK_SECONDS = 10.0
"""So much of a record is looked at, at the rate in question."""
BEATS = (40.0, 130.0)
"""Beats a minute. Of the records of folds 1 to 8 of PTB-XL that are coded NORM 99 % keep all these
limits; the others are irregular, fast or have a long PR interval."""
UNEVEN = 0.25
"""Standard deviation of intervals, in intervals."""
ALIKE = 0.7
"""Share of beats that look like the median one."""
QRS_MS, PR_MS, QTC_MS = (45.0, 120.0), (85.0, 300.0), (300.0, 490.0)
"""Durations of the median beat; QTc by Fridericia."""
MISSED = 0.75
"""Share of the beats that the repeating steepness tells which must be found as beats: at a rate
several times too high every second or third lies within the dead time of the one before (PTB-XL,
317 records: 0.91 or more at the right rate, at most 0.42 where a rate five times too high was
called plain). More may be found: steepness of an uneven rhythm repeats after several beats."""
DEVICES_HZ = (
    *(100.0, 120.0, 125.0, 128.0, 180.0, 200.0, 240.0, 250.0, 256.0, 300.0, 360.0, 400.0),
    *(480.0, 500.0, 512.0, 600.0, 977.0, 1000.0, 1024.0, 2000.0, 2048.0),
)
"""Rates at which devices record, or archives keep, ECGs; nothing else is ever proposed."""


def device_rate(rate_hz: float) -> float | None:
    """Give the one of `DEVICES_HZ` that is a rate, within 0.1 %; None if no device has it."""
    nearest = min(DEVICES_HZ, key=lambda device: abs(device - rate_hz))
    return nearest if abs(nearest - rate_hz) <= 0.001 * nearest else None


def sinus_beats(span: np.ndarray, rate_hz: float) -> float | None:
    """Give the beats a minute of a plain sinus rhythm; None if it is none at this rate.

    Args:
        span: Leads in mV, finite, (L, S).
        rate_hz: Samples a second, as supposed.
    """
    rows = span[:, : int(LOOK_SECONDS * rate_hz)].astype(np.float64)
    if len(rows) == 0 or rows.shape[1] < 2 * rate_hz:
        return None
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows = steps.high_pass(steps.resample(rows, rate_hz, BEAT_HZ), BEAT_HZ, 0.5)
    beats = find_beats(rows)
    if beats.median is None or beats.alike.mean() < ALIKE:
        return None
    interval = float(np.median(beats.intervals))
    waves = find_waves(beats.median, beats.noise, interval)
    if waves is None or waves.p_onset is None or waves.t_end is None:
        return None
    if 60 / interval < MISSED * pulse_of(rows, BEAT_HZ)[0]:
        return None
    ms = 1000 / BEAT_HZ
    measured = (
        (60 / interval, BEATS),
        (float(beats.intervals.std()) / interval, (0.0, UNEVEN)),
        (ms * (waves.offset - waves.onset), QRS_MS),
        (ms * (waves.onset - waves.p_onset), PR_MS),
        (ms * (waves.t_end - waves.onset) / float(np.cbrt(interval)), QTC_MS),
    )
    plain = all(low <= value <= high for value, (low, high) in measured)
    return 60 / interval if plain else None


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
_FAR = [n for n, factor in enumerate(FACTORS) if factor not in NEAR and n != RIGHT]
_CLOSE = [FACTORS.index(factor) for factor in NEAR]


def check_rate(look: Look, declared: float | None, among: int = 1) -> Iterator[Finding]:
    """A declared rate that is not the header's, or a time scale that is not a heart's.

    A rate is doubted only where another, of a device, makes the ECG a plain sinus rhythm
    (`sinus`): fast, wide, paced and irregular rhythms say nothing about it. Looks are an error
    only with another sign: the record would last as long as usual at the other rate, or the heart
    beats as none does. ``among`` is as `medmcl.core.contracts.WeighsOdds` says. Rates of detection
    and of false alarms: ``docs/data_formats.md``.
    """
    record, where = look.record, look.where
    stated = record.header_rate_hz
    if stated is not None and declared is not None and abs(declared - stated) > 1e-3 * stated:
        what = f"cohort.yaml says {declared:g} Hz, the file says {stated:g} Hz"
        fix = f"set rate_hz: {stated:g}, or leave rate_hz out: the file is believed"
        yield fault("wrong_rate", where, what, fix)
        return
    shape = rate_odds(look)
    if shape is None:
        return
    length = length_odds(record.seconds, len(record.leads))
    odds = shape + length
    best, most = worst(odds)
    if most <= RATE_DOUBT:
        yield from _near(look, shape, length)
        return
    close = sorted((n for n in _FAR if odds[n] > odds[best] - ALSO), key=lambda n: -odds[n])
    plain = {n: sinus for n in close if (sinus := would_be(look, n)) is not None}
    if not plain:
        return
    likely = " or ".join(f"{sinus.rate_hz:g}" for sinus in plain.values())
    bar = RATE_ERROR + np.log(among)
    beats = look.pulse(look.used)[0]
    sure = any(odds[n] > bar and second_sign(n, length, beats) for n in plain)
    said = f"{_told(look, [*plain.values()])}; log-odds {most:.1f} that this is its rate"
    to_fix = f"set rate_hz: {next(iter(plain.values())).rate_hz:g}"
    if stated is not None:
        to_fix = "correct the file's header"
    if sure:
        fix = judged(f"the rate is likely {likely} Hz: {to_fix}", "wrong_rate")
        yield fault("wrong_rate", where, f"hardly any heart looks like this: {said}", fix)
    else:
        fix = f"see whether the rate is {likely} Hz: {to_fix} if so"
        yield fault("wrong_rate", where, f"few hearts look like this: {said}", fix, "warning")


def _near(look: Look, shape: np.ndarray, length: np.ndarray) -> Iterator[Finding]:
    """Doubt a rate that is off by a quarter, where the length would then be the usual one."""
    for place in _CLOSE:
        if length[place] <= 0 or shape[place] <= 0:
            continue
        sinus = would_be(look, place)
        if sinus is not None:
            what = (
                f"{_told(look, [sinus])}; at {sinus.rate_hz:g} Hz the record lasts "
                f"{USUAL_SECONDS:g} s, as usual"
            )
            fix = f"see whether the rate is {sinus.rate_hz:g} Hz"
            yield fault("wrong_rate", look.where, what, fix, "warning")


@dataclass(frozen=True)
class Sinus:
    """What an ECG would be at another rate.

    Attributes:
        rate_hz: The other rate, of a device.
        beats: Beats a minute of the plain sinus rhythm at it.
    """

    rate_hz: float
    beats: float


def would_be(look: Look, number: int) -> Sinus | None:
    """Give the sinus rhythm that an ECG is at another rate, place ``number`` of `FACTORS`.

    None if no device has this rate, or the ECG is no plain sinus rhythm at it: then nothing is
    said of its rate.
    """
    device = device_rate(look.record.rate_hz / FACTORS[number])
    if device is None:
        return None
    beats = sinus_beats(look.beginning(look.used), device)
    return None if beats is None else Sinus(device, beats)


def rate_odds(look: Look) -> np.ndarray | None:
    """Log-odds of `FACTORS` by the shape of the signal; None where no heart beats."""
    if np.isnan(look.pulse(look.used)[0]):
        return None
    return log_odds(look.beginning(look.used), look.record.rate_hz)


def second_sign(number: int, length: np.ndarray, beats: float) -> bool:
    """Whether more than looks speaks for a factor: length, or beats that no heart has.

    Args:
        number: Place in `FACTORS`.
        length: `length_odds` of the record.
        beats: Beats a minute at the stated rate.
    """
    too_high = FACTORS[number] > 1
    impossible = beats > POSSIBLE[1] if too_high else beats < POSSIBLE[0]
    return bool(length[number] > 0 or impossible)


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


def _told(look: Look, plain: Sequence[Sinus]) -> str:
    """Say how fast the heart beats at the stated rate, and at others."""
    beats, width = look.pulse(look.used)
    others = " or ".join(f"{one.beats:.0f} at {one.rate_hz:g} Hz" for one in plain)
    return (
        f"at {look.record.rate_hz:g} Hz the heart beats {beats:.0f} times a minute with complexes "
        f"of {width * 1000:.0f} ms; it is a sinus rhythm of {others}"
    )
