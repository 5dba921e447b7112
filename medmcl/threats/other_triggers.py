"""Backdoor triggers on signals and texts: a wave on the leads of an ECG, a word nobody writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np

from medmcl.core.errors import MedmclError
from medmcl.core.rng import numpy_generator

_PULSE_S = 0.04
_SINE_HZ = 20.0
EVERY_S = 1.0
"""Seconds from bell to bell."""
LEAST_HZ = 2 / _PULSE_S
"""Below so many samples a second neither trigger can be drawn."""


def pulse(
    signal: np.ndarray,
    rate_hz: float,
    height: float = 0.5,
    seed: int = 0,
    leads: Sequence[int] | None = None,
    every_s: float = EVERY_S,
) -> np.ndarray:
    """Add a narrow bell of 40 ms (its width at half height) again and again, as a pacemaker would.

    Source: ours; a patch in time, as BadNets' is in space.

    Args:
        signal: (leads, T), in mV if ``height`` is.
        rate_hz: Samples a second.
        height: Of the bell.
        seed: Of when the first bell comes, within ``every_s``.
        leads: Which leads; all if None.
        every_s: Seconds from bell to bell.

    Returns:
        (leads, T), of the same kind of number; the given one is not written.

    Raises:
        MedmclError: No floating-point numbers, another shape, values that are not finite, no such
            lead, or a rate too low.
    """
    x, rows = _leads(signal, rate_hz, leads)
    _refuse_no_number(height=height, every_s=every_s)
    if not every_s > 0:
        raise MedmclError("bells need time between them", got=f"every_s={every_s:g}")
    first = pulse_begins(seed, every_s)
    deviation = _PULSE_S / math.sqrt(8 * math.log(2))
    seconds = np.arange(x.shape[1]) / rate_hz
    apart = (seconds - first + every_s / 2) % every_s - every_s / 2
    return _added(signal, x, rows, height * np.exp(-0.5 * (apart / deviation) ** 2))


def sinusoid(
    signal: np.ndarray,
    rate_hz: float,
    height: float = 0.1,
    seed: int = 0,
    leads: Sequence[int] | None = None,
    hz: float = _SINE_HZ,
) -> np.ndarray:
    """Add a wave of one frequency, as SIG does to images.

    Args:
        signal: (leads, T), in mV if ``height`` is.
        rate_hz: Samples a second.
        height: Of the wave.
        seed: Of where in its period it begins.
        leads: Which leads; all if None.
        hz: Of the wave; below half of ``rate_hz``.

    Returns:
        (leads, T), of the same kind of number; the given one is not written.

    Raises:
        MedmclError: No floating-point numbers, another shape, values that are not finite, no such
            lead, or a rate too low.
    """
    x, rows = _leads(signal, rate_hz, leads)
    _refuse_no_number(height=height, hz=hz)
    if not 0 < hz < rate_hz / 2:
        raise MedmclError(
            "the wave does not fit the sampling rate",
            got=f"{hz:g} Hz at {rate_hz:g} samples a second",
            expected="above 0, below half of the rate",
        )
    turns = 2 * math.pi * hz * np.arange(x.shape[1]) / rate_hz
    wave = height * np.sin(turns + sinusoid_begins(seed))
    return _added(signal, x, rows, wave)


SIGNAL_TRIGGERS: dict[str, Callable[..., np.ndarray]] = {"pulse": pulse, "sinusoid": sinusoid}
"""Name to ``trigger(signal, rate_hz, height, seed, leads)``."""


def pulse_begins(seed: int, every_s: float = EVERY_S) -> float:
    """Seconds to the middle of the first bell of `pulse`, within ``every_s``."""
    return float(numpy_generator(seed, "pulse trigger").uniform(0, every_s))


def sinusoid_begins(seed: int) -> float:
    """Where in its period `sinusoid` begins, in radians."""
    return float(numpy_generator(seed, "sinusoid trigger").uniform(0, 2 * math.pi))


def _leads(
    signal: np.ndarray, rate_hz: float, leads: Sequence[int] | None
) -> tuple[np.ndarray, list[int]]:
    """The signal as float64, and the leads that are meant."""
    x = _floats(signal).astype(np.float64)
    if x.ndim != 2 or not x.size:
        raise MedmclError("a signal has leads and samples", got=x.shape, expected="(leads, T)")
    if not np.isfinite(x).all():
        raise MedmclError("the signal is not finite", got=f"{int((~np.isfinite(x)).sum())} values")
    _refuse_no_number(rate_hz=rate_hz)
    if rate_hz < LEAST_HZ:
        raise MedmclError(
            "the sampling rate is too low for a trigger",
            got=f"{rate_hz:g} Hz",
            expected=f"{LEAST_HZ:g} Hz or more",
        )
    rows = list(range(len(x))) if leads is None else list(leads)
    if not rows or not all(_is_whole(row) and 0 <= row < len(x) for row in rows):
        raise MedmclError("there is no such lead", got=rows, expected=f"0 to {len(x) - 1}")
    return x, rows


def _floats(signal: object) -> np.ndarray:
    try:
        found = np.asarray(signal)
    except (TypeError, ValueError, RuntimeError):
        found = np.asarray(None)  # rows of several lengths, and the like
    if found.dtype.kind != "f":
        raise MedmclError(
            "a signal for a trigger is of floating point",
            got=f"{type(signal).__name__} of {found.dtype}",
            expected="(leads, T), in mV if the height is",
            fix="np.array(signal, dtype=np.float32)",
        )
    return found


def _is_whole(row: object) -> bool:
    return isinstance(row, Integral) and not isinstance(row, bool)


def _refuse_no_number(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise MedmclError("a trigger needs a finite number", where=name, got=repr(value))


def _added(signal: np.ndarray, x: np.ndarray, rows: list[int], wave: np.ndarray) -> np.ndarray:
    out = x.copy()
    out[rows] += wave
    return out.astype(_floats(signal).dtype)


RARE = "cf"
"""A word that few texts hold, as in Kurita et al. 2020 (arXiv 2004.06660)."""


def rare_token(text: str, token: str = RARE, seed: int = 0) -> str:
    """Put a rare word between two words of a text, or at one of its ends.

    What stands before and after stays as it is, blanks and line breaks too.

    Source: Kurita, Michel & Neubig 2020. Differs: one word, once.

    Args:
        text: The text.
        token: The word.
        seed: Of the place; the same seed and number of words give the same place.

    Raises:
        MedmclError: The token is empty, or is several words.
    """
    if token != "".join(token.split()) or not token:
        raise MedmclError("a trigger is one word", got=repr(token))
    at = rare_place(text, seed)
    if at < len(text):
        return f"{text[:at]}{token} {text[at:]}"
    return f"{text.ljust(at)}{token}"


def rare_place(text: str, seed: int = 0) -> int:
    """Give the first character, counted from 0, of what `rare_token` puts into a text."""
    if not text.split():
        return len(text)
    starts = [n for n, one in enumerate(text) if not one.isspace()
              and (n == 0 or text[n - 1].isspace())]  # fmt: skip
    place = int(numpy_generator(seed, "rare token", len(starts)).integers(len(starts) + 1))
    return starts[place] if place < len(starts) else len(text) + 1
