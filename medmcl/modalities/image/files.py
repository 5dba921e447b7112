"""Image files: PNG, JPEG, TIFF, BMP and GIF to one array of grey values or colours."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core import members
from medmcl.core.errors import AGAIN, FIND_FILE, RecordError, damage
from medmcl.core.limits import refuse_large
from medmcl.modalities.dicom import Chosen, is_bundle, open_dicom
from medmcl.modalities.volumes import Stack, Turn


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image as read.

    Attributes:
        pixels: (C, Y, X) or (C, Z, Y, X) as stored; C is 1 (grey) or 3 (red, green, blue).
        full_scale: Largest value that the file could hold (255, 65535); NaN where nobody says.
        spacing_mm: Distance of neighbours along (z, y, x); NaN where nobody says.
        orientation: Direction in which z, y, x grow (``SAR``); ``?`` where the file does not say.
        placed: False for a NIfTI volume that does not say how it lies in the body.
        notes: Names of what reading left out: ``alpha``, ``depth``.
        where: File it was read from, for messages.
    """

    pixels: np.ndarray
    full_scale: float = math.nan
    spacing_mm: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    orientation: str = "???"
    placed: bool = True
    notes: tuple[str, ...] = ()
    where: str

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self.pixels)


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""What is read; told by content, not by name."""
_SEES_THROUGH = ("LA", "PA", "La", "RGBA", "RGBa")
PIXEL_BYTES = 32
"""Memory that a pixel takes while it is read: decoded, in colours, and in single precision."""
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262
_EIGHT, _SIXTEEN = 255.0, 65535.0


def read_image(path: Path, *, turn: bool = True) -> ImageRecord:
    """Read one image file.

    Palettes, CMYK and YCbCr become red, green, blue; three channels that are equal become one.

    Args:
        path: The file, or a member of a tar archive: ``shards/000.tar/a.png``.
        turn: Whether to turn it upright as its EXIF orientation says.

    Raises:
        RecordError: Missing, empty, cut short, damaged, of another format, larger than any image,
            more than one image, or partly transparent.
    """
    if not members.is_file(path):
        raise RecordError("there is no such file", where=path, fix=FIND_FILE)
    with members.open_binary(path) as file:
        if not file.read(1):
            raise RecordError("the file is empty (zero bytes)", where=path, fix=AGAIN)
        file.seek(0)
        from PIL import Image

        with warnings.catch_warnings(), _pixels_bounded_here():
            warnings.simplefilter("ignore")  # odd metadata; pixels that are missing raise
            what = "cannot be read as an image; the file is damaged, cut short or of another format"
            fix, expected = f"{AGAIN}, or convert it to PNG", ", ".join(FORMATS)
            with (
                damage(path, what, fix=fix, expected=expected),
                Image.open(file, formats=FORMATS) as image,
            ):
                return _record(image, path, turn)


@contextmanager
def _pixels_bounded_here() -> Iterator[None]:
    """Leave the bound on pixels to `refuse_large`: Pillow's is one for all programs."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _record(image: Any, path: Path, turn: bool) -> ImageRecord:
    from PIL import ImageOps

    across, down = image.size
    refuse_large(across * down * PIXEL_BYTES, path, f"its header ({across} x {down} pixels)")
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format != "MPO":  # a JPEG of a camera: the others are previews
        raise RecordError(
            "holds more than one image",
            where=path,
            got=count,
            expected=1,
            fix="save the one that is meant, or convert a volume to NIfTI",
        )
    notes = ("depth",) if _is_deep_colour(image) else ()
    is_negative = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    image.load()
    upright = ImageOps.exif_transpose(image) if turn else image
    pixels, full_scale, has_alpha = _pixels(upright, path)
    if is_negative and full_scale == _SIXTEEN:  # Pillow turns those of 8 bits itself
        pixels = np.uint16(_SIXTEEN) - pixels
    return ImageRecord(
        pixels=pixels,
        full_scale=full_scale,
        notes=(*notes, "alpha") if has_alpha else notes,
        where=str(path),
    )


def _is_deep_colour(image: Any) -> bool:
    """Whether colours have 16 bits, of which Pillow keeps the upper 8; known before loading."""
    for tile in image.tile:
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(str(mode).startswith("RGB") and ";16" in str(mode) for mode in args):
            return True
    return False


def _pixels(image: Any, path: Path) -> tuple[np.ndarray, float, bool]:
    """Give (C, Y, X), the full scale, and whether an opaque alpha channel was dropped."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image)
        if values.dtype.kind == "u" and values.dtype.itemsize == 2:
            return np.ascontiguousarray(values.astype(np.uint16))[None], _SIXTEEN, False
        return values.astype(np.float32)[None], math.nan, False
    has_alpha = image.mode in _SEES_THROUGH or "transparency" in image.info
    if has_alpha:
        image = image.convert("RGBA")
        lowest = int(np.asarray(image)[..., 3].min())
        if lowest < _EIGHT:
            raise RecordError(
                "has transparent pixels, and nobody says what lies behind them",
                where=path,
                got=f"alpha down to {lowest} of 255",
                fix="save it without transparency, on the background that is meant",
            )
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None], _EIGHT, False
    colours = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return one_if_grey(colours), _EIGHT, has_alpha


def one_if_grey(colours: np.ndarray) -> np.ndarray:
    """Give one channel of three that are equal, else all three. (3, Y, X)."""
    is_grey = (colours == colours[:1]).all()
    return np.ascontiguousarray(colours[:1] if is_grey else colours)


def of_stack(stack: Stack, path: Path) -> ImageRecord:
    """Give a volume as an image."""
    return ImageRecord(
        pixels=stack.voxels,
        spacing_mm=stack.spacing_mm,
        orientation=stack.orientation,
        placed=stack.placed,
        where=str(path),
    )


def read_dicom_image(
    path: Path, *, window: bool = True, series: Chosen | None = None, turn: bool = True
) -> ImageRecord:
    """Read one image: rescaled, windowed, bright where the body shows bright; or one volume.

    Of an image MONOCHROME1 (bright where values are low) is inverted; pixels of padding get the
    darkest value. It is not turned: it lies as it was stored. A folder, a zip and a file of several
    frames are a volume, rescaled but not windowed.

    Args:
        path: The file, folder or zip.
        window: Whether to apply the window or VOI table that the file names first.
        series: Which one, of a volume; see `medmcl.modalities.dicom_series.read_series`.
        turn: Whether to turn a volume towards right, anterior, superior.

    Raises:
        RecordError: No image, no volume of single slices, more pixels than the file holds.
    """
    dataset = None if is_bundle(path) else open_dicom(path)
    if dataset is None or int(dataset.get("NumberOfFrames") or 1) > 1:
        from medmcl.modalities.dicom_series import read_series

        how: Turn = "body" if turn else "none"
        return of_stack(read_series(path, series=series, frame_order=None, turn=how), path)
    if "PixelData" not in dataset:
        raise RecordError("holds no image", where=path, got=str(dataset.get("Modality", "")))
    across, down = int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
    refuse_large(across * down * PIXEL_BYTES, path, f"its header ({across} x {down} pixels)")
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
