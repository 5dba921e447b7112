"""How much of a cosine map lies inside a mask: how the heart study judges maps."""

from __future__ import annotations

from typing import Literal

import numpy as np

Share = Literal["positive", "softmax"]


def mass_inside(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    share: Share = "positive",
    temperature: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the share of each map's mass that lies inside its mask; higher is better.

    The mask is averaged over the area of each map cell, so a coarse map needs no upsampling. The
    share of a flat map is the share of the image that the mask covers: compare with that.

    Args:
        maps: Cosine maps, (B, H, W).
        masks: True inside, at any resolution. (B, h, w)
        share: ``positive`` counts positive cosines as mass; ``softmax`` counts exp(cosine /
            temperature), which always exists.
        temperature: Of the softmax.

    Returns:
        (B,) shares, zero where undefined; and (B,) bool, False where a mask is empty or no cosine
        is positive.
    Source:
        Energy-based pointing game, Wang et al. 2020, arXiv 1910.01279, §4.3. Differs: a mask, not a
        box; the softmax form.
    """
    heat = np.maximum(maps, 0.0) if share == "positive" else _softmax(maps / temperature)
    cells = _area_average(np.asarray(masks, dtype=np.float64), maps.shape[1:])
    total = heat.sum(axis=(1, 2))
    defined = (total > 0) & (cells.sum(axis=(1, 2)) > 0)
    inside = (heat * cells).sum(axis=(1, 2))
    return np.where(defined, inside / np.where(total > 0, total, 1.0), 0.0), defined


def _area_average(masks: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Mean of each mask over the area of each cell of a grid, (B, H, W)."""
    rows = _overlap(grid[0], masks.shape[1])
    columns = _overlap(grid[1], masks.shape[2])
    return np.asarray(np.einsum("Hh,bhw,Ww->bHW", rows, masks, columns, optimize=True))


def _overlap(cells: int, pixels: int) -> np.ndarray:
    """Share of each pixel in each cell along one axis, rows sum to one. (cells, pixels)."""
    cell = np.arange(cells)[:, None] * pixels / cells
    pixel = np.arange(pixels)[None]
    shared = np.minimum(cell + pixels / cells, pixel + 1) - np.maximum(cell, pixel)
    return np.asarray(np.maximum(shared, 0) * cells / pixels)


def _softmax(maps: np.ndarray) -> np.ndarray:
    weights = np.exp(maps - maps.max(axis=(1, 2), keepdims=True))
    return np.asarray(weights / weights.sum(axis=(1, 2), keepdims=True))
