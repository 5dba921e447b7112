"""Where in an image does another modality's embedding look?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.evaluation.metrics.geometry import unit
from medmcl.evaluation.metrics.intervals import PLAIN, Resampling
from medmcl.evaluation.metrics.metric import Metric
from medmcl.evaluation.metrics.sampled import Interval

Share = Literal["positive", "softmax"]

_MASS = Metric(
    "mass_inside",
    "higher",
    lambda mass, weights: (mass @ weights) / np.maximum(weights.sum(axis=0), 1e-300),
    "no map with a mask",
)


def cosine_map(tokens: np.ndarray, pooled: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Give the cosine of every image location with another modality's embedding, (B, H, W).

    Args:
        tokens: Image locations, projected into the shared space, row by row. (B, H * W, D)
        pooled: Embedding of the other modality. (B, D)
        grid: (H, W).
    Source:
        Turgut et al. 2025, MedIA 101:103451 (code: cosine of each projected location with the
        global ECG embedding). Differs: no upsampling here.
    """
    height, width = grid
    if tokens.shape[:2] != (len(pooled), height * width) or tokens.shape[2] != pooled.shape[1]:
        raise ValueError(f"tokens {tokens.shape} do not fit pooled {pooled.shape}, grid {grid}")
    cosine = np.einsum("btd,bd->bt", unit(tokens), unit(pooled))
    return np.asarray(cosine.reshape(len(pooled), height, width))


def mass_inside(
    maps: np.ndarray,
    masks: np.ndarray,
    *,
    share: Share = "positive",
    temperature: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the share of each map's mass that lies inside its mask; higher is better.

    The mask is averaged over the area of each map cell, so a coarse map needs no upsampling. The
    share of a flat map is the share of the image that the mask covers: compare with that.

    Args:
        maps: Cosine maps, (B, H, W).
        masks: True inside, at any resolution. (B, h, w)
        share: ``positive`` counts positive cosines as mass; ``softmax`` counts exp(cosine /
            temperature), which always exists.
        temperature: Of the softmax.

    Returns:
        (B,) shares, zero where undefined; and (B,) bool, False where a mask is empty or no cosine
        is positive.
    Source:
        Energy-based pointing game, Wang et al. 2020, arXiv 1910.01279, §4.3. Differs: a mask, not a
        box; the softmax form.
    """
    heat = np.maximum(maps, 0.0) if share == "positive" else _softmax(maps / temperature)
    cells = _area_average(np.asarray(masks, dtype=np.float64), maps.shape[1:])
    total = heat.sum(axis=(1, 2))
    defined = (total > 0) & (cells.sum(axis=(1, 2)) > 0)
    inside = (heat * cells).sum(axis=(1, 2))
    return np.where(defined, inside / np.where(total > 0, total, 1.0), 0.0), defined


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """How well maps find a structure, against maps made with other subjects' embeddings.

    Attributes:
        own: Mass inside the mask with the subject's own embedding.
        shuffled: The same with other subjects' embeddings, averaged.
        difference: Own minus shuffled, paired by subject.
        area: Share of the image that the masks cover: the mass of a flat map.
        left_out: Maps without a mask or without mass.
    """

    own: Interval
    shuffled: Interval
    difference: Interval
    area: float
    left_out: int


def localise(
    tokens: np.ndarray,
    pooled: np.ndarray,
    masks: np.ndarray,
    grid: tuple[int, int],
    *,
    resampling: Resampling = PLAIN,
    share: Share = "softmax",
    temperature: float = 0.1,
    shuffles: int = 10,
) -> Localisation:
    """Compare mass inside the mask for own and for shuffled embeddings, with intervals.

    Args:
        tokens: As in `cosine_map`.
        pooled: As in `cosine_map`.
        masks: As in `mass_inside`.
        grid: (H, W) of the tokens.
        resampling: How rows are drawn; a shuffled partner is always another subject, drawn with
            the same seed.
        share: As in `mass_inside`.
        temperature: As in `mass_inside`.
        shuffles: Other subjects each map is compared with.
    """
    sampler = resampling.over(pooled)
    kept: dict[str, object] = {"share": share, "temperature": temperature}
    own, defined = mass_inside(cosine_map(tokens, pooled, grid), masks, **kept)  # type: ignore[arg-type]  # keyword arguments held in a dict
    generator = numpy_generator(sampler.seed, "localisation")
    others, paired = [], defined.copy()
    for _ in range(shuffles):
        partner, found = _other_subject(sampler.codes, generator)
        mass, exists = mass_inside(cosine_map(tokens, pooled[partner], grid), masks, **kept)  # type: ignore[arg-type]  # as above
        others.append(mass)
        paired &= exists & found
    shuffled = np.mean(others, axis=0) if others else np.zeros_like(own)
    first = sampler.sample(_MASS, [], [own], rows=paired)
    second = sampler.sample(_MASS, [], [shuffled], rows=paired)
    cells = _area_average(np.asarray(masks, dtype=np.float64), grid)
    return Localisation(
        own=first.interval(sampler.level),
        shuffled=second.interval(sampler.level),
        difference=first.minus(second).interval(sampler.level),
        area=float(cells[paired].mean()) if paired.any() else 0.0,
        left_out=int((~paired).sum()),
    )


def _other_subject(
    codes: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw for each row a row of another subject; False where there is none."""
    partner = generator.permutation(len(codes))
    for _ in range(100):
        clash = np.flatnonzero(codes[partner] == codes)
        if len(clash) == 0:
            break
        partner[clash] = generator.integers(0, len(codes), size=len(clash))
    return partner, codes[partner] != codes


def _area_average(masks: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Mean of each mask over the area of each cell of a grid, (B, H, W)."""
    rows = _overlap(grid[0], masks.shape[1])
    columns = _overlap(grid[1], masks.shape[2])
    return np.asarray(np.einsum("Hh,bhw,Ww->bHW", rows, masks, columns, optimize=True))


def _overlap(cells: int, pixels: int) -> np.ndarray:
    """Share of each pixel in each cell along one axis, rows sum to one. (cells, pixels)."""
    cell = np.arange(cells)[:, None] * pixels / cells
    pixel = np.arange(pixels)[None]
    shared = np.minimum(cell + pixels / cells, pixel + 1) - np.maximum(cell, pixel)
    return np.asarray(np.maximum(shared, 0) * cells / pixels)


def _softmax(maps: np.ndarray) -> np.ndarray:
    weights = np.exp(maps - maps.max(axis=(1, 2), keepdims=True))
    return np.asarray(weights / weights.sum(axis=(1, 2), keepdims=True))
