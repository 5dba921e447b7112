"""Crop of cardiac MR: torch operations on (frames, Z, Y, X)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from medmcl.core.config import Config
from medmcl.modalities.resampling import fit_length, resize

Fraction = Annotated[float, Field(ge=0, le=1)]


class FractionCrop(Config):
    """A square window at a fixed place, as fractions of the image squared by zero-padding.

    Source: the authors' code, utils of oetu/MMCL-ECG-CMR: top .21, left .325, size .375 of a
    canvas of 210 pixels. It is a position for UK Biobank's images as that code lays them out, not
    a detector: look at a few crops before you use it on other data.
    """

    top: Fraction = 0.21
    left: Fraction = 0.325
    size: Annotated[float, Field(gt=0, le=1)] = 0.375
    canvas: PositiveInt | None = Field(
        default=None, description="pixels of the square before cropping; none: the longer side"
    )

    @model_validator(mode="after")
    def _check(self) -> FractionCrop:
        if self.top + self.size > 1 or self.left + self.size > 1:
            raise ValueError("the window leaves the image: top + size and left + size must be <= 1")
        return self


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
