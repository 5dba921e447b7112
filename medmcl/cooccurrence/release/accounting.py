"""Noise in whole numbers and what it costs, by OpenDP; the extra ``[dp]``.

Cost is counted as zero-concentrated differential privacy (Bun and Steinke 2016): rho = (sensitivity
/ sigma)^2 / 2 for one release, and the rho of several releases add up.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.core.lazy import import_extra

LARGEST_EPSILON = 1_000
"""With more, an attacker's odds may grow by a factor that no computer can write down."""
LARGEST_DELTA = 1e-4


def add_noise(values: np.ndarray, scale: float) -> np.ndarray:
    """Add discrete Gaussian noise of this scale to whole numbers, int64 of any shape.

    The noise comes from the operating system and is not repeatable, as it must be. About 30
    microseconds a value.
    """
    measure = _gaussian("i64", scale)
    return np.array(measure(values.ravel()), dtype=np.int64).reshape(values.shape)


def rho_of(sensitivity: int, scale: float) -> float:
    """What one release costs whose cells move by ``sensitivity`` (L2) a patient, rounded up."""
    return float(_gaussian("i64", scale).map(sensitivity))


@lru_cache(maxsize=256)
def scale_of(sensitivity: int, rho: float) -> float:
    """The noise for which a release costs no more than ``rho``."""
    scale = sensitivity / math.sqrt(2 * rho)
    while rho_of(sensitivity, scale) > rho:
        scale *= 1 + 1e-12
    return scale


@lru_cache(maxsize=256)
def epsilon_of(rho: float, delta: float) -> float:
    """The epsilon of (epsilon, delta) that ``rho`` comes to, by OpenDP's conversion."""
    dp = _opendp()
    check_budget(1.0, delta)
    if rho == 0:
        return 0.0
    measure = _gaussian("f64", math.sqrt(0.5 / rho) * (1 - 1e-12))
    approximate = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(measure), delta)
    return float(approximate.map(1.0)[0])


@lru_cache(maxsize=256)
def rho_for(epsilon: float, delta: float) -> float:
    """The largest rho that comes to at most this (epsilon, delta)."""
    check_budget(epsilon, delta)
    low, high = 0.0, epsilon  # rho is never more than epsilon at delta < 1/2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low


def check_budget(epsilon: float, delta: float) -> None:
    """Refuse an (epsilon, delta) that promises nothing.

    Raises:
        ArtefactError: If epsilon is not positive, or large, or delta not small.
    """
    if not 0 < epsilon <= LARGEST_EPSILON:
        raise ArtefactError(
            "epsilon promises nothing", got=epsilon,
            expected=f"above 0, say 1, and at most {LARGEST_EPSILON}",
        )  # fmt: skip
    if not 0 < delta <= LARGEST_DELTA:
        raise ArtefactError(
            "delta promises nothing",
            got=delta,
            expected=f"above 0 and at most {LARGEST_DELTA}, and well below 1 / patients",
        )


def _gaussian(distance: str, scale: float) -> Any:
    dp = _opendp()
    whole = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_gaussian(whole, dp.l2_distance(T=distance), scale=scale)


def _opendp() -> Any:
    dp = import_extra("opendp.prelude", "dp")
    dp.enable_features("contrib")  # OpenDP's switch for what is proven but not yet vetted
    return dp
