"""Spacing, crop and size of cardiac MR: torch operations on (frames, Z, Y, X)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional

from medmcl.core.config import Config
from medmcl.core.errors import RecordError

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


def fit_length(x: Tensor, axis: int, length: int) -> Tensor:
    """Cut or zero-pad one axis about its middle; an odd surplus is left at the end."""
    have = x.shape[axis]
    if have >= length:
        return x.narrow(axis, (have - length) // 2, length)
    before = (length - have) // 2
    padding = [0, 0] * (x.ndim - axis - 1) + [before, length - have - before]
    return functional.pad(x, padding)


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


def resize(x: Tensor, plane: tuple[int, int], labels: bool) -> Tensor:
    """Resize (frames, Z, Y, X) in the plane, smoothing before making it smaller."""
    if tuple(x.shape[2:]) == plane:
        return x
    flat = x.flatten(0, 1)[:, None]
    if labels:
        flat = functional.interpolate(flat, plane, mode="nearest-exact")
    else:
        flat = functional.interpolate(flat, plane, mode="bilinear", antialias=True)
    return flat.reshape(*x.shape[:2], *plane)


def respace(
    x: Tensor,
    have_mm: tuple[float, float, float],
    want_mm: tuple[float | None, float | None, float | None],
    where: str,
    labels: bool,
) -> Tensor:
    """Resample (frames, Z, Y, X) from one spacing along (z, y, x) to another; None leaves it.

    The outer edges of the image stay where they are, so that the new spacing is off by at most
    half a new pixel over the whole image.

    Raises:
        RecordError: A spacing is asked for where the old one is unknown or not positive.
    """
    lengths = list(x.shape[1:])
    for axis, (have, want) in enumerate(zip(have_mm, want_mm, strict=True)):
        if want is None:
            continue
        if not (math.isfinite(have) and have > 0):
            mend = "declare spacing_mm: [x, y, z] in cohort.yaml, or do not resample"
            raise RecordError("resampling needs the spacing", where=where, got=have, mend=mend)
        lengths[axis] = max(1, round(lengths[axis] * have / want))
    x = resize(x, (lengths[1], lengths[2]), labels)
    if lengths[0] != x.shape[1]:
        mode = "nearest-exact" if labels else "trilinear"
        x = functional.interpolate(x[None], lengths, mode=mode)[0]
    return x
