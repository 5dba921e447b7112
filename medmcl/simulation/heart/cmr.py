"""A beating short-axis stack, driven by a `HeartState`: images and the labels behind them.

Everything is a closed formula in mm and in the angle round the LV, so that a picture of any pixel
size shows the same heart, and volumes of the labels are those of the state:

- the cavity is the ellipsoid of `HeartState`; its squared radius shrinks by the local ejection;
- the myocardium keeps its cross-section at every angle and time (the wall thickens, base and apex
  stay in place);
- the RV is a crescent on the septal side of the LV with the cross-section of its volume;
- an infarct is a sector that does not move; in LBBB the septum lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.simulation.heart.state import Array, HeartState, Rows, profile

FIELD_MM = 153.6  # side of the square field of view
CYCLE = 16  # frames of a full cine; end-systole falls on one of them
SLICE_MM = 10.0  # 8 mm and a gap of 2 mm, as in UK Biobank
ABOVE_BASE = 2  # slices of a full stack above the base
STACK = 13
RV, MYOCARDIUM, LV = 1, 2, 3  # labels, numbered as in ACDC

SEPTUM = np.pi  # angle of the septum: image left; angles grow clockwise from image right
RV_REACH = np.radians(76)  # half the angle the RV embraces
INFARCT_AT = np.array([0.0, -0.62 * np.pi, 0.06 * np.pi, 0.60 * np.pi])  # none LAD LCX RCA
INFARCT_EDGE = 0.50  # width of the border zone, radians
KNOTS = 9  # of the background, along each side of the field
SITE_CONTRAST = np.array([(1.0, 0.0), (0.85, 0.05), (1.12, 0.02), (0.92, 0.09), (1.05, 0.06)])
"""Gain and offset of a site's scanner, repeated beyond five sites."""


@dataclass(frozen=True, kw_only=True)
class CmrNuisance(Rows):
    """What shapes an image and has nothing to do with the state; standard normal.

    Attributes:
        centre: Place of the LV, (N, 2).
        turn: Rotation of the heart in the plane, (N,).
        blood: Brightness of blood, myocardium, RV wall, (N, 3).
        bias: Slope of the coil's sensitivity along x and y, (N, 2).
        texture: Of the background, (N, KNOTS, KNOTS).
        site: Number of the site (not normal), (N,).
    """

    centre: Array
    turn: Array
    blood: Array
    bias: Array
    texture: Array
    site: Array


def draw_nuisance(rows: int, sites: int, generator: np.random.Generator) -> CmrNuisance:
    """Draw what has nothing to do with the state."""
    normal = generator.standard_normal
    return CmrNuisance(
        centre=normal((rows, 2)),
        turn=normal(rows),
        blood=normal((rows, 3)),
        bias=normal((rows, 2)),
        texture=normal((rows, KNOTS, KNOTS)),
        site=generator.integers(0, sites, rows),
    )


def end_systole(state: HeartState) -> Array:
    """Frame of end-systole in a cycle of `CYCLE` frames that starts at end-diastole, (N,)."""
    share = 0.33 + 0.0033 * (state.rate - 62)  # systole keeps its length when the rate rises
    return np.clip(np.round(share * CYCLE), 4, 8).astype(np.int64)


def contraction(frames: Array, systole: Array) -> Array:
    """Share of the stroke that is ejected at each frame: 0 at frame 0, 1 at end-systole.

    Args:
        frames: Frame numbers in a cycle of `CYCLE`, whole or not, (N, T).
        systole: Frame of end-systole, (N,).
    """
    phase, end = frames / CYCLE, systole[:, None] / CYCLE
    ejecting = np.sin(np.pi / 2 * np.minimum(phase / end, 1)) ** 2
    filling = np.clip((phase - end) / (1 - end), 0, 1)
    return np.where(phase <= end, ejecting, (1 + np.cos(np.pi * filling**0.6)) / 2)


def slice_depth(slices: Array) -> Array:
    """Depth below the base in mm of slices of the full stack, counted from above the base."""
    return np.asarray((slices - ABOVE_BASE + 0.5) * SLICE_MM)


def pixel_places(size: int) -> Array:
    """Coordinates in mm of ``size`` pixel centres along one side, 0 in the middle."""
    return ((np.arange(size) + 0.5) / size - 0.5) * FIELD_MM


def render_cmr(
    state: HeartState, nuisance: CmrNuisance, frames: Array, depth: float, size: int
) -> tuple[Array, Array]:
    """Draw one slice at some frames, without noise.

    Args:
        state: What drives the heart.
        nuisance: What surrounds it.
        frames: Frame numbers in a cycle of `CYCLE`, (N, T).
        depth: Depth of the slice below the base, mm.
        size: Pixels along each side of the field.

    Returns:
        Images (N, T, Y, X) float32, blood near 1; labels (N, T, Y, X) uint8: 0 elsewhere, `RV`,
        `MYOCARDIUM`, `LV`.
    """
    places = pixel_places(size).astype(np.float32)
    x = places - (11 + 4 * nuisance.centre[:, :1]).astype(np.float32)
    y = places - (2 + 4 * nuisance.centre[:, 1:]).astype(np.float32)
    distance = np.hypot(x[:, None, :], y[:, :, None])[:, None]
    angle = np.arctan2(y[:, :, None], x[:, None, :]) - np.radians(10 * nuisance.turn)[
        :, None, None
    ].astype(np.float32)
    stroke = contraction(frames, end_systole(state)).astype(np.float32)
    cavity, outer, outlet = _outlines(state, angle, stroke, depth)
    image = _background(state, nuisance, places, depth)[:, None]
    pixel = np.float32(FIELD_MM / size)
    covers = [np.clip((edge - distance) / pixel + 0.5, 0, 1) for edge in (cavity, outer, outlet)]
    wall = np.clip((outlet + 3.0 * (outlet > outer) - distance) / pixel + 0.5, 0, 1)
    blood, muscle, rv_wall = _brightness(nuisance)
    for cover, level in ((wall, rv_wall), (covers[2], 0.94 * blood)):
        image = image + cover * (level - image)
    for cover, level in ((covers[1], muscle), (covers[0], blood)):
        image = image + cover * (level - image)
    labels = np.where(distance < outlet, RV, 0).astype(np.uint8)
    labels[distance < outer] = MYOCARDIUM
    labels[distance < cavity] = LV
    return _scan(image, nuisance, places), labels


def add_noise(image: Array, level: float, generator: np.random.Generator) -> Array:
    """Noise of the receiver: the magnitude of the image plus Gaussian noise, (N, T, Y, X)."""
    noise = generator.standard_normal(image.shape, dtype=np.float32)
    return np.abs(image + np.float32(level) * noise)


def _outlines(
    state: HeartState, angle: Array, stroke: Array, depth: float
) -> tuple[Array, Array, Array]:
    """Distance from the LV's centre of the cavity's, the myocardium's and the RV's outer edge.

    Args:
        state: What drives the heart.
        angle: Angle of each pixel, (N, Y, X).
        stroke: `contraction`, (N, T).
        depth: Depth below the base, mm.

    Returns:
        Three arrays (N, T, Y, X) in mm; 0 where there is none.
    """
    height = 1 - depth / state.length
    cavity2 = state.radius**2 * profile(height)
    above_apex = (state.length - depth + state.wall) / (state.length + state.wall)
    outer2 = (state.radius + state.wall) ** 2 * profile(above_apex * (depth >= 0) - (depth < 0))
    shell = outer2 - cavity2
    septal = np.cos(angle - np.float32(SEPTUM))
    lean = 1 + _wide(state.asymmetry) * septal
    local = _wide(state.remote) * (1 - _infarct(state, angle, height))
    beat = stroke[:, :, None, None]
    lag = 0.6 * _wide(state.conduction == 1) * np.maximum(septal, 0) ** 2
    done = beat * (1 - lag[:, None] * (1 - beat))
    squared = _wide(cavity2)[:, None] * (1 - local[:, None] * done)
    wall2 = (_wide(shell) * lean)[:, None]
    outer = np.sqrt(squared + wall2)
    return np.sqrt(squared), outer, outer + _crescent(state, angle, stroke, height, outer)


def _infarct(state: HeartState, angle: Array, height: Array) -> Array:
    """Share of contraction that is lost, (N, Y, X); its mean over the cavity is the size."""
    reach, mean = _REACH[state.territory], _REACH_MEAN[state.territory]
    half = _wide(np.pi * state.infarct_size / mean)
    off = np.abs(
        np.remainder(angle - _wide(INFARCT_AT[state.territory]) + np.pi, 2 * np.pi) - np.pi
    )
    window = np.clip((half - off) / INFARCT_EDGE + 0.5, 0, 1) * _wide(state.territory > 0)
    return np.asarray(window * _wide(_along(height, reach)))


def _along(height: Array, reach: Array) -> Array:
    """Depth of the infarct along the axis: 1, falling to ``reach`` at base or apex, (N,)."""
    base, apex = reach[..., 0], reach[..., 1]
    rising, falling = np.clip((0.4 - height) / 0.4, 0, 1), np.clip((height - 0.6) / 0.4, 0, 1)
    return np.asarray(1 - (1 - apex) * rising - (1 - base) * falling)


def _crescent(state: HeartState, angle: Array, stroke: Array, height: Array, outer: Array) -> Array:
    """Thickness of the RV outside the LV at each angle, (N, T, Y, X) mm.

    With thickness ``t cos(pi off / 2 reach)`` the crescent's cross-section is
    ``r t 4 reach / pi + t^2 reach / 2``, solved here for ``t``.
    """
    volume = (state.rv_edv * 1000)[:, None] * (1 - state.rv_ef[:, None] * stroke)
    area = volume * (_rv_profile(height) / state.length)[:, None]
    off = np.abs(np.remainder(angle - SEPTUM + np.pi, 2 * np.pi) - np.pi)
    shape = np.cos(np.minimum(off / RV_REACH, 1) * (np.pi / 2)).astype(np.float32)
    inside = (off < RV_REACH)[:, None]
    radius = (outer * inside).sum(axis=(2, 3)) / np.maximum(inside.sum(axis=(2, 3)), 1)
    first, second = radius * 4 * RV_REACH / np.pi, RV_REACH
    reach = (np.sqrt(first**2 + 2 * second * area) - first) / second
    return np.asarray(reach[:, :, None, None].astype(np.float32) * shape[:, None])


def _rv_profile(height: Array) -> Array:
    """Cross-section of the RV by height, with mean 1 over the length of the LV."""
    return np.where((height > 0.12) & (height < 1), np.maximum(height - 0.12, 0) ** 0.7, 0) / (
        0.88**1.7 / 1.7
    )


def _background(state: HeartState, nuisance: CmrNuisance, places: Array, depth: float) -> Array:
    """Chest wall and fat in front, lung at the sides, liver below; great vessels over the base."""
    rows = np.linspace(0, 1, KNOTS)
    lungs = 0.16 + 0.10 * np.sin(np.pi * rows)[None] * np.ones((KNOTS, 1))
    liver = 0.34 * (rows[:, None] > 0.7) * (rows[None] < 0.75)
    level = np.tile(lungs + liver, (len(state.bmi), 1, 1)) + 0.05 * nuisance.texture
    fat = np.clip((state.bmi - 17) / 14, 0.1, 1.3)
    level[:, 0] = 0.75 + 0.08 * nuisance.texture[:, 0]
    level[:, 1] = 0.25 + 0.45 * np.minimum(fat, 1)[:, None] + 0.08 * nuisance.texture[:, 1]
    smooth = _hats(places)
    image = smooth @ level.astype(np.float32) @ smooth.T
    if depth >= 0:
        return np.asarray(image)
    x = places - 11 - 4 * nuisance.centre[:, :1]
    y = places - 2 - 4 * nuisance.centre[:, 1:]
    vessel = np.hypot(x[:, None, :] + 6, y[:, :, None]) < 15
    return np.asarray(np.where(vessel, 0.9, image), dtype=np.float32)


def _hats(places: Array) -> Array:
    """Smooth weights of each knot at each place, rows sum to one, (P, KNOTS)."""
    knots = np.linspace(-FIELD_MM / 2, FIELD_MM / 2, KNOTS)
    width = FIELD_MM / (KNOTS - 1) * 0.6
    weights = np.exp(-0.5 * ((places[:, None] - knots) / width) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _brightness(nuisance: CmrNuisance) -> tuple[Array, Array, Array]:
    levels = np.array([0.92, 0.30, 0.36]) * np.exp(0.06 * nuisance.blood)
    blood, muscle, rv_wall = levels.astype(np.float32).T[..., None, None, None]
    return blood, muscle, rv_wall


def _scan(image: Array, nuisance: CmrNuisance, places: Array) -> Array:
    """Sensitivity of the coil, gain and offset of the site's scanner."""
    slope = 0.12 * nuisance.bias / (FIELD_MM / 2)
    field = 1 + slope[:, :1, None] * places + slope[:, 1:, None] * places[:, None]
    gain, offset = SITE_CONTRAST[nuisance.site % len(SITE_CONTRAST)].T
    scale = (field * _wide(gain))[:, None].astype(np.float32)
    return np.asarray(image * scale + _wide(offset)[:, None], dtype=np.float32)


def _wide(values: Array) -> Array:
    """(N,) to (N, 1, 1), float32."""
    return np.asarray(values, dtype=np.float32)[:, None, None]


def _reach_mean(reach: Array) -> float:
    """Mean of `_along` over the cavity's volume."""
    height = (np.arange(2000) + 0.5) / 2000
    weight = profile(height)
    return float((weight * _along(height, reach)).sum() / weight.sum())


_REACH = np.array([(1.0, 1.0), (0.45, 1.0), (1.0, 0.6), (1.0, 0.55)])  # (base, apex) by territory
_REACH_MEAN = np.array([_reach_mean(reach) for reach in _REACH])
