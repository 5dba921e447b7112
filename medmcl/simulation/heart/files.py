"""The records of a simulated heart cohort on disk: WFDB and NIfTI, or memory-mapped shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.writing import reserved_array
from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart.cmr import FIELD_MM, SLICE_MM
from medmcl.simulation.heart.ecg import FILE_RATE_HZ, LEADS
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.state import Array
from medmcl.simulation.heart.subjects import BLOCK, Block, draw_block

UNITS_PER_MV = 1000  # one step of a stored sample is 1 uV
INTENSITY = 1000  # stored intensity of an image value of 1
FRAME_S = 1 / 16  # nominal; the cine is one beat, whatever its length


def write_ecg(folder: Path, name: str, signal: Array) -> None:
    """Write ``<name>.hea`` and ``<name>.dat``: 16 bit, 500 Hz.

    Args:
        folder: Where.
        name: Record name: letters, digits, ``-`` and ``_``.
        signal: (12, S) in mV, leads as in `LEADS`.
    """
    import wfdb

    steps = np.clip(np.round(signal.T * UNITS_PER_MV), -32767, 32767).astype(np.int64)
    wfdb.wrsamp(
        name,
        fs=FILE_RATE_HZ,
        units=["mV"] * len(LEADS),
        sig_name=list(LEADS),
        d_signal=steps,
        fmt=["16"] * len(LEADS),
        adc_gain=[UNITS_PER_MV] * len(LEADS),
        baseline=[0] * len(LEADS),
        write_dir=str(folder),
    )


def write_cmr(path: Path, voxels: Array, *, is_label: bool = False) -> None:
    """Write one stack as 4-D NIfTI with axes x, y, z, t and the spacing in its header.

    x grows to the patient's left, y to the back, z to the apex, as a picture is shown.

    Args:
        path: A ``.nii.gz`` file.
        voxels: (T, Z, Y, X): image values near 0 to 1, or labels.
        is_label: Keep the numbers as they are.
    """
    import nibabel

    scaled = voxels if is_label else np.clip(np.round(voxels * INTENSITY), 0, 32767)
    size = FIELD_MM / voxels.shape[3]
    affine = np.diag([-size, -size, SLICE_MM, 1.0])
    affine[:2, 3] = FIELD_MM / 2 - size / 2
    affine[2, 3] = -SLICE_MM * (voxels.shape[1] - 1) / 2
    image = nibabel.Nifti1Image(
        scaled.transpose(3, 2, 1, 0).astype(np.uint8 if is_label else np.int16), affine
    )
    image.header.set_zooms((size, size, SLICE_MM, FRAME_S))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


class Shards:
    """Memory-mapped arrays, written block by block; rows only for who has the modality.

    Args:
        folder: Folder to make.
        settings: Of the cohort.
        table: Its subjects, whose rows `number_rows` numbered.
    """

    def __init__(self, folder: Path, settings: HeartSettings, table: pd.DataFrame) -> None:
        folder.mkdir()
        self.settings, self.table = settings, table
        samples = round(settings.ecg_seconds * settings.ecg_rate_hz)
        size = settings.cmr_size
        depth = () if settings.cmr_slices == 1 else (settings.cmr_slices,)
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            "ecg": ((12, samples), settings.dtype),
            "cmr": ((settings.cmr_frames, *depth, size, size), settings.dtype),
            "heart_mask": ((*depth, size, size), "bool"),
        }
        self.arrays = {
            name: reserved_array(folder / f"{name}.npy", dtype, (int(table[has].sum()), *shape))
            for (name, (shape, dtype)), has in zip(
                shapes.items(), ("has_ecg", "has_cmr", "has_cmr"), strict=True
            )
        }

    def write(self, number: int) -> None:
        """Render a block of subjects; copies of this process may render others."""
        settings = self.settings
        block = draw_block(settings, number)
        count = min(BLOCK, settings.subjects - block.first)
        has, rows = self._rows(block, count, "ecg")
        signal = block.ecg_signal(settings, has, settings.ecg_rate_hz, settings.ecg_seconds)
        self.arrays["ecg"][rows] = signal
        images, labels = _shard_images(settings, block)
        has, rows = self._rows(block, count, "cmr")
        self.arrays["cmr"][rows] = images[has]
        self.arrays["heart_mask"][rows] = labels[has] > 0

    def _rows(self, block: Block, count: int, kind: str) -> tuple[Array, slice]:
        """Give who of a block has a modality, and their rows, which follow one another."""
        column = self.table[f"{kind}_row"]
        first = int(column.iloc[: block.first].notna().sum())
        has = np.flatnonzero(block.table[f"has_{kind}"][:count])
        return has, slice(first, first + len(has))

    def close(self) -> None:
        """Flush."""
        for array in self.arrays.values():
            array.flush()
        self.arrays.clear()


def _shard_images(settings: HeartSettings, block: Block) -> tuple[Array, Array]:
    """Images of a whole block, (BLOCK, T, [Z,] Y, X), and labels at ED, (BLOCK, [Z,] Y, X)."""
    frames = shard_frames(settings.cmr_frames, heart_cmr.end_systole(block.state))
    start = int(np.abs(frames[0]).argmin())
    images, labels = [], []
    for depth in heart_cmr.slice_depth(settings.shard_slices):
        image, label = heart_cmr.render_cmr(
            block.state, block.cmr, frames, float(depth), settings.cmr_size
        )
        images.append(heart_cmr.add_noise(image, settings.cmr_noise, block.noise))
        labels.append(label[:, start])
    if settings.cmr_slices == 1:
        return images[0], labels[0]
    return np.stack(images, axis=2), np.stack(labels, axis=1)


def shard_frames(number: int, systole: Array) -> Array:
    """Frames of the full cycle that a shard holds, in its order, (N, number)."""
    start = np.zeros_like(systole)
    late = (systole + heart_cmr.CYCLE) // 2
    few = {
        1: [start],
        2: [systole, start],
        3: [systole, systole // 2, start],
        4: [systole, systole // 2, start, late],
    }
    if number in few:
        return np.stack(few[number], axis=1)
    even = np.arange(number) * heart_cmr.CYCLE / number
    return np.broadcast_to(even, (len(systole), number))


def number_rows(table: pd.DataFrame, settings: HeartSettings) -> None:
    """Rows of the shards, and the frames in them; empty for who has none."""
    for kind in ("ecg", "cmr"):
        present = table[f"has_{kind}"] == 1
        table[f"{kind}_row"] = (present.cumsum() - 1).where(present).astype("Int64")
    frames = shard_frames(settings.cmr_frames, table["cine_es"].to_numpy())
    for name in ("ed", "mid", "es"):
        wanted = table[f"cine_{name}"].to_numpy()[:, None]
        table[f"shard_{name}"] = np.abs(frames - wanted).argmin(axis=1)
