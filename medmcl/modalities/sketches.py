"""Sketches: a few dozen numbers by which two copies of one measurement know each other.

A sketch is a centred unit vector of averages over stretches of time or blocks of space. It does not
change with gain, offset, unit or sampling rate beyond rounding, so a recording that was saved again
keeps its sketch; two recordings of different moments, also of one heart, do not share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from medmcl.modalities.cmr.readers import CMRVolume
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import PRECORDIAL, TWELVE
from medmcl.modalities.image.record import ImageRecord

_LEADS = (*TWELVE[:2], *PRECORDIAL)
"""The leads that do not follow from others."""
_MIXTURES = np.array([[1, 1, 1, -1, 1, -1, 1, 1], [1, -1, 1, 1, -1, 1, 1, -1]], dtype=np.float32)
"""Two signed sums of them, so that no lead is left out and none is read alone, (2, 8)."""
_STRETCHES = 32
_FINE_SECONDS = 0.04
_CUT = 3.0
_BLOCKS, _FINE_BLOCKS = (1, 8, 8), (8, 64, 64)
_IMAGE_BLOCKS, _VOLUME_BLOCKS = (1, 32, 32), (8, 32, 32)
_IMAGE_NUMBERS = 64


def ecg_sketch(record: ECGRecord) -> np.ndarray | None:
    """Give 64 numbers for an ECG; None if it is too short or does not move.

    Two signed sums of I, II and V1 to V6 (of all leads by name, if one is missing), each averaged
    over 32 equal stretches of the record. (64,) float32.
    """
    rows = _independent(record, record.leads)
    if rows.shape[1] < 2 * _STRETCHES:
        return None
    mixtures = _MIXTURES if len(rows) == len(_LEADS) else _signs(len(rows))
    means = _means(mixtures @ rows, _STRETCHES)
    return _unit(means)


def ecg_distance(one: ECGRecord, other: ECGRecord) -> float:
    """Say how far two ECGs are from being one recording: 0 = equal but for gain, 1.41 = unrelated.

    What is compared is the detail: second differences of 40 ms averages, cut at three median sizes
    so that what lies between the beats counts as they do, centred and of length 1, lead by lead.
    Hearts that beat alike (simulated ones may) still differ there. The distance is the median over
    leads, so one bad lead does not hide a copy.
    """
    shared = [lead for lead in one.leads if lead in other.leads]
    count = round(one.seconds / _FINE_SECONDS)
    if not shared or count < _STRETCHES or abs(one.seconds - other.seconds) > _FINE_SECONDS:
        return float("inf")
    a, b = (_detail(_means(_independent(raw, shared), count)) for raw in (one, other))
    moves = a.any(axis=1) & b.any(axis=1)
    if not moves.any():
        return float("inf")
    return float(np.median(np.linalg.norm(a[moves] - b[moves], axis=1)))


def _detail(means: np.ndarray) -> np.ndarray:
    """Second differences in median sizes, cut at 3, centred, of length 1; zeros if all alike."""
    bends = np.diff(means, n=2, axis=1)
    usual = np.median(np.abs(bends), axis=1, keepdims=True)
    cut = _centred((bends / np.where(usual > 0, usual, np.inf)).clip(-_CUT, _CUT))
    size = np.linalg.norm(cut, axis=1, keepdims=True)
    detail: np.ndarray = cut / np.where(size > 0, size, 1.0)
    return detail


def cmr_sketch(volume: CMRVolume) -> np.ndarray | None:
    """Give 64 numbers for an image: the first frame over all slices, in 8 by 8 blocks.

    None if it does not vary. (64,) float32.
    """
    flat = volume.voxels[:1].mean(axis=1)  # (1, Y, X)
    return _unit(block_means(flat, _BLOCKS).reshape(1, -1))


def cmr_distance(one: CMRVolume, other: CMRVolume) -> float:
    """Say how far two images are from being one: 0 = equal but for scaling, 1.41 = unrelated.

    First frames in blocks of 8 slices and 64 by 64 pixels, centred, of length 1.
    """
    a, b = (_unit(block_means(raw.voxels[0], _FINE_BLOCKS).reshape(1, -1)) for raw in (one, other))
    return float("inf") if a is None or b is None else float(np.linalg.norm(a - b))


def image_sketch(image: ImageRecord) -> np.ndarray | None:
    """Give 64 numbers for an image or a volume: random signed sums of its detail.

    Heads, hands and chests of different people look alike from afar, all the more after they were
    brought to one template; what tells them apart is detail: each of 32 by 32 blocks (of 8 slices,
    in a volume) less the mean of the four beside it. None if it does not vary. (64,) float32.
    """
    detail = _image_detail(image)
    return _unit((_image_signs(detail.size) @ detail.ravel()).reshape(1, -1))


def image_distance(one: ImageRecord, other: ImageRecord) -> float:
    """Say how far two images are from being one: 0 = equal but for scaling, 1.41 = unrelated.

    Compares the detail of which `image_sketch` is made.
    """
    if one.pixels.ndim != other.pixels.ndim:
        return float("inf")
    a, b = (_unit(_image_detail(raw).reshape(1, -1)) for raw in (one, other))
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


def _independent(record: ECGRecord, among: Sequence[str]) -> np.ndarray:
    """Rows of I, II, V1 to V6 if all are there, otherwise of all leads by name; finite, (L, S)."""
    whole = all(lead in among for lead in _LEADS)
    chosen = _LEADS if whole else sorted(among)
    rows = record.signal_mv[[record.leads.index(lead) for lead in chosen]]
    return rows if np.isfinite(rows).all() else np.nan_to_num(rows, posinf=0.0, neginf=0.0)


def _signs(count: int) -> np.ndarray:
    """Two rows of signs for any number of leads, (2, L)."""
    number = np.arange(count)
    return np.where([number % 3 < 2, number % 4 < 2], 1, -1).astype(np.float32)


def _means(rows: np.ndarray, count: int) -> np.ndarray:
    """Average over equal stretches of time, whatever the rate. (L, S) to (L, count) float64."""
    area = np.zeros((len(rows), rows.shape[1] + 1))  # the last sample lasts to the end
    steps = np.concatenate([(rows[:, 1:] + rows[:, :-1]) / 2, rows[:, -1:]], axis=1)
    np.cumsum(steps, axis=1, dtype=np.float64, out=area[:, 1:])
    edges = np.linspace(0, rows.shape[1], count + 1)
    return np.diff(_between(area, edges, 1), axis=1) * (count / rows.shape[1])


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
        volume = np.diff(_between(area, edges, axis), axis=axis) * (count / size)
    return volume


def _between(area: np.ndarray, edges: np.ndarray, axis: int) -> np.ndarray:
    """Read a running sum at places between its entries."""
    low = np.minimum(edges.astype(np.int64), area.shape[axis] - 2)
    part = (edges - low).reshape([-1 if n == axis else 1 for n in range(area.ndim)])
    taken: np.ndarray = np.take(area, low, axis) * (1 - part) + np.take(area, low + 1, axis) * part
    return taken


def _centred(rows: np.ndarray) -> np.ndarray:
    centred: np.ndarray = rows - rows.mean(axis=1, keepdims=True)
    return centred


def _unit(rows: np.ndarray) -> np.ndarray | None:
    """Centre each row and bring the whole to length 1; None where only rounding is left."""
    centred = _centred(rows)
    size = float(np.linalg.norm(centred))
    if not 1e-6 * float(np.abs(rows).max()) < size < np.inf:  # also NaN
        return None
    return (centred / size).ravel().astype(np.float32)
