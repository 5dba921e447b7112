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

from medmcl.cooccurrence.svd import truncated_svd
from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator

FLIPS = 5
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
        ConfigError: If the rank reaches ``most``, so that it is not known.
    """
    rng = numpy_generator(seed, "sign flips")
    most = min(most, min(matrix.shape))
    rank, rest = 0, matrix
    leading = truncated_svd(matrix, min(16, most), seed=seed)
    while True:
        edge = max(truncated_svd(_flipped(rest, rng), 1, seed=seed)[1][0] for _ in range(flips))
        edge *= _edge_factor(matrix.shape, rank)
        while (found := int((leading[1] > edge).sum())) == len(leading[1]) < most:
            leading = truncated_svd(matrix, min(2 * found, most), seed=seed)
        if found <= rank:
            return max(rank, 1)
        if found == most < min(matrix.shape):
            raise ConfigError(
                f"the rule finds {most} dimensions or more", mend="give the rank as a number"
            )
        rank = found
        rest = matrix - (leading[0][:, :rank] * leading[1][:rank]) @ leading[2][:rank]


def _edge_factor(shape: tuple[int, int], rank: int) -> float:
    """Noise that left with ``rank`` dimensions, and the scatter of a largest singular value.

    The largest singular value of noise scatters by the -2/3 power of the size around its edge;
    without room for that, noise passes now and then and every round takes more of it away.
    """
    left = float(np.prod([1 - rank / d for d in shape]))
    return float((1 + min(shape) ** (-2 / 3)) / np.sqrt(max(left, 1e-12)))


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
