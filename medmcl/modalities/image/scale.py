"""Intensities of images: to a known range, or to mean 0 and deviation 1."""

from __future__ import annotations

import math

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.image.record import ImageRecord
from medmcl.modalities.image.settings import ImageSettings
from medmcl.modalities.ordered import percentiles

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
