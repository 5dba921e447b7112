"""Sketches: a few dozen numbers by which two copies of one measurement know each other.

A sketch is a centred unit vector of averages over stretches of time or blocks of space. It does not
change with gain, offset, unit or sampling rate beyond rounding, so a recording that was saved again
keeps its sketch; two recordings of different moments, also of one heart, do not share one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medmcl.modalities.cmr.readers import CMRVolume
    from medmcl.modalities.image.files import ImageRecord

_BLOCKS, _FINE_BLOCKS = (1, 8, 8), (8, 64, 64)
_IMAGE_BLOCKS, _VOLUME_BLOCKS = (1, 32, 32), (8, 32, 32)
_IMAGE_NUMBERS = 64


def cmr_sketch(volume: CMRVolume) -> np.ndarray | None:
    """Give 64 numbers for an image: the first frame over all slices, in 8 by 8 blocks.

    None if it does not vary. (64,) float32.
    """
    flat = volume.voxels[:1].mean(axis=1)  # (1, Y, X)
    return unit(block_means(flat, _BLOCKS).reshape(1, -1))


def cmr_distance(one: CMRVolume, other: CMRVolume) -> float:
    """Say how far two images are from being one: 0 = equal but for scaling, 1.41 = unrelated.

    First frames in blocks of 8 slices and 64 by 64 pixels, centred, of length 1.
    """
    a, b = (unit(block_means(raw.voxels[0], _FINE_BLOCKS).reshape(1, -1)) for raw in (one, other))
    return float("inf") if a is None or b is None else float(np.linalg.norm(a - b))


def image_sketch(image: ImageRecord) -> np.ndarray | None:
    """Give 64 numbers for an image or a volume: random signed sums of its detail.

    Heads, hands and chests of different people look alike from afar, all the more after they were
    brought to one template; what tells them apart is detail: each of 32 by 32 blocks (of 8 slices,
    in a volume) less the mean of the four beside it. None if it does not vary. (64,) float32.
    """
    detail = _image_detail(image)
    return unit((_image_signs(detail.size) @ detail.ravel()).reshape(1, -1))


def image_distance(one: ImageRecord, other: ImageRecord) -> float:
    """Say how far two images are from being one: 0 = equal but for scaling, 1.41 = unrelated.

    Compares the detail of which `image_sketch` is made.
    """
    if one.pixels.ndim != other.pixels.ndim:
        return float("inf")
    a, b = (unit(_image_detail(raw).reshape(1, -1)) for raw in (one, other))
    return float("inf") if a is None or b is None else float(np.linalg.norm(a - b))


def _image_detail(image: ImageRecord) -> np.ndarray:
    """Means over blocks, each less the mean of the four beside it in its slice, (Z, 32, 32).

    Cut at their root mean square, so that edges which all share (a mask, a frame) do not outweigh
    the rest.
    """
    grey = np.nan_to_num(image.pixels.mean(axis=0, dtype=np.float64), posinf=0.0, neginf=0.0)
    flat = grey.ndim == 2
    means = block_means(grey[None] if flat else grey, _IMAGE_BLOCKS if flat else _VOLUME_BLOCKS)
    wide = np.pad(means, ((0, 0), (1, 1), (1, 1)), mode="edge")
    beside = wide[:, :-2, 1:-1] + wide[:, 2:, 1:-1] + wide[:, 1:-1, :-2] + wide[:, 1:-1, 2:]
    detail = means - beside / 4
    usual = np.sqrt((detail**2).mean())
    cut: np.ndarray = detail.clip(-usual, usual)
    return cut


@cache
def _image_signs(count: int) -> np.ndarray:
    """The same signs in every process, (64, count)."""
    drawn = np.random.default_rng(0).integers(0, 2, size=(_IMAGE_NUMBERS, count))
    return (2 * drawn - 1).astype(np.float64)


def block_means(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Average over equal blocks, whatever the size of the volume; shares of voxels count."""
    for axis, count in enumerate(shape):
        size = volume.shape[axis]
        if size == count:
            continue
        area = np.zeros((*volume.shape[:axis], size + 1, *volume.shape[axis + 1 :]))
        inner = (slice(None),) * axis + (slice(1, None),)
        np.cumsum(volume, axis=axis, dtype=np.float64, out=area[inner])
        edges = np.linspace(0, size, count + 1)
        volume = np.diff(between(area, edges, axis), axis=axis) * (count / size)
    return volume


def between(area: np.ndarray, edges: np.ndarray, axis: int) -> np.ndarray:
    """Read a running sum at places between its entries."""
    low = np.minimum(edges.astype(np.int64), area.shape[axis] - 2)
    part = (edges - low).reshape([-1 if n == axis else 1 for n in range(area.ndim)])
    taken: np.ndarray = np.take(area, low, axis) * (1 - part) + np.take(area, low + 1, axis) * part
    return taken


def centred(rows: np.ndarray) -> np.ndarray:
    """Each row less its mean."""
    less: np.ndarray = rows - rows.mean(axis=1, keepdims=True)
    return less


def unit(rows: np.ndarray) -> np.ndarray | None:
    """Centre each row and bring the whole to length 1; None where only rounding is left."""
    level = centred(rows)
    size = float(np.linalg.norm(level))
    if not 1e-6 * float(np.abs(rows).max()) < size < np.inf:  # also NaN
        return None
    return (level / size).ravel().astype(np.float32)
