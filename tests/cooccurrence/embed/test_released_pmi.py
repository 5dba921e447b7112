"""The PMI of a release: suppressed cells are no zeros, and noise is no margin."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from medmcl.cooccurrence import Block, claime_pmi, count_tokens, factorise
from medmcl.cooccurrence.embed.pmi import linear_pmi, unpaired_tokens
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ArtefactError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate

THRESHOLD = 11


def suppressed(counts):
    """What a release keeps: cells of enough patients."""
    ((pair, block),) = counts.blocks.items()
    keep = (block.patients >= THRESHOLD).astype(np.int64)
    cells = [sparse.csr_array(m * keep) for m in (block.pairs, block.patients)]
    for one in cells:
        one.eliminate_zeros()
    per_patient = cells[0].sum() / cells[1].sum()
    kept = Block(*cells, pairs_per_patient=float(per_patient))
    return replace(counts, blocks={pair: kept}, min_patients=THRESHOLD)


def noisy(counts, spread, seed=0):
    ((pair, block),) = counts.blocks.items()
    draws = np.random.default_rng(seed).normal(size=block.pairs.shape) * spread
    cells = sparse.csr_array(block.pairs.toarray() + np.round(draws).astype(np.int64))
    return replace(counts, blocks={pair: Block(cells)}, noise_sd=float(spread))


def error(pmi, truth):
    vectors = factorise(pmi, 4)
    return max(np.linalg.norm(v @ v.T - t @ t.T) for v, t in zip(vectors, truth, strict=True))


@pytest.fixture(scope="module")
def sites():
    """20 sites of 1000 patients with few tokens: every cell is near the threshold."""
    x1, x2, *truth = simulate(20_000, 50, 50, 4, 2, mean_tokens=5, seed=0)
    return [count_tokens(x1[i::20], x2[i::20]) for i in range(20)], truth


def test_filling_beats_zeros_and_nearly_reaches_what_was_not_suppressed(sites):
    counted, truth = sites
    whole = error(linear_pmi(sum(counted).D.toarray()), truth)
    kept = [suppressed(one) for one in counted]
    absent = np.mean([1 - one.D.nnz / 2500 for one in kept])
    assert 0.3 < absent < 0.8
    zeros = error(linear_pmi(sum(one.D.toarray() for one in kept)), truth)
    fills = error(linear_pmi(sum(filled(one) for one in kept)), truth)
    assert fills < 1.2 * whole
    assert zeros > 2 * fills


def test_one_suppressed_release(sites):
    kept = suppressed(sites[0][0])
    np.testing.assert_array_equal(claime_pmi(kept), linear_pmi(filled(kept)))
    absent = kept.D.toarray() == 0
    assert np.median(claime_pmi(kept)[absent]) > -0.5  # zeros would be -1


def test_margins_of_its_own_serve_as_well(sites):
    counted, truth = sites
    pooled = sum(counted)
    exact, own = claime_pmi(pooled), linear_pmi(pooled.D.toarray())
    assert np.corrcoef(exact.ravel(), own.ravel())[0, 1] > 0.97
    assert error(own, truth) == pytest.approx(error(exact, truth), rel=0.05)


def test_noisy_cells(sites):
    pooled = sum(sites[0])
    weak = pooled.D.toarray()
    weak[3] = 0  # a code that never occurs has a margin of noise alone
    pooled = replace(pooled, blocks={p: Block(sparse.csr_array(weak)) for p in pooled.blocks})
    released = noisy(pooled, 2)
    pmi = claime_pmi(released)
    assert (pmi[3] == 0).all()
    assert unpaired_tokens(released) == {"codes": ("codes:3",), "concepts": ()}
    others = np.arange(50) != 3
    exact = linear_pmi(weak)[others]
    assert np.corrcoef(pmi[others].ravel(), exact.ravel())[0, 1] > 0.97


def test_noise_that_hides_everything(sites):
    with pytest.raises(ArtefactError, match="noise hides"):
        claime_pmi(noisy(sites[0][0], 100_000))


def test_the_linear_pmi_of_one_matrix():
    cells = np.array([[4, 2, 0], [1, 3, 0], [0, 0, 0]])
    pmi = linear_pmi(cells)
    assert pmi[0, 1] == pytest.approx(2 * 10 / (6 * 5) - 1)
    assert (pmi[2] == 0).all()
    assert (pmi[:, 2] == 0).all()


def test_nothing_was_released(sites):
    kept = suppressed(sites[0][0])
    none = sparse.csr_array(kept.D.shape, dtype=np.int64)
    empty = replace(kept, blocks={p: Block(none, none, 1.0) for p in kept.blocks})
    with pytest.raises(ArtefactError, match="no tokens met"):
        claime_pmi(empty)
