"""Records as a person looks at them: images in grey or colour, ECGs as on paper."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from medmcl.core.shown import ShownImage, ShownSignal
from medmcl.evaluation.report.pictures import INK, SMALL, drawing, encode

LONGEST = 420
"""Pixels along the longer side of an image: larger ones are made smaller."""
COARSE = 128
"""Pixels along the longer side below which a page shows the pixels as squares."""
WIDTH = 4.3  # inches of an ECG
PAPER = 25 / 10  # mm a second over mm a mV: how ECGs are printed
MOST_HIGH = 3.4  # inches; a taller trace is pressed together, and its caption says so
LANE_MV = 1.0  # a lead has this much room or more
GAP_MV = 0.45  # between leads


def windowed(pixels: np.ndarray) -> np.ndarray:
    """Scale to 0 to 1, the darkest and the brightest hundredth cut off; NaN is 0."""
    pixels = np.asarray(pixels, dtype=np.float64)
    finite = pixels[np.isfinite(pixels)]
    if not finite.size:
        return np.zeros(pixels.shape)
    low, high = np.quantile(finite, [0.01, 0.99])
    if high <= low:  # a small bright shape on nothing
        low, high = finite.min(), finite.max()
    return np.clip((np.nan_to_num(pixels, nan=low) - low) / max(high - low, 1e-9), 0, 1)


def image_src(image: ShownImage) -> str:
    """The image as a PNG data address, with square pixels."""
    from PIL import Image

    if image.window is None:
        shown = windowed(image.pixels)
    else:
        low, high = image.window
        shown = np.clip((np.nan_to_num(image.pixels, nan=low) - low) / (high - low), 0, 1)
    grey = np.round(shown * 255).astype(np.uint8)
    rows, columns = grey.shape[0] * image.aspect, float(grey.shape[1])
    factor = min(1.0, LONGEST / max(rows, columns))
    size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
    picture = Image.fromarray(grey)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def is_coarse(image: ShownImage) -> bool:
    """Whether an image has so few pixels that they are shown as squares."""
    return max(image.pixels.shape[:2]) < COARSE


def signal_src(signal: ShownSignal) -> tuple[str, str]:
    """Draw leads under one another over a grid of 0.2 s and 0.5 mV.

    Returns:
        SVG data address; and what is odd about its scale, empty if nothing.
    """
    seconds = signal.values_mv.shape[1] / signal.rate_hz
    lanes = [_lane(row) for row in signal.values_mv]
    height_mv = sum(up + down + GAP_MV for down, up in lanes)
    wanted = WIDTH / seconds / PAPER * height_mv
    height = min(wanted, MOST_HIGH)
    said = "" if height == wanted else f"amplitudes at {height / wanted:.0%} of that"
    with drawing(WIDTH, height) as (figure, ((axes,),)):
        figure.set_layout_engine("none")
        axes.set_position((0, 0, 1, 1))
        _grid(axes, seconds, height_mv)
        times = np.arange(signal.values_mv.shape[1]) / signal.rate_hz
        top = height_mv
        for row, lead, (down, up) in zip(signal.values_mv, signal.leads, lanes, strict=True):
            level = top - GAP_MV / 2 - up
            axes.plot(times, row + level - _middle(row), color=INK, linewidth=0.75)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}
            axes.text(0.006 * seconds, top - 0.04 * height_mv / len(lanes), lead, va="top",
                      fontsize=SMALL, fontweight="bold", bbox=box)  # fmt: skip
            top -= up + down + GAP_MV
        return encode(figure), said


def _middle(row: np.ndarray) -> float:
    finite = row[np.isfinite(row)]
    return float(np.median(finite)) if finite.size else 0.0


def _lane(row: np.ndarray) -> tuple[float, float]:
    """Room of a lead below and above its median, in mV."""
    finite = row[np.isfinite(row)]
    if not finite.size:
        return LANE_MV / 2, LANE_MV / 2
    down = float(np.median(finite) - finite.min())
    up = float(finite.max() - np.median(finite))
    spare = max(0.0, LANE_MV - down - up) / 2
    return down + spare, up + spare


def _grid(axes: Any, seconds: float, height_mv: float) -> None:
    """Lines as on paper; small squares only where they can be told apart."""
    axes.set(xlim=(0, seconds), ylim=(0, height_mv), xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_facecolor("#FFFCFB")
    steps = [(0.2, 0.5, "#F0BDB6", 0.5)]
    if seconds <= 6 and height_mv <= 20:
        steps.insert(0, (0.04, 0.1, "#FAE3DF", 0.3))
    for second, mv, look, width in steps:
        across = np.arange(0, seconds + 1e-9, second)
        along = np.arange(0, height_mv + 1e-9, mv) if height_mv <= 60 else np.zeros(1)
        axes.vlines(across, 0, height_mv, color=look, linewidth=width)
        axes.hlines(along, 0, seconds, color=look, linewidth=width)
