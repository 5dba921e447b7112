"""Backdoor triggers on signals and texts: a wave on the leads of an ECG, a word nobody writes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from medmcl.core.errors import MedmclError, damage
from medmcl.core.rng import numpy_generator

_PULSE_S = 0.04
_SINE_HZ = 20.0
EVERY_S = 1.0
"""Seconds from bell to bell."""
LEAST_HZ = 2 / _PULSE_S
"""Below so many samples a second neither trigger can be drawn."""


@dataclass(frozen=True)
class SignalTrigger:
    """A wave that is added to the leads of a signal.

    Attributes:
        name: Of the trigger.
        wave: Of the numbers of samples, (T,), samples a second, and where it begins: (T,), 1 high.
        height: In mV.
        begins: What the place where it begins is called, with its unit.
        before: Where it begins at the latest, in that unit.
    """

    name: str
    wave: Callable[[np.ndarray, float, float], np.ndarray]
    height: float
    begins: str
    before: float

    def begin(self, seed: int) -> float:
        """Where it begins, in its unit, drawn by a seed."""
        return float(numpy_generator(seed, f"{self.name} trigger").uniform(0, self.before))

    def __call__(
        self,
        signal: object,
        rate_hz: float,
        height: float | None = None,
        seed: int = 0,
        leads: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Lay the trigger over a signal.

        Args:
            signal: (leads, T), in mV if ``height`` is.
            rate_hz: Samples a second.
            height: Of the wave; the trigger's own if None.
            seed: Of where it begins.
            leads: Which leads; all if None.

        Returns:
            (leads, T), of the same kind of number; the given one is not written.

        Raises:
            MedmclError: No floating-point numbers, another shape, values that are not finite, no
                such lead, or a rate too low.
        """
        given = _signal_of(signal)
        height = self.height if height is None else height
        for name, value, least, expected in (
            ("rate_hz", rate_hz, LEAST_HZ, f"{LEAST_HZ:g} Hz or more"),
            ("height", height, -math.inf, "a finite number"),
        ):
            if not isinstance(value, Real) or not math.isfinite(value) or value < least:
                what = "no trigger can be drawn with such a number"
                raise MedmclError(what, where=name, got=repr(value), expected=expected)
        rows = list(range(len(given))) if leads is None else list(leads)
        whole = [one for one in rows if isinstance(one, Integral) and not isinstance(one, bool)]
        if not rows or whole != rows or not 0 <= min(whole) <= max(whole) < len(given):
            raise MedmclError("there is no such lead", got=rows, expected=f"0 to {len(given) - 1}")
        found = given.astype(np.float64)
        found[rows] += height * self.wave(np.arange(given.shape[1]), rate_hz, self.begin(seed))
        return found.astype(given.dtype)


def _signal_of(signal: object) -> np.ndarray:
    what = "a signal for a trigger has leads and samples, of floating point"
    expected = "(leads, T), all finite, in mV if the height is"
    fix = "np.array(signal, dtype=np.float32)"
    with damage("signal", what, error=MedmclError, expected=expected, fix=fix):
        found = np.asarray(signal)
    is_float = found.dtype.kind == "f"
    bad = int((~np.isfinite(found)).sum()) if is_float else 0
    if not is_float or found.ndim != 2 or not found.size or bad:
        got = f"{type(signal).__name__} of {found.dtype}, {found.shape}, {bad:,} values not finite"
        raise MedmclError(what, where="signal", got=got, expected=expected, fix=fix)
    return found


def pulse(samples: np.ndarray, rate_hz: float, first: float) -> np.ndarray:
    """Give a narrow bell of 40 ms (its width at half height) every second, as of a pacemaker.

    Source: ours; a patch in time, as BadNets' is in space.

    Args:
        samples: Their numbers, (T,).
        rate_hz: Samples a second.
        first: Seconds to the middle of the first bell.
    """
    deviation = _PULSE_S / math.sqrt(8 * math.log(2))
    apart = (samples / rate_hz - first + EVERY_S / 2) % EVERY_S - EVERY_S / 2
    return np.asarray(np.exp(-0.5 * (apart / deviation) ** 2))


def sinusoid(samples: np.ndarray, rate_hz: float, phase: float) -> np.ndarray:
    """Give a wave of 20 Hz, as SIG does to images.

    Args:
        samples: Their numbers, (T,).
        rate_hz: Samples a second.
        phase: Where in its period it is at the first sample, in radians.
    """
    return np.asarray(np.sin(2 * math.pi * _SINE_HZ * samples / rate_hz + phase))


SIGNAL_TRIGGERS = {
    one.name: one
    for one in (
        SignalTrigger("pulse", pulse, 0.5, "first_s", EVERY_S),
        SignalTrigger("sinusoid", sinusoid, 0.1, "phase_rad", 2 * math.pi),
    )
}
"""Name to ``trigger(signal, rate_hz, height, seed, leads)``."""

RARE = "cf"
"""A word that few texts hold, as in Kurita et al. 2020 (arXiv 2004.06660)."""


def rare_token(text: str, seed: int = 0) -> str:
    """Put `RARE` between two words of a text, or at one of its ends.

    What stands before and after stays as it is, blanks and line breaks too.

    Source: Kurita, Michel & Neubig 2020. Differs: one word, once.

    Args:
        text: The text.
        seed: Of the place; the same seed and number of words give the same place.
    """
    at = rare_place(text, seed)
    if at < len(text):
        return f"{text[:at]}{RARE} {text[at:]}"
    return f"{text.ljust(at)}{RARE}"


def rare_place(text: str, seed: int = 0) -> int:
    """Give the first character, counted from 0, of what `rare_token` puts into a text."""
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    if not starts:
        return len(text)
    place = int(numpy_generator(seed, "rare token", len(starts)).integers(len(starts) + 1))
    return starts[place] if place < len(starts) else len(text) + 1
