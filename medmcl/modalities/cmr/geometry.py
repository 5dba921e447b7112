"""Crop of cardiac MR: torch operations on (frames, Z, Y, X)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medmcl.modalities.cmr.settings import FractionCrop
from medmcl.modalities.resampling import fit_length, resize


def crop(
    x: Tensor, how: Literal["none", "center"] | FractionCrop, plane: tuple[int, int], labels: bool
) -> Tensor:
    """Bring (frames, Z, Y, X) to ``plane`` pixels, by cutting and padding or by resizing.

    Args:
        x: Volumes.
        how: ``center``: cut or zero-pad, keeping the size of a pixel. ``none``: zero-pad to a
            square, then resize. A window: square, cut the window, then resize.
        plane: Pixels along (y, x).
        labels: Whether values are labels, which resizing must not mix.
    """
    if how == "center":
        return fit_length(fit_length(x, 2, plane[0]), 3, plane[1])
    side = max(x.shape[2:])
    if isinstance(how, FractionCrop):
        side = how.canvas or side
    x = fit_length(fit_length(x, 2, side), 3, side)
    if isinstance(how, FractionCrop):
        window = max(1, int(how.size * side))
        x = x.narrow(2, min(int(how.top * side), side - window), window)
        x = x.narrow(3, min(int(how.left * side), side - window), window)
    return resize(x, plane, labels)
