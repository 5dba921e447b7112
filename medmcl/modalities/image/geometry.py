"""Slices of volumes, and fitting an image or a volume to a size: (C, Z, Y, X) tensors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from medmcl.modalities.image.settings import Fit, Interpolation
from medmcl.modalities.resampling import fit_length

_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest-exact"}
_AXES = {"axial": 1, "coronal": 2, "sagittal": 3}


def take_slice(
    x: Tensor, spacing_mm: tuple[float, float, float], plane: str, slice_at: float
) -> tuple[Tensor, tuple[float, float, float]]:
    """Cut one slice out of a volume, upright.

    The top row is anterior (axial) or superior (coronal, sagittal), the left column is the left of
    the body (axial, coronal; not the radiologist's view) or posterior (sagittal).

    Args:
        x: (C, Z, Y, X), growing towards superior, anterior, right.
        spacing_mm: Along (z, y, x).
        plane: ``axial``, ``coronal`` or ``sagittal``.
        slice_at: Position in [0, 1]; .5 is slice n // 2.

    Returns:
        (C, 1, rows, columns), and its spacing along (slice, rows, columns).
    """
    axis = _AXES[plane]
    count = x.shape[axis]
    picked = x.select(axis, min(int(count * slice_at), count - 1))
    across = spacing_mm[axis - 1]
    rows, columns = (mm for n, mm in enumerate(spacing_mm, 1) if n != axis)
    return picked.flip(1)[:, None], (across, rows, columns)


def fit_to(x: Tensor, size: tuple[int, int, int], how: Fit, mode: Interpolation) -> Tensor:
    """Bring (C, Z, Y, X) to (C, *size).

    Args:
        x: Images or volumes.
        size: Wanted lengths along (z, y, x).
        how: ``stretch``: resize each axis by itself. ``pad``: resize all axes by one factor until
            the whole image fits, zeros beside it. ``crop``: likewise until it fills the size, then
            cut about the middle. ``center``: cut or pad about the middle without resizing.
        mode: How values between pixels are found.
    """
    have = tuple(x.shape[1:])
    if how == "stretch":
        return resize_to(x, size, mode)
    if how != "center":
        flat = have[0] == size[0] == 1  # the slice axis of an image does not count
        axes = range(1, 3) if flat else range(3)
        factors = [size[axis] / have[axis] for axis in axes]
        factor = min(factors) if how == "pad" else max(factors)
        lengths = [max(1, round(length * factor)) for length in have]
        x = resize_to(x, (1, lengths[1], lengths[2]) if flat else tuple(lengths), mode)
    for axis, length in enumerate(size, 1):
        x = fit_length(x, axis, length)
    return x


def resize_to(x: Tensor, lengths: tuple[int, ...], mode: Interpolation) -> Tensor:
    """Resize (C, Z, Y, X) to (C, *lengths), axis by axis, smoothing where it becomes smaller."""
    depth, rows, columns = lengths
    x = _resize_plane(x, (rows, columns), mode)
    if depth != x.shape[1]:
        turned = _resize_plane(x.transpose(1, 2), (depth, columns), mode)
        x = turned.transpose(1, 2)
    return x


def _resize_plane(x: Tensor, plane: tuple[int, int], mode: Interpolation) -> Tensor:
    if tuple(x.shape[2:]) == plane:
        return x
    smooth = mode != "nearest"
    return functional.interpolate(x, plane, mode=_MODES[mode], antialias=smooth)
