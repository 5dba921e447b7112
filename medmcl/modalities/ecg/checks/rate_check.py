"""A sampling rate that is not the file's, or at which the heart's time scale is unusual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.ecg.checks import rate as ecg_rate
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.rate import FACTORS, NEAR, RIGHT
from medmcl.modalities.ecg.checks.sinus import device_rate, sinus_beats
from medmcl.modalities.ecg.checks.values import fault, judged

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


def check_rate(
    look: Look, used: Sequence[str], declared: float | None, where: str, among: int = 1
) -> Iterator[Finding]:
    """A declared rate that is not the header's, or a time scale that is not a heart's.

    A rate is doubted only where another, of a device, makes the ECG a plain sinus rhythm
    (`sinus`): fast, wide, paced and irregular rhythms say nothing about it. Looks are an error
    only with another sign: the record would last as long as usual at the other rate, or the heart
    beats as none does. ``among`` is as `medmcl.core.contracts.WeighsOdds` says. Rates of detection
    and of false alarms: ``docs/data_formats.md``.
    """
    record = look.record
    stated = record.header_rate_hz
    if stated is not None and declared is not None and abs(declared - stated) > 1e-3 * stated:
        what = f"cohort.yaml says {declared:g} Hz, the file says {stated:g} Hz"
        fix = f"set rate_hz: {stated:g}, or leave rate_hz out: the file is believed"
        yield fault("wrong_rate", where, what, fix)
        return
    shape = rate_odds(look, used)
    if shape is None:
        return
    length = ecg_rate.length_odds(record.seconds, len(record.leads))
    odds = shape + length
    best, most = worst(odds)
    if most <= RATE_DOUBT:
        yield from _near(look, used, shape, length, where)
        return
    close = sorted((n for n in _FAR if odds[n] > odds[best] - ALSO), key=lambda n: -odds[n])
    plain = {n: sinus for n in close if (sinus := would_be(look, used, n)) is not None}
    if not plain:
        return
    likely = " or ".join(f"{sinus.rate_hz:g}" for sinus in plain.values())
    bar = RATE_ERROR + np.log(among)
    beats = look.pulse(used)[0]
    sure = any(odds[n] > bar and second_sign(n, length, beats) for n in plain)
    said = f"{_told(look, used, [*plain.values()])}; log-odds {most:.1f} that this is its rate"
    to_fix = f"set rate_hz: {next(iter(plain.values())).rate_hz:g}"
    if stated is not None:
        to_fix = "correct the file's header"
    if sure:
        fix = judged(f"the rate is likely {likely} Hz: {to_fix}", "wrong_rate")
        yield fault("wrong_rate", where, f"hardly any heart looks like this: {said}", fix)
    else:
        fix = f"see whether the rate is {likely} Hz: {to_fix} if so"
        yield fault("wrong_rate", where, f"few hearts look like this: {said}", fix, "warning")


def _near(
    look: Look, used: Sequence[str], shape: np.ndarray, length: np.ndarray, where: str
) -> Iterator[Finding]:
    """Doubt a rate that is off by a quarter, where the length would then be the usual one."""
    for place in _CLOSE:
        if length[place] <= 0 or shape[place] <= 0:
            continue
        sinus = would_be(look, used, place)
        if sinus is not None:
            what = (
                f"{_told(look, used, [sinus])}; at {sinus.rate_hz:g} Hz the record lasts "
                f"{ecg_rate.USUAL_SECONDS:g} s, as usual"
            )
            fix = f"see whether the rate is {sinus.rate_hz:g} Hz"
            yield fault("wrong_rate", where, what, fix, "warning")


@dataclass(frozen=True)
class Sinus:
    """What an ECG would be at another rate.

    Attributes:
        rate_hz: The other rate, of a device.
        beats: Beats a minute of the plain sinus rhythm at it.
    """

    rate_hz: float
    beats: float


def would_be(look: Look, used: Sequence[str], number: int) -> Sinus | None:
    """Give the sinus rhythm that an ECG is at another rate, place ``number`` of `FACTORS`.

    None if no device has this rate, or the ECG is no plain sinus rhythm at it: then nothing is
    said of its rate.
    """
    device = device_rate(look.record.rate_hz / FACTORS[number])
    if device is None:
        return None
    beats = sinus_beats(look.beginning(used), device)
    return None if beats is None else Sinus(device, beats)


def rate_odds(look: Look, used: Sequence[str]) -> np.ndarray | None:
    """Log-odds of `ecg_rate.FACTORS` by the shape of the signal; None where no heart beats."""
    if np.isnan(look.pulse(used)[0]):
        return None
    return ecg_rate.log_odds(look.beginning(used), look.record.rate_hz)


def second_sign(number: int, length: np.ndarray, beats: float) -> bool:
    """Whether more than looks speaks for a factor: length, or beats that no heart has.

    Args:
        number: Place in `FACTORS`.
        length: `ecg_rate.length_odds` of the record.
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


def _told(look: Look, used: Sequence[str], plain: Sequence[Sinus]) -> str:
    """Say how fast the heart beats at the stated rate, and at others."""
    beats, width = look.pulse(used)
    others = " or ".join(f"{one.beats:.0f} at {one.rate_hz:g} Hz" for one in plain)
    return (
        f"at {look.record.rate_hz:g} Hz the heart beats {beats:.0f} times a minute with complexes "
        f"of {width * 1000:.0f} ms; it is a sinus rhythm of {others}"
    )
