"""Slices of volumes, and fitting an image or a volume to a size: (C, Z, Y, X) tensors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.errors import RecordError
from medmcl.modalities.image.files import ImageRecord
from medmcl.modalities.image.settings import Fit, ImageSettings, Interpolation, Three
from medmcl.modalities.ordered import percentiles
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


_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601, as Pillow and OpenCV have it."""


def grey(pixels: np.ndarray) -> np.ndarray:
    """Give the luminance of colours, (3, ...) to (1, ...) float32; one channel stays."""
    values = pixels.astype(np.float32)
    return values if len(values) == 1 else np.tensordot(_LUMINANCE, values, axes=1)[None]


def scale(values: np.ndarray, settings: ImageSettings, image: ImageRecord) -> np.ndarray:
    """Scale the values of one record, all channels and slices alike. (C, ...) float32.

    Raises:
        RecordError: Nothing to scale: all alike, all zero, or an unknown range.
    """
    if settings.intensity == "zscore":
        return _standardise(values, image)
    low, high = _limits(values, settings, image)
    return ((values - np.float32(low)) / np.float32(high - low)).clip(0, 1)


def _limits(values: np.ndarray, settings: ImageSettings, image: ImageRecord) -> tuple[float, float]:
    if settings.intensity == "percentile":
        wanted = settings.lower_percentile, settings.upper_percentile
        low, high = map(float, percentiles(values, wanted))
        if not high > low:
            raise RecordError(
                "all intensities are alike",
                where=image.where,
                got=f"percentiles {low:g}, {high:g}",
                fix="look at the image; if only a small part of it is bright, raise "
                "inputs.NAME.upper_percentile",
            )
        return low, high
    if settings.range is not None:
        return settings.range
    if math.isnan(image.full_scale):
        raise RecordError(
            "the file does not say which range its values have",
            where=image.where,
            got=f"{values.min():g} to {values.max():g}",
            fix="give it: --set 'inputs.NAME.range=[LOW, HIGH]', or another inputs.NAME.intensity",
        )
    return 0.0, image.full_scale


def _standardise(values: np.ndarray, image: ImageRecord) -> np.ndarray:
    """Mean 0, deviation 1 of the values that are not 0, which stay 0."""
    inside = values != 0
    deviation = float(values[inside].std(dtype=np.float64)) if inside.any() else 0.0
    if not deviation > 0:
        raise RecordError("all intensities that are not 0 are alike", where=image.where)
    mean = float(values[inside].mean(dtype=np.float64))
    scaled = (values - np.float32(mean)) / np.float32(deviation)
    return np.where(inside, scaled, np.float32(0))


PILLOW = {"linear": "BILINEAR", "cubic": "BICUBIC", "nearest": "NEAREST"}


def fit_as_timm(
    x: Tensor, size: int, crop_pct: float, mode: Interpolation, *, eight_bits: bool
) -> Tensor:
    """Resize the shorter side to ``size / crop_pct``, and cut the middle out; by Pillow, as timm.

    Args:
        x: (C, 1, Y, X) in [0, 1].
        size: Side of the square that comes out.
        crop_pct: Share of the resized shorter side that is kept; timm's name.
        mode: How values between pixels are found.
        eight_bits: Whether the file has 8 bits; then multiples of 1/255 come out.

    Returns:
        (C, 1, size, size).

    Source:
        timm's evaluation transform with ``crop_mode: center``. Differs: none for 8 bits; others
        are not rounded.
    """
    from PIL import Image

    rows, columns = x.shape[2:]
    short = math.floor(size / crop_pct)
    if rows <= columns:
        wanted = short, int(short * columns / rows)
    else:
        wanted = int(short * rows / columns), short
    top, left = (round((length - size) / 2) for length in wanted)
    planes = (x[:, 0] * 255).round().to(torch.uint8) if eight_bits else x[:, 0]
    resized = [
        np.asarray(Image.fromarray(plane).resize(wanted[::-1], getattr(Image, PILLOW[mode])))
        for plane in planes.numpy()
    ]
    cut = np.stack(resized)[:, None, top : top + size, left : left + size].astype(np.float32)
    return torch.from_numpy(cut / np.float32(255) if eight_bits else cut)


def normalised(x: Tensor, mean: Three, std: Three) -> Tensor:
    """Give (x - mean) / std for rows (B, 3, Y, X)."""
    shift = torch.tensor(mean, dtype=x.dtype, device=x.device)[:, None, None]
    scale = torch.tensor(std, dtype=x.dtype, device=x.device)[:, None, None]
    return (x - shift) / scale
