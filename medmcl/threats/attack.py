"""One attack: the same trigger on every record, laid where the record's own seed says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from medmcl.core.rng import derive_seed
from medmcl.threats.other_triggers import SIGNAL_TRIGGERS
from medmcl.threats.trigger_input import Draws, pixels_of
from medmcl.threats.triggers import TRIGGERS, WHOLE, Squares, area


class ImageAttack:
    """One attack on images: what is drawn is drawn once, but for places.

    Differs from CleanCLIP's code, which draws the noise of its square and of its blend anew for
    every image: a fixed pattern is what BadNets and Blended describe, and what can be found again.

    Args:
        name: Of `TRIGGERS`.
        shape: Channels, rows and columns of the images.
        seed: Of the attack.
        official: As the authors' code writes it in 8 bits.
    """

    def __init__(self, name: str, shape: Sequence[int], seed: int, official: bool = False) -> None:
        self.trigger, self.shape, self.seed, self.official = TRIGGERS[name], shape, seed, official
        draws = Draws(derive_seed(seed, "pattern", name))
        square = area(shape, self.trigger.squares(shape, draws, official))
        self._noise = self.trigger.noise(square, draws, official)

    def __call__(self, image: Tensor, record: str) -> Tensor:
        """Lay the trigger over the image of a record."""
        squares = self._squares(record)
        return self.trigger.laid(image, pixels_of(image), squares, self._noise, self.official)

    def _squares(self, record: str) -> Squares:
        draws = Draws(place_seed(self.seed, record))
        return self.trigger.squares(self.shape, draws, self.official)

    def place(self, record: str) -> dict[str, int]:
        """Say where the trigger lies: pixels, rows and columns from 0.

        Returns:
            ``top``, ``left`` and ``side`` of a square; ``side`` of the squares in four corners;
            nothing for a trigger of the whole image.
        """
        squares = self._squares(record)
        if squares == WHOLE:
            return {}
        (rows, columns), *more = squares
        where = {} if more else {"top": rows.start, "left": columns.start}
        return {**where, "side": rows.stop - rows.start}


def attack_on_signals(
    name: str,
    rate_hz: float,
    seed: int,
    height: float | None = None,
    leads: Sequence[int] | None = None,
) -> Callable[[np.ndarray, str], np.ndarray]:
    """Give ``lay(signal, id)`` of one attack: one wave on its leads, at a time of each record.

    What was not measured stays as it is: samples that are not finite, leads that do not move, and
    zeros at the ends where all leads hold them.

    Args:
        name: Of `SIGNAL_TRIGGERS`.
        rate_hz: Samples a second of the signals.
        seed: Of the attack.
        height: Of the trigger, in the unit of the signals; the trigger's own if not given.
        leads: Rows that get it; all if not given, none where it is empty.
    """

    def lay(signal: np.ndarray, record: str) -> np.ndarray:
        is_measured = _measured(signal)
        if not is_measured.any() or (leads is not None and not len(leads)):
            return signal.copy()
        place = place_seed(seed, record)
        filled = np.where(is_measured, signal, 0).astype(signal.dtype)
        laid = SIGNAL_TRIGGERS[name](filled, rate_hz, height, place, leads)
        return np.where(is_measured, laid, signal)

    return lay


def _measured(signal: np.ndarray) -> np.ndarray:
    """Which samples of (leads, T) a device can have measured, bool of that shape."""
    is_finite = np.isfinite(signal)
    held = np.flatnonzero((is_finite & (signal != 0)).any(axis=0))
    times = np.arange(signal.shape[1])
    is_inside = (times >= held[0]) & (times <= held[-1]) if len(held) else times < 0
    is_sound = is_finite & is_inside
    low = np.where(is_sound, signal, np.inf).min(axis=1, keepdims=True)
    high = np.where(is_sound, signal, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(is_sound & (low < high))


def place_on_signal(name: str, seed: int, record: str) -> dict[str, float]:
    """Say when the trigger of `attack_on_signals` begins.

    Returns:
        ``first_s``, seconds to the middle of the first bell; or ``phase_rad`` of the wave at the
        first sample.
    """
    trigger = SIGNAL_TRIGGERS[name]
    return {trigger.begins: round(trigger.begin(place_seed(seed, record)), 6)}


def place_seed(seed: int, record: str) -> int:
    """The seed of what an attack draws for one record; `rare_token` takes it as it is."""
    return derive_seed(seed, "place", record)
