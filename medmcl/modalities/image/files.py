"""Image files: PNG, JPEG, TIFF, BMP and GIF to one array of grey values or colours."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from medmcl.core import members
from medmcl.core.errors import RecordError
from medmcl.modalities.image.record import ImageRecord

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""What is read; told by content, not by name."""
_SEES_THROUGH = ("LA", "PA", "La", "RGBA", "RGBa")
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
        raise RecordError(
            "there is no such file",
            where=path,
            fix="correct the path in cohort.yaml, or say with `present` which subjects have it",
        )
    with members.open_binary(path) as file:
        if not file.read(1):
            raise RecordError(
                "the file is empty (zero bytes)", where=path, fix="copy it again from its source"
            )
        file.seek(0)
        return _decoded(file, path, turn)


def _decoded(file: IO[bytes], path: Path, turn: bool) -> ImageRecord:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; pixels that are missing raise
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                return _record(image, path, turn)
        except RecordError:
            raise
        except Exception as error:  # Pillow raises many kinds on damaged bytes
            raise RecordError(
                "cannot be read as an image; the file is damaged, cut short or of another format",
                where=path,
                got=f"{type(error).__name__}: {str(error)[:200]}",
                expected=", ".join(FORMATS),
                fix="copy it again from its source, or convert it to PNG",
            ) from None


def _record(image: Any, path: Path, turn: bool) -> ImageRecord:
    from PIL import ImageOps

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
