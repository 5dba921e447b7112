"""What leads look like and how alike they are: measured once, weighed by the checks of names.

Measured are I, II, V1 to V6, and what I and II may be instead if something is exchanged: III (II
less I), their sum, and each of these four upside down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from medmcl.core.config import read_yaml
from medmcl.modalities.ecg.leads import PRECORDIAL


@cache
def learned(check: str) -> dict[str, np.ndarray]:
    """Give the numbers of a check by name, each in one row, (N,)."""
    numbers = read_yaml(Path(__file__).with_name(f"{check}.yaml"))
    return {name: np.array(text.split(), dtype=float) for name, text in numbers.items()}


LEADS = ("I", "II", *PRECORDIAL)
MEASURES = 8
THIRD, SUM = 8, 9
"""Rows of III and of I + II, behind those of `LEADS`."""
TURNED = (0, 1, THIRD, SUM)
"""Rows that are also measured upside down, behind all others."""
LOWEST = np.array([0.2, -3.4, -2.2, -1.6, 0.34, -3.0, -3.0, -2.3])
"""Measures are cut off at these, the 0.5th percentile of PTB-XL over all leads."""
HIGHEST = np.array([3.4, -0.19, 1.9, 0.64, 3.2, -0.29, 0.1, -0.01])
"""The same at the 99.5th percentile."""
SAMPLED_HZ = 100
SHORTEST_SECONDS = 2
_STEEP = 0.3  # share of the usual steepness of a QRS from which a sample lies in one
_TOPS = (0.97, 0.03)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Measures of the rows of one record.

    Attributes:
        lead: Each row's high, low, mean and spread in QRS complexes, its high, low and spread
            outside, and its steepness, (8, 14): `LEADS`, III, I + II, then `TURNED` upside down.
        alike: Fisher's z of the correlations in and outside QRS complexes, (2, 10, 10).
        common: Share of the squared steepness of `LEADS` in QRS complexes that one wave form
            explains, which each lead has in its own size, 0.125 to 1.
    """

    lead: np.ndarray
    alike: np.ndarray
    common: float


def measure_shapes(span: np.ndarray, rate_hz: float) -> Shapes | None:
    """Measure I, II, V1 to V6, whatever they are called.

    Args:
        span: I, II, V1 to V6 in mV, medians removed, (8, S).
        rate_hz: Samples a second.

    Returns:
        The measures; None if there is too little signal.
    """
    step = max(1, round(rate_hz / SAMPLED_HZ))
    length = span.shape[1] // step
    if length < SHORTEST_SECONDS * rate_hz / step:
        return None
    rows = span[:, : length * step]
    if step > 1:
        rows = rows.reshape(len(span), length, step).mean(axis=2)
    rows = np.concatenate([rows, rows[1:2] - rows[:1], rows[1:2] + rows[:1]])
    slope, rows = rows[:, 2:] - rows[:, :-2], rows[:, 1:-1]
    within = _complexes(slope[: len(LEADS)])
    if not 16 <= np.count_nonzero(within) <= len(within) - 16:
        return None
    places = np.flatnonzero(within), np.flatnonzero(~within)
    high, low, mean, spread, inside = _describe(rows.take(places[0], axis=1))
    rest_high, rest_low, _, rest_spread, outside = _describe(rows.take(places[1], axis=1))
    scale = spread[2 : len(LEADS)].mean() + 1e-9
    steepness = np.sqrt(np.einsum("ls,ls->l", slope, slope) / slope.shape[1])
    steepness = np.concatenate([steepness, steepness[list(TURNED)]])
    measures = np.stack([high, low, mean, spread, rest_high, rest_low, rest_spread, steepness])
    measures /= scale
    measures[:3] = np.arcsinh(3 * measures[:3])
    measures[4:6] = np.arcsinh(5 * measures[4:6])
    measures[[3, 6, 7]] = np.log(measures[[3, 6, 7]] + 1e-3)
    steep = slope[: len(LEADS)].take(places[0], axis=1)
    power = np.linalg.eigvalsh(steep @ steep.T)
    common = float(power[-1] / max(power.sum(), 1e-30))
    bounded = np.minimum(np.maximum(measures, LOWEST[:, None]), HIGHEST[:, None])
    return Shapes(lead=bounded, alike=np.stack([inside, outside]), common=common)


def _complexes(slope: np.ndarray) -> np.ndarray:
    """Which samples lie in or beside QRS complexes, (S,) bool."""
    steep = np.sqrt(np.einsum("ls,ls->s", slope, slope))
    place = int(0.98 * len(steep))
    near = np.zeros(len(steep) + 4, dtype=bool)
    near[2:-2] = steep > _STEEP * np.partition(steep, place)[place]
    return np.asarray(near[:-4] | near[1:-3] | near[2:-2] | near[3:-1] | near[4:])


def _describe(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """97th and 3rd percentile, mean and spread, (14,), and Fisher's z of correlations, (10, 10)."""
    count = rows.shape[1]
    top, bottom = (int(share * count) for share in _TOPS)
    ends = (top, bottom), (count - 1 - top, count - 1 - bottom)
    ordered = np.partition(rows, (*ends[0], *ends[1]), axis=1)
    turned = list(TURNED)  # upside down, the highest is the lowest
    high, low = (
        np.concatenate([ordered[:, n], -ordered[turned, m]]) for n, m in zip(*ends, strict=True)
    )
    mean = rows.sum(axis=1) / count
    gram = rows @ rows.T - count * np.outer(mean, mean)
    size = np.sqrt(np.maximum(np.diagonal(gram), 0)) + 1e-9
    share = gram / (size[:, None] * size)
    like = np.arctanh(np.minimum(np.maximum(share, -0.995), 0.995))
    spread = size / np.sqrt(count)
    mean, spread = (
        np.concatenate([part, turn])
        for part, turn in ((mean, -mean[turned]), (spread, spread[turned]))
    )
    return high, low, mean, spread, like
