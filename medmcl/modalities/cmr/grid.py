"""Volumes of one size around the left ventricle, resampled and scaled as CineMA was trained on."""

from __future__ import annotations

import math

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.cmr.settings import Grid
from medmcl.modalities.resampling import respaced

SIGNS = (-1, -1, 1)
"""Direction of x, y, z in SimpleITK of a NIfTI file whose axes grow right, anterior, superior."""


def on_grid(
    volume: np.ndarray,
    spacing_mm: tuple[float, float, float],
    grid: Grid,
    labels: np.ndarray | None = None,
    where: str = "a volume",
) -> np.ndarray:
    """Resample, crop, window, quantise, scale to [0, 1], and pad at the ends.

    Args:
        volume: (X, Y, Z); x grows to the right, y to the front, z along the slices.
        spacing_mm: Distance of neighbours along x, y, z.
        grid: What is asked for.
        labels: (X, Y, Z) of whole numbers, or bool: the crop is centred on the bounding box of
            ``grid.label`` (of whatever is marked, where nothing but 0 and 1 occurs). Without it
            the crop is about the middle of the volume.
        where: What errors are about.

    Returns:
        (X, Y, Z) float32 of the grid's ``voxels``.

    Raises:
        RecordError: No such label, labels of another shape, intensities that are not finite or all
            alike, a spacing that is not positive.

    Source:
        Fu et al. 2025, arXiv 2506.00679 (code, SimpleITK 2.5). Differs: without labels theirs
        fails; what is longer than the grid along z is cut about its middle at the end, where theirs
        stays so long.
    """
    if volume.ndim != 3 or not np.isfinite(volume).all():
        raise RecordError(
            "holds NaN or infinite voxels" if volume.ndim == 3 else "is no volume",
            where=where,
            got=f"shape {volume.shape}",
            expected="finite intensities along x, y, z",
        )
    if labels is not None and labels.shape != volume.shape:
        raise RecordError(
            "labels are of another shape than the volume",
            where=where,
            got=f"{labels.shape}",
            expected=f"{volume.shape}",
            fix="give the mask of the same frame, its axes in the same order",
        )
    lengths = respaced(volume.shape, spacing_mm, grid.spacing_mm, where)
    whole = bool((volume == np.trunc(volume)).all())
    values = volume.astype(np.float64)
    marked = None if labels is None else _marked(labels, grid.label, where)
    for axis, length in enumerate(lengths):
        places = _places(length, spacing_mm[axis], grid.spacing_mm[axis], axis)
        values = _linear(values, places, axis)
        if marked is not None:
            marked = _nearest(marked, places, axis)
    kept = np.trunc if whole else np.float32  # ITK keeps the type of the file
    values = np.asarray(kept(values), np.float64)[_crop(lengths, grid.voxels, marked, where)]
    limits = np.percentile(values, (grid.lower_percentile, grid.upper_percentile))
    low, high = np.asarray(kept(limits), np.float64)
    if not high > low:
        raise RecordError(
            "all intensities are alike", where=where, got=f"percentiles {low}, {high}"
        )
    window = _rescaled(values.clip(low, high))
    levels = np.floor(window * (grid.levels - 1)).astype(np.float32)
    scaled = (levels - levels.min()) / (levels.max() - levels.min())
    scaled = scaled[..., _about(scaled.shape[2] / 2, scaled.shape[2], grid.voxels[2])]
    ends = [(0, want - have) for want, have in zip(grid.voxels, scaled.shape, strict=True)]
    return np.pad(scaled, ends)


def _rescaled(x: np.ndarray) -> np.ndarray:
    """To mean 0 and deviation 1, then onto [0, 1], as ITK does one after the other.

    The detour decides on which side of a level the last bit of a value falls.
    """
    total, count = x.sum(), x.size
    deviation = math.sqrt(((x * x).sum() - total * total / count) / (count - 1))
    normal = (x - total / count) * (1 / deviation)
    factor = 1 / (normal.max() - normal.min())
    return np.asarray((normal * factor - normal.min() * factor).clip(0, 1))


def is_binary(labels: np.ndarray) -> bool:
    """Whether labels say no more than marked or not; what is marked is then the ventricle."""
    return labels.dtype == bool or set(np.unique(labels).tolist()) <= {0, 1}


def _marked(labels: np.ndarray, label: int, where: str) -> np.ndarray:
    """The left ventricle, bool."""
    known = np.unique(labels)
    marked = np.asarray(labels != 0 if is_binary(labels) else labels == label)
    if not marked.any():
        raise RecordError(
            "the mask marks no left ventricle",
            where=where,
            got=f"labels {', '.join(map(str, known[:8]))}",
            expected=f"some voxels of label {label}, or a mask of 0 and 1",
            fix="give the mask of this frame, or none: the crop is then about the middle",
        )
    return marked


def _places(length: int, have_mm: float, want_mm: float, axis: int) -> np.ndarray:
    """Where the new voxels of an axis lie, counted in old ones, as SimpleITK computes it.

    The authors move the origin by half the change of spacing without its direction: along x and y
    the grid moves away from where its edges would meet those of the image.
    """
    sign = SIGNS[axis]
    origin, steps = (want_mm - have_mm) / 2, np.arange(length)
    if axis:
        return np.asarray(sign / have_mm * (origin + sign * want_mm * steps))
    first, last = (sign / have_mm * (origin + sign * want_mm * step) for step in (0, length))
    return np.asarray(first + (last - first) * (steps / length))  # ITK walks along x


def _linear(x: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along an axis; half a voxel beyond the ends counts as the end."""
    shape = [-1 if number == axis else 1 for number in range(x.ndim)]
    below = np.floor(places)
    share, low = (places - below).reshape(shape), below.astype(int)
    last = x.shape[axis] - 1
    lower, upper = (np.take(x, one.clip(0, last), axis) for one in (low, low + 1))
    inside = ((places >= -0.5) & (places < last + 0.5)).reshape(shape)
    return np.asarray((lower + (upper - lower) * share) * inside)


def _nearest(x: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """The nearest voxel along an axis, False outside."""
    shape = [-1 if number == axis else 1 for number in range(x.ndim)]
    last = x.shape[axis] - 1
    inside = ((places >= -0.5) & (places < last + 0.5)).reshape(shape)
    return np.asarray(np.take(x, np.floor(places + 0.5).astype(int).clip(0, last), axis) & inside)


def _crop(
    lengths: list[int], wanted: tuple[int, ...], marked: np.ndarray | None, where: str
) -> tuple[slice, ...]:
    """What is cut out of the plane: about the ventricle, or the middle."""
    pieces = []
    for axis, (have, want) in enumerate(zip(lengths[:2], wanted[:2], strict=True)):
        middle = have / 2
        if marked is not None:
            (found,) = np.nonzero(marked.any(tuple(one for one in range(3) if one != axis)))
            if not len(found):
                raise RecordError("the marked ventricle is lost in resampling", where=where)
            middle = (found[0] + found[-1] + 1) / 2
        pieces.append(_about(middle, have, want))
    return tuple(pieces)


def _about(middle: float, have: int, want: int) -> slice:
    """As many as are wanted about a place, moved to stay inside."""
    start = min(max(math.floor(middle - want / 2), 0), max(have - want, 0))
    return slice(start, start + want)
