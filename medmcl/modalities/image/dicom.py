"""Single images in DICOM: radiographs, one slice, colour photographs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.dicom import open_dicom
from medmcl.modalities.image.files import one_if_grey
from medmcl.modalities.image.record import ImageRecord


def read_dicom_image(path: Path, *, window: bool = True) -> ImageRecord:
    """Read one image: rescaled, windowed, bright where the body shows bright.

    MONOCHROME1 (bright where values are low) is inverted; pixels of padding get the darkest value.
    The image is not turned: it lies as it was stored.

    Args:
        path: The file.
        window: Whether to apply the window or VOI table that the file names first.

    Raises:
        RecordError: No image, several frames, more pixels than the file holds.
    """
    dataset = open_dicom(path)
    if "PixelData" not in dataset:
        raise RecordError("holds no image", where=path, got=str(dataset.get("Modality", "")))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        fix = "convert a series or cine to NIfTI (dcm2niix)"
        raise RecordError("holds several frames", where=path, got=frames, expected=1, fix=fix)
    stored = dataset.pixel_array  # raises on missing bytes; colours come as red, green, blue
    if stored.ndim == 3:
        pixels, full_scale = one_if_grey(stored.transpose(2, 0, 1)), _full_scale(dataset)
    else:
        pixels, full_scale = _grey(dataset, stored, window)
    return ImageRecord(
        pixels=pixels, full_scale=full_scale, spacing_mm=_spacing(dataset), where=str(path)
    )


def _grey(dataset: Any, stored: np.ndarray, window: bool) -> tuple[np.ndarray, float]:
    """Give (1, Y, X) float32 and the full scale, NaN where rescaling leaves it open."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(stored, dataset)
    scaled = not np.array_equal(values, stored)
    values = apply_voi_lut(values, dataset) if window else values
    values = np.asarray(values, dtype=np.float32)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    unsure = scaled or signed or (window and "VOILUTSequence" in dataset)
    full_scale = math.nan if unsure else _full_scale(dataset)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        top = values.max() + values.min() if math.isnan(full_scale) else np.float32(full_scale)
        values = top - values
    padding = dataset.get("PixelPaddingValue")
    if padding is not None:
        empty = stored == padding
        if empty.any() and not empty.all():
            values[empty] = values[~empty].min()
    return values[None], full_scale


def _full_scale(dataset: Any) -> float:
    return 2.0 ** int(dataset.BitsStored) - 1


def _spacing(dataset: Any) -> tuple[float, float, float]:
    given = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    if given is None or len(given) != 2:
        return (math.nan, math.nan, math.nan)
    return (math.nan, float(given[0]), float(given[1]))
