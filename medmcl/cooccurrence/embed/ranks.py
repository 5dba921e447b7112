"""How many dimensions an association matrix holds, and how far noise has stretched each of them.

**Rank**: parallel analysis by sign flips (Hong, Sheng and Dobriban, arXiv 2012.02985). Every entry
is multiplied by a random sign, which breaks what the entries have in common and keeps the variance
of each, so that the largest singular value of the flipped matrix says what noise alone can do. It
allows cells of different variance, as those of a PMI are: rare tokens are noisier. CLAIME's paper
does not say how to choose the rank.

**Shrinkage**: the singular values of signal plus white noise are too large, and the optimal ones in
Frobenius norm are known (Gavish and Donoho, IEEE Trans. Inf. Theory 2017).
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.embed.svd import Triple, truncated_svd
from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator

FLIPS = 5
_ONE_CELL = 0.25
MOST = 500
"""No rank above this is looked for."""


def signflip_rank(
    matrix: np.ndarray, *, most: int = MOST, flips: int = FLIPS, seed: int = 0
) -> int:
    """Singular values above the largest one of every sign-flipped matrix; at least 1.

    A strong dimension, flipped, looks like noise and hides weaker ones; so what was found is taken
    away, the rest is flipped again, and so on until no more is found (deflation; Dobriban and Owen,
    JRSS-B 2019).

    Args:
        matrix: Association of two modalities, (d1, d2).
        most: Look no further than this rank.
        flips: Random flips; the largest counts.
        seed: Of the signs.

    Raises:
        ConfigError: If the rank reaches ``most``, or if single cells (pairs of rare tokens) are so
            large that a flipped sign breaks nothing.
    """
    rng = numpy_generator(seed, "sign flips")
    rank, rest = 0, matrix
    while True:
        edge = max(_noise_edge(_flipped(rest, rng), seed) for _ in range(flips))
        left = float(np.prod([1 - rank / d for d in matrix.shape]))  # of the noise in ``rest``
        edge *= edge_scatter(matrix.shape) / np.sqrt(max(left, 1e-12))
        u, s, vt = values_above(matrix, edge, most, seed)
        if len(s) <= rank:
            return max(rank, 1)
        rank, rest = len(s), matrix - (u * s) @ vt


def values_above(matrix: np.ndarray, edge: float, most: int, seed: int) -> Triple:
    """Singular triplets with values above ``edge``.

    Raises:
        ConfigError: If there are ``most`` or more of them, and more are possible.
    """
    most = min(most, min(matrix.shape))
    look = min(16, most)
    while True:
        u, s, vt = truncated_svd(matrix, look, seed=seed)
        found = int((s > edge).sum())
        if found < look or look == min(matrix.shape):
            return u[:, :found], s[:found], vt[:found]
        if look == most:
            raise ConfigError(
                f"the rule finds {most} dimensions or more", fix="give the rank as a number"
            )
        look = min(2 * look, most)


def edge_scatter(shape: tuple[int, ...]) -> float:
    """Room for the scatter of the largest singular value of noise around its edge.

    It scatters by the -2/3 power of the size; without room, noise passes now and then.
    """
    return 1 + float(min(shape)) ** (-2 / 3)


def _noise_edge(flipped: np.ndarray, seed: int) -> float:
    """Largest singular value, unless a single cell makes it."""
    u, s, vt = truncated_svd(flipped, 1, seed=seed)
    cell = float((u**4).sum() * (vt**4).sum())  # share of its square that lies in one cell
    if cell > _ONE_CELL:
        i, j = int(np.abs(u[:, 0]).argmax()), int(np.abs(vt[0]).argmax())
        raise ConfigError(
            "the rank cannot be told: single cells are larger than what many have in common",
            where=f"row {i}, column {j}",
            got=f"{flipped[i, j]:.3g}, root mean square of all cells "
            f"{np.sqrt(np.mean(flipped**2)):.3g}",
            expected="associations of tokens that are frequent enough",
            fix="give the rank as a number, leave rarer tokens out when counting, or take a "
            "logarithmic association (log, smoothed)",
        )
    return float(s[0])


def _flipped(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    signs = rng.integers(0, 2, size=matrix.shape, dtype=np.int8)
    return matrix * (2 * signs - 1)


def noise_level(matrix: np.ndarray, singular_values: np.ndarray) -> float:
    """Standard deviation of a cell once the leading dimensions are taken away.

    Args:
        matrix: (d1, d2).
        singular_values: The leading ones, of signal and noise together, (rank,).
    """
    rank = len(singular_values)
    left = float(np.sum(matrix * matrix, dtype=np.float64)) - float((singular_values**2).sum())
    cells = (matrix.shape[0] - rank) * (matrix.shape[1] - rank)
    return float(np.sqrt(max(left, 0.0) / max(cells, 1)))


def shrunken(singular_values: np.ndarray, shape: tuple[int, int], noise: float) -> np.ndarray:
    """Optimal singular values in Frobenius norm under white noise; 0 for what noise would give.

    Args:
        singular_values: Of signal plus noise.
        shape: Of the matrix.
        noise: Standard deviation of a cell.
    """
    if noise <= 0:
        return singular_values.copy()
    short, long = sorted(shape)
    beta = short / long
    y = singular_values / (noise * np.sqrt(long))
    inside = np.maximum((y**2 - beta - 1) ** 2 - 4 * beta, 0.0)
    best = np.sqrt(inside) / np.maximum(y, 1e-300) * (y > 1 + np.sqrt(beta))
    return best * noise * np.sqrt(long)
