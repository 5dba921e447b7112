"""What noise costs that several sites add, each a share of it.

The sum of discrete Gaussians is nearly, not exactly, one. Kairouz, Liu and Steinke (ICML 2021,
arXiv 2102.06387, theorem 1 and proposition 14) bound it: n shares of scale sigma >= 1/2 in d cells,
on a query that one patient moves by Delta (L2), have Renyi divergence of order alpha at most

    alpha / 2 (Delta / (sqrt(n) sigma) + tau sqrt(d))^2,
    tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma^2 k / (k + 1)),

which is zero-concentrated differential privacy with rho = (...)^2 / 2. The paper has two more
bounds and takes the smallest; this one alone is used here, so that a cost is never too low.
"""

from __future__ import annotations

import math

from medmcl.core.errors import ArtefactError

SMALLEST_SCALE = 0.5
"""Of a share, below which the theorem does not hold."""


def inflation(scale: float, shares: int) -> float:
    """The theorem's tau: how far the sum of shares is from one discrete Gaussian."""
    return 10 * math.fsum(
        math.exp(-2 * (math.pi * scale) ** 2 * k / (k + 1)) for k in range(1, shares)
    )


def rho_of_shares(sensitivity: float, scale: float, shares: int, cells: int) -> float:
    """What a release costs whose noise is the sum of shares.

    Args:
        sensitivity: Most that one patient moves all cells (L2).
        scale: Of each share.
        shares: How many.
        cells: How many cells have noise.

    Raises:
        ArtefactError: A share is too small for the theorem.
    """
    if scale < SMALLEST_SCALE or shares < 1:
        raise ArtefactError(
            "so little noise has no known cost",
            got=f"{shares} shares of scale {scale}",
            expected=f"one or more, each of scale {SMALLEST_SCALE} or more",
        )
    epsilon = sensitivity / (math.sqrt(shares) * scale)
    epsilon += inflation(scale, shares) * math.sqrt(cells)
    return epsilon**2 / 2 * (1 + 1e-12)


def scale_of_shares(sensitivity: float, rho: float, shares: int, cells: int) -> float:
    """The smallest scale of a share, to a trifle, for which the sum costs no more than ``rho``."""
    scale = max(SMALLEST_SCALE, sensitivity / math.sqrt(2 * rho * shares))
    while rho_of_shares(sensitivity, scale, shares, cells) > rho:
        scale *= 1 + 1e-6
    return scale
