"""How many dimensions the counts hold: more than tables drawn under independence can show.

Tables are drawn with the margins of D and nothing else (parallel analysis; Horn 1965): each cell
is Poisson, in clumps of the pairs that one patient adds to it, because tokens of a patient come
together. Dimensions whose singular value passes the largest of all drawn tables are counted. Unlike
sign flips (`medmcl.cooccurrence.embed.ranks`) it knows how noisy a cell of rare tokens is, so that
pairs
which always meet are signal; but it needs the counts. CLAIME's paper does not say how to choose
the rank. In its simulation (d = 200, 4 dimensions, 50 tokens a patient) the rule finds 4 with
20,000 and 80,000 patients (12 of 12 cohorts), 2 to 4 with 5,000 and 1 or 2 with 2,000: it is
careful.
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Block, Counts, Pair
from medmcl.cooccurrence.embed.pmi import claime_pmi
from medmcl.cooccurrence.embed.ranks import MOST, edge_scatter, values_above
from medmcl.cooccurrence.embed.svd import truncated_svd
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator

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
