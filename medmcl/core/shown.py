"""Records as a person looks at them: what an adapter shows, and what pages draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHOWN_LEADS = ("II", "V1", "V5")
"""Of a signal of many leads those that are shown; the first three where not all are there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownImage:
    """An image as read.

    Attributes:
        pixels: (H, W), or (H, W, 3) in colour; the top row first, higher = brighter, any unit.
        aspect: Height of a pixel over its width.
        note: What of the record it is, as ``axial slice 12 of 24``; empty for all of it.
        window: Values drawn as black and as white; its 1st and 99th percentile if not given.
    """

    pixels: np.ndarray
    aspect: float = 1.0
    note: str = ""
    window: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownSignal:
    """Some leads of an ECG as read.

    Attributes:
        values_mv: (L, S) in mV; NaN where the file marks a sample as invalid.
        leads: Name of each row.
        rate_hz: Samples a second.
        note: What of the record it is, as ``first 5 of 10 s``.
    """

    values_mv: np.ndarray
    leads: tuple[str, ...]
    rate_hz: float
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownCells:
    """A row of a table.

    Attributes:
        cells: (name, value as text, with its unit).
        note: What is not shown of it; empty if nothing.
    """

    cells: tuple[tuple[str, str], ...]
    note: str = ""


Shown = ShownImage | ShownSignal | ShownCells | str
"""A record as a person looks at it; a `str` is a text."""


def aspect_of(row_mm: float, column_mm: float) -> float:
    """Height of a pixel over its width; 1 where nobody says."""
    known = math.isfinite(row_mm) and math.isfinite(column_mm) and min(row_mm, column_mm) > 0
    return row_mm / column_mm if known else 1.0


def colours_last(pixels: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W), or (H, W, 3)."""
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
