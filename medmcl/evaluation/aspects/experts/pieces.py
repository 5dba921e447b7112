"""Patches of images and stretches of signals, cut out of what an encoder read."""

from __future__ import annotations

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.shown import SHOWN_LEADS

COLOUR = ("red", "green", "blue")


def can_cut(shape: InputShape, grid: tuple[int, ...] | None) -> bool:
    """Whether tokens that lie in ``grid`` are patches of a flat image, or stretches of a signal."""
    if grid is None or len(grid) != 2:
        return False
    if shape.is_signal:
        leads, samples = shape.shape
        return leads % grid[0] == 0 and samples % grid[1] == 0
    return shape.is_picture and shape.shape[1] % grid[0] == 0 and shape.shape[2] % grid[1] == 0


def cut(
    x: np.ndarray, shape: InputShape, grid: tuple[int, ...], token: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut a token with a neighbour on every side out of one row of encoder input.

    Args:
        x: The row: (channels, H, W), or (leads, samples).
        shape: What is known of it.
        grid: (rows, columns) of tokens.
        token: Which one.

    Returns:
        Of an image (3h, 3w) or, in colour, (3h, 3w, 3) in 0 to 1, its own darkest and brightest
        hundredth cut off; of several frames the last. Of a signal (leads, 3 samples), and the names
        of its leads. NaN beyond the edge.
    """
    row, column = divmod(token, grid[1])
    if shape.is_signal:
        return _stretch(x, shape.names, grid, row, column)
    in_colour = shape.names == COLOUR
    image = x if in_colour else x[-1:]
    low, high = np.quantile(image, [0.01, 0.99])
    image = np.clip((image - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    height, width = image.shape[0] // grid[0], image.shape[1] // grid[1]
    wide = np.pad(
        image, ((height, height), (width, width), (0, 0)), constant_values=np.nan
    )  # the patch at (r, c) and its neighbours start at (r, c) of this
    piece = wide[row * height : (row + 3) * height, column * width : (column + 3) * width]
    return (piece if in_colour else piece[..., 0]), ()


def _stretch(
    x: np.ndarray, names: tuple[str, ...], grid: tuple[int, ...], row: int, column: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    span, samples = x.shape[0] // grid[0], x.shape[1] // grid[1]
    leads = list(range(row * span, (row + 1) * span))
    if span > len(SHOWN_LEADS):
        named = [lead for lead in leads if names and names[lead] in SHOWN_LEADS]
        leads = (named or leads)[: len(SHOWN_LEADS)]
    wide = np.pad(x[leads], ((0, 0), (samples, samples)), constant_values=np.nan)
    own = tuple(names[lead] for lead in leads) if names else ()
    return wide[:, column * samples : (column + 3) * samples], own
