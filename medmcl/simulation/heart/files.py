"""Simulated records as the formats of the field: WFDB and NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmcl.simulation.heart.cmr import FIELD_MM, SLICE_MM
from medmcl.simulation.heart.ecg import FILE_RATE_HZ, LEADS
from medmcl.simulation.heart.state import Array

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
