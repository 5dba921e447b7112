"""One attack: the same trigger on every record, laid where the record's own seed says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from medmcl.core.rng import derive_seed
from medmcl.threats.other_triggers import SIGNAL_TRIGGERS, pulse_begins, sinusoid_begins
from medmcl.threats.triggers import TRIGGERS, patch_place, patch_side

PATCHES = ("badnet", "label_consistent", "four_corners")
"""Triggers of images that lie in a place; the others are on the whole image."""


class ImageAttack:
    """One attack on images: what is drawn is drawn once, but for places.

    Differs from CleanCLIP's code, which draws the noise of its square and of its blend anew for
    every image: a fixed pattern is what BadNets and Blended describe, and what can be found again.

    Args:
        name: Of `TRIGGERS`.
        channels: Of the images.
        size: Rows and columns of the images.
        seed: Of the attack.
        official: As the authors' code writes it in 8 bits.
    """

    def __init__(
        self, name: str, channels: int, size: tuple[int, int], seed: int, official: bool = False
    ) -> None:
        self.name, self.size, self.seed, self.official = name, size, seed, official
        self._pattern = derive_seed(seed, "pattern", name)
        generator = torch.Generator(device="cpu").manual_seed(self._pattern)
        self.side = patch_side((channels, *size), official) if name in PATCHES else 0
        self._noise: Tensor | None = None
        if name in ("badnet", "label_consistent"):
            shape = (channels, self.side, self.side)
            self._noise = torch.randn(shape, generator=generator, device="cpu")
        elif name == "blended":
            self._noise = torch.rand((channels, *size), generator=generator, device="cpu")

    def __call__(self, image: Tensor, record: str) -> Tensor:
        """Lay the trigger over the image of a record."""
        rng = self._pattern if self.name == "wanet" else place_seed(self.seed, record)
        lay = TRIGGERS[self.name]
        found: Tensor = lay(image, rng=rng, noise=self._noise, official=self.official)
        return found

    def place(self, record: str) -> dict[str, int]:
        """Say where the trigger lies: pixels, rows and columns from 0.

        Returns:
            ``top``, ``left`` and ``side`` of a square; ``side`` of the squares in four corners;
            nothing for a trigger of the whole image.
        """
        if self.name not in PATCHES:
            return {}
        if self.name == "four_corners":
            return {"side": self.side}
        top, left = patch_place(self.size, self.side, place_seed(self.seed, record))
        return {"top": top, "left": left, "side": self.side}


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
    more = {} if height is None else {"height": height}

    def lay(signal: np.ndarray, record: str) -> np.ndarray:
        is_measured = _measured(signal)
        if not is_measured.any() or (leads is not None and not len(leads)):
            return signal.copy()
        place = place_seed(seed, record)
        filled = np.where(is_measured, signal, 0).astype(signal.dtype)
        laid = SIGNAL_TRIGGERS[name](filled, rate_hz, seed=place, leads=leads, **more)
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
    place = place_seed(seed, record)
    if name == "pulse":
        return {"first_s": round(pulse_begins(place), 6)}
    return {"phase_rad": round(sinusoid_begins(place), 6)}


def place_seed(seed: int, record: str) -> int:
    """The seed of what an attack draws for one record; `rare_token` takes it as it is."""
    return derive_seed(seed, "place", record)
