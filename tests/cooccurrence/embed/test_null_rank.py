"""The rank by independent tables: the truth of simulations, rare pairs, and no structure at all."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from medmcl.cooccurrence import Block, count_tokens
from medmcl.cooccurrence.embed.ranks import null_rank
from medmcl.core.errors import ConfigError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


@pytest.mark.parametrize("case", [1, 2])
@pytest.mark.parametrize("p", [2, 4])
def test_the_rank_of_the_truth(case, p):
    x1, x2, *_ = simulate(10_000, 60, 60, p, case, seed=1)
    assert null_rank(count_tokens(x1, x2)) == p


def test_no_structure_is_one_dimension():
    x1, x2, *_ = simulate(4_000, 60, 60, 2, 2, seed=0)
    strangers = x2[np.random.default_rng(0).permutation(4_000)]
    assert null_rank(count_tokens(x1, strangers)) == 1


def test_rare_pairs_that_always_meet_are_dimensions():
    """Three rare code-concept pairs among 40 common ones that have nothing to do with each other.

    Signs cannot break them, and each is a dimension of its own.
    """
    rng = np.random.default_rng(0)
    x1, x2 = ((rng.random((5_000, 40)) < 0.2).astype(int) for _ in range(2))
    for token in range(3):
        x1[:, token] = x2[:, token] = rng.random(5_000) < 0.004
    assert null_rank(count_tokens(x1, x2)) == 3


def test_a_release_with_its_pairs_a_patient():
    x1, x2, *_ = simulate(10_000, 60, 60, 4, 2, seed=1)
    counts = count_tokens(x1, x2)
    ((pair, block),) = counts.blocks.items()
    per_patient = block.pairs.sum() / block.patients.sum()
    released = replace(
        counts, blocks={pair: Block(block.pairs, None, float(per_patient))}, min_patients=11
    )
    assert null_rank(released) == 4
    with pytest.raises(ConfigError, match="what a patient adds"):
        null_rank(replace(counts, blocks={pair: Block(block.pairs)}))


def test_noise_of_a_private_release_is_not_structure():
    x1, x2, *_ = simulate(10_000, 60, 60, 4, 2, seed=1)
    counts = count_tokens(x1, x2)
    ((pair, block),) = counts.blocks.items()
    cells = block.pairs.toarray()
    spread = 0.2 * cells.mean()
    noise = np.random.default_rng(0).normal(size=cells.shape) * spread
    noisy = Block(sparse.csr_array(np.rint(cells + noise).astype(np.int64)), None, 1.5)
    assert null_rank(replace(counts, blocks={pair: noisy}, noise_sd=float(spread))) < 4
    told_nothing = replace(counts, blocks={pair: noisy})
    assert null_rank(told_nothing) > 4


def test_more_than_looked_for():
    x1, x2, *_ = simulate(10_000, 60, 60, 4, 2, seed=1)
    with pytest.raises(ConfigError, match="3 dimensions or more"):
        null_rank(count_tokens(x1, x2), most=3)
