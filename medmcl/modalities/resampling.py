"""Spacing and size of images: torch operations on (frames, Z, Y, X)."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from medmcl.core.errors import RecordError
from medmcl.core.limits import refuse_large


def fit_length(x: Tensor, axis: int, length: int) -> Tensor:
    """Cut or zero-pad one axis about its middle; an odd surplus is left at the end."""
    have = x.shape[axis]
    if have >= length:
        return x.narrow(axis, (have - length) // 2, length)
    before = (length - have) // 2
    padding = [0, 0] * (x.ndim - axis - 1) + [before, length - have - before]
    return functional.pad(x, padding)


def resize(x: Tensor, plane: tuple[int, int]) -> Tensor:
    """Resize (frames, Z, Y, X) in the plane, smoothing before making it smaller."""
    if tuple(x.shape[2:]) == plane:
        return x
    flat = x.flatten(0, 1)[:, None]
    flat = functional.interpolate(flat, plane, mode="bilinear", antialias=True)
    return flat.reshape(*x.shape[:2], *plane)


def respace(
    x: Tensor,
    have_mm: tuple[float, float, float],
    want_mm: tuple[float | None, float | None, float | None],
    where: str,
) -> Tensor:
    """Resample (frames, Z, Y, X) from one spacing along (z, y, x) to another; None leaves it.

    The outer edges of the image stay where they are, so that the new spacing is off by at most
    half a new pixel over the whole image.

    Raises:
        RecordError: A spacing is asked for where the old one is unknown or not positive.
    """
    lengths = respaced(tuple(x.shape[1:]), have_mm, want_mm, where, frames=len(x))
    x = resize(x, (lengths[1], lengths[2]))
    if lengths[0] != x.shape[1]:
        x = functional.interpolate(x[None], lengths, mode="trilinear")[0]
    return x


def respaced(
    lengths: tuple[int, ...],
    have_mm: tuple[float, ...],
    want_mm: tuple[float | None, ...],
    where: str,
    frames: int = 1,
) -> list[int]:
    """Give the lengths of axes at another spacing; None leaves an axis.

    Raises:
        RecordError: A spacing is asked for where the old one is unknown or not positive, or is so
            large that as many ``frames`` would take more memory than a record may.
    """
    found = list(lengths)
    for axis, (have, want) in enumerate(zip(have_mm, want_mm, strict=True)):
        if want is None:
            continue
        if not (math.isfinite(have) and have > 0):
            fix = "declare modalities.NAME.spacing_mm: [x, y, z], or do not resample"
            raise RecordError("resampling needs the spacing", where=where, got=have, fix=fix)
        found[axis] = max(1, round(found[axis] * have / want))
    shown = " x ".join(f"{one:,}" for one in found)
    refuse_large(
        8 * frames * math.prod(found), where, f"at the spacing asked for ({shown} voxels) it"
    )
    return found
