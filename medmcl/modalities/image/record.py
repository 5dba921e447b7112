"""One image or volume as read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image as read.

    Attributes:
        pixels: (C, Y, X) or (C, Z, Y, X) as stored; C is 1 (grey) or 3 (red, green, blue).
        full_scale: Largest value that the file could hold (255, 65535); NaN where nobody says.
        spacing_mm: Distance of neighbours along (z, y, x); NaN where nobody says.
        orientation: Direction in which z, y, x grow (``SAR``); ``?`` where the file does not say.
        placed: False for a NIfTI volume that does not say how it lies in the body.
        notes: Names of what reading left out: ``alpha``, ``depth``.
        where: File it was read from, for messages.
    """

    pixels: np.ndarray
    full_scale: float = math.nan
    spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    orientation: str = "???"
    placed: bool = True
    notes: tuple[str, ...] = ()
    where: str

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self.pixels)
