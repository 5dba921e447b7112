"""Pictures of the simulated shapes: a few copies of one shape on a grey ground.

A copy is drawn at three by three points a pixel, whose mean smooths its edge. Points are (x, y),
x to the right, y down, in radii from its middle; every shape lies within radius 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
_FINE = 3
"""Points along a side of a pixel."""
_INK = 0.2
"""The second tone of a texture: the colour at this brightness, so that its hue stays."""
_APART = 2.4
"""Radii between the middles of neighbouring copies."""
_OFF_CENTRE, _WOBBLE = 0.16, 0.02
"""Places of a group, from the middle of the picture, in parts of its side."""
_TILT = math.radians(10)
_GREY, _TINT = (0.35, 0.65), 0.02
_RADII = {"one": (0.13, 0.2), "two": (0.12, 0.14), "three": (0.12, 0.135), "four": (0.12, 0.135)}
"""Radius of a copy in parts of the side, at least and at most."""

RGB: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.12, 0.12),
    "green": (0.1, 0.62, 0.22),
    "blue": (0.15, 0.3, 0.92),
    "yellow": (0.98, 0.88, 0.1),
    "purple": (0.52, 0.14, 0.7),
    "orange": (1.0, 0.52, 0.05),
    "cyan": (0.1, 0.85, 0.9),
    "pink": (1.0, 0.5, 0.76),
    "white": (0.99, 0.99, 0.99),
    "lime": (0.62, 0.95, 0.1),
}
"""Colour to red, green, blue, in [0, 1]."""


@dataclass(frozen=True)
class Layout:
    """Where the copies lie.

    Attributes:
        middles: (copies, 2), x and y in parts of the side.
        radius: In parts of the side.
    """

    middles: Array
    radius: float


def draw_layout(count: str, position: str, rng: np.random.Generator) -> Layout:
    """Place the copies of a shape about one of the nine places."""
    low, high = _RADII[count]
    radius = float(rng.uniform(low, high))
    place = np.array([_along(position, "left", "right"), _along(position, "top", "bottom")])
    middle = 0.5 + _OFF_CENTRE * place + rng.uniform(-_WOBBLE, _WOBBLE, 2)
    turn = rng.uniform(0, 2 * math.pi) if count == "two" else rng.uniform(-0.15, 0.15)
    return Layout(middle + _APART * radius * _turned(_CORNERS[count], turn), radius)


def _along(position: str, back: str, forth: str) -> int:
    words = position.split()
    return (forth in words) - (back in words)


def _corners(count: int) -> Array:
    """Middles about the origin, (count, 2): a pair, a triangle, a square of side 1."""
    if count == 1:
        return np.zeros((1, 2))
    angles = 2 * math.pi * np.arange(count) / count + math.pi / 4 * (count == 4)
    reach = 0.5 / math.sin(math.pi / count)
    return reach * np.stack([np.sin(angles), -np.cos(angles)], axis=1)


_CORNERS = {name: _corners(n) for n, name in enumerate(("one", "two", "three", "four"), start=1)}


def _turned(points: Array, turn: float) -> Array:
    c, s = math.cos(turn), math.sin(turn)
    turned: Array = points @ np.array([[c, s], [-s, c]])
    return turned


def draw_picture(
    values: Mapping[str, str],
    layout: Layout,
    size: int,
    pixel_noise: float,
    rng: np.random.Generator,
    *,
    tilt: float = _TILT,
    ground: float | None = None,
) -> Array:
    """Draw a picture, (size, size, 3) uint8.

    Args:
        values: Shape, colour and texture.
        layout: Where its copies lie.
        size: Pixels along a side.
        pixel_noise: Standard deviation of the noise of a pixel and channel; 1 = white.
        rng: Draws ground, shades, tilts and noise.
        tilt: A copy is turned by at most this, in radians, either way.
        ground: Grey of the ground, 0 to 1; a tinted one is drawn if not given.
    """
    behind = rng.uniform(*_GREY) + rng.uniform(-_TINT, _TINT, 3)
    shade = np.clip(np.array(RGB[values["colour"]]) + rng.uniform(-0.03, 0.03, 3), 0, 1)
    picture = np.empty((size, size, 3), dtype=np.float32)
    picture[:] = behind if ground is None else ground
    radius = layout.radius * size
    for middle in layout.middles * size:
        turn, phase = rng.uniform(-tilt, tilt), rng.uniform(0, 1)
        rows, columns, x, y = _points(middle, radius, size, turn)
        inside = SHAPE_TESTS[values["shape"]](x, y)
        tone = _INK + (1 - _INK) * TEXTURE_TONES[values["texture"]](x, y, phase)
        cover, bright = _pixels(inside), _pixels(inside * tone)
        patch = picture[rows, columns]
        patch *= 1 - cover[..., None]
        patch += bright[..., None] * shade.astype(np.float32)
    if pixel_noise:
        noise = rng.standard_normal(picture.shape, dtype=np.float32)
        picture += np.float32(pixel_noise) * noise
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _points(
    middle: Array, radius: float, size: int, turn: float
) -> tuple[slice, slice, Array, Array]:
    """The pixels about a copy, and its own coordinates at their fine points."""
    first = np.maximum(np.floor(middle - radius - 1).astype(int), 0)
    last = np.minimum(np.ceil(middle + radius + 1).astype(int), size)
    columns, rows = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    x, y = (
        (np.arange(_FINE * a, _FINE * b, dtype=np.float32) + 0.5) / _FINE
        for a, b in zip(first, last, strict=True)
    )
    x, y = (x[None] - middle[0]) / radius, (y[:, None] - middle[1]) / radius
    c, s = math.cos(turn), math.sin(turn)
    return rows, columns, c * x + s * y, c * y - s * x


def _pixels(fine: Array) -> Array:
    """Means over the fine points of each pixel."""
    rows, columns = (length // _FINE for length in fine.shape)
    means: Array = fine.reshape(rows, _FINE, columns, _FINE).mean(axis=(1, 3), dtype=np.float32)
    return means


def _star(x: Array, y: Array) -> Array:
    """Five points: inside the edge from a tip at radius 1 to a notch at 0.42."""
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    tip, notch = np.array([1.0, 0.0]), 0.42 * np.array([math.cos(sector / 2), math.sin(sector / 2)])
    edge = notch - tip
    reach = np.hypot(x, y)
    along, aside = reach * np.cos(angle) - tip[0], reach * np.sin(angle)
    return edge[0] * aside - edge[1] * along > 0


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return (np.minimum(x, y) < 0.3) & (np.maximum(x, y) < 0.92)


def _ring(x: Array, y: Array) -> Array:
    reach = np.hypot(x, y)
    return (reach < 0.95) & (reach > 0.45)


def _heart(x: Array, y: Array) -> Array:
    lobes = np.hypot(np.abs(x) - 0.42, y + 0.3) < 0.47
    return lobes | ((y > -0.3) & (y < 0.9 - 1.05 * np.abs(x)) & (np.abs(x) < 0.88))


def _arrow(x: Array, y: Array) -> Array:
    """To the right: a shaft and a head."""
    shaft = (x > -0.95) & (x < 0.1) & (np.abs(y) < 0.25)
    return shaft | ((x >= 0.05) & (np.abs(y) < 0.85 * (0.97 - x)))


SHAPE_TESTS: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda x, y: np.hypot(x, y) < 0.92,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.72,
    "triangle": lambda x, y: (y < 0.6) & (y > 1.65 * np.abs(x) - 0.95),
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "crescent": lambda x, y: (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.45, y) > 0.72),
    "heart": _heart,
    "diamond": lambda x, y: 1.35 * np.abs(x) + np.abs(y) < 0.98,
    "arrow": _arrow,
}
"""Shape to whether a point is inside."""


def _dotted(x: Array, y: Array, phase: float) -> Array:
    across, down = ((v / 0.66 + phase) % 1 - 0.5 for v in (x, y))
    return np.hypot(across, down) > 0.3


def _checked(x: Array, y: Array, phase: float) -> Array:
    across, down = (np.floor(v / 0.5 + 2 * phase) for v in (x, y))
    return (across + down) % 2 < 0.5


TEXTURE_TONES: dict[str, Callable[[Array, Array, float], Array]] = {
    "solid": lambda x, _, __: np.ones_like(x),
    "striped": lambda _, y, phase: (y / 0.8 + phase) % 1 < 0.5,
    "dotted": _dotted,
    "checked": _checked,
    "faded": lambda _, y, __: np.clip(0.5 - 0.6 * y, 0, 1),
    "ringed": lambda x, y, phase: (np.hypot(x, y) / 0.6 + phase) % 1 < 0.5,
    "zigzag": lambda x, y, phase: (y / 0.7 + 1.2 * np.abs((x / 0.9) % 1 - 0.5) + phase) % 1 < 0.5,
    "gridded": lambda x, y, phase: ((x / 0.6 + phase) % 1 > 0.35) & ((y / 0.6 + phase) % 1 > 0.35),
    "halved": lambda x, _, __: x < 0,
    "quartered": lambda x, y, _: x * y > 0,
}
"""Texture to tone of a point: 1 the colour, 0 ink. Captioned shapes know the first five."""
