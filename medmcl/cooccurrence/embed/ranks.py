"""How many dimensions an association matrix holds, and how far noise has stretched each of them.

**Rank**: parallel analysis by sign flips (Hong, Sheng and Dobriban, arXiv 2012.02985). Every entry
is multiplied by a random sign, which breaks what the entries have in common and keeps the variance
of each, so that the largest singular value of the flipped matrix says what noise alone can do. It
allows cells of different variance, as those of a PMI are: rare tokens are noisier. CLAIME's paper
does not say how to choose the rank.

**Shrinkage**: the singular values of signal plus white noise are too large, and the optimal ones in
Frobenius norm are known (Gavish and Donoho, IEEE Trans. Inf. Theory 2017).

**Rank of counts**: more dimensions than tables drawn under independence can show. Tables are drawn
with the margins of D and nothing else (parallel analysis; Horn 1965): each cell is Poisson, in
clumps of the pairs that one patient adds to it, because tokens of a patient come together.
Dimensions whose singular value passes the largest of all drawn tables are counted. Unlike sign
flips it knows how noisy a cell of rare tokens is, so that pairs which always meet are signal; but
it needs the counts. CLAIME's paper does not say how to choose the rank. In its simulation (d = 200,
4 dimensions, 50 tokens a patient) the rule finds 4 with 20,000 and 80,000 patients (12 of 12
cohorts), 2 to 4 with 5,000 and 1 or 2 with 2,000: it is careful.
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Block, Counts, Pair
from medmcl.cooccurrence.embed.pmi import claime_pmi
from medmcl.cooccurrence.embed.svd import Triple, truncated_svd
from medmcl.cooccurrence.release.censored import filled
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
        signs = (rng.integers(0, 2, size=rest.shape, dtype=np.int8) for _ in range(flips))
        edge = max(_noise_edge(rest * (2 * one - 1), seed) for one in signs)
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


DRAWS = 5


def null_rank(
    counts: Counts, pair: Pair | None = None, *, most: int = MOST, draws: int = DRAWS, seed: int = 0
) -> int:
    """Singular values of CLAIME's matrix above those of independent tables; at least 1.

    Args:
        counts: With patients beside pairs, or a release that says its pairs a patient.
        pair: Names of two modalities; the only pair if not given.
        most: Look no further than this rank.
        draws: Independent tables; the largest counts.
        seed: Of the draws.

    Raises:
        ConfigError: If the rank reaches ``most``, or the counts do not say what a patient adds.
    """
    names = counts.pair(*(pair or ()))
    cells = np.maximum(filled(counts, *names), 0.0)
    rows, columns = cells.sum(axis=1), cells.sum(axis=0)
    expected = np.multiply.outer(rows / max(rows.sum(), 1.0), columns)
    clump = _clumps(counts.blocks[names])
    rate = expected / clump
    rng = numpy_generator(seed, "independent tables")
    edge = 0.0
    for _ in range(draws):
        table = rng.poisson(rate) * clump
        if counts.noise_sd:
            table += counts.noise_sd * rng.standard_normal(table.shape)
        table = np.divide(table, expected, out=np.ones_like(expected), where=expected > 0) - 1
        edge = max(edge, float(truncated_svd(table, 1, seed=seed)[1][0]))
    found = values_above(claime_pmi(counts, names), edge * edge_scatter(cells.shape), most, seed)
    return max(len(found[1]), 1)


def can_draw(block: Block) -> bool:
    """Whether it is known what a patient adds to a cell."""
    return block.patients is not None or block.pairs_per_patient is not None


def _clumps(block: Block) -> np.ndarray:
    """Pairs that a patient adds to each cell, (d1, d2); the mean of all where nobody did."""
    if not can_draw(block):
        raise ConfigError(
            "the rank cannot be told: what a patient adds to a cell is not known",
            expected="counts of patients beside pairs",
            fix="count patients too, or give the rank as a number",
        )
    pairs = block.pairs.toarray().astype(np.float64)
    if block.patients is None:
        return np.full(pairs.shape, block.pairs_per_patient)
    patients = block.patients.toarray().astype(np.float64)
    mean = pairs.sum() / max(patients.sum(), 1.0)
    return np.divide(pairs, patients, out=np.full(pairs.shape, mean), where=patients > 0)
