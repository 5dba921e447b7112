"""Factorisation of blocks against LAPACK, brute force and known truth; the rank that is found."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from medmcl.cooccurrence import Block, count_tokens, factorise
from medmcl.cooccurrence.embed.factorise import joint_factorise
from medmcl.cooccurrence.embed.ranks import noise_level, null_rank, shrunken, signflip_rank
from medmcl.cooccurrence.embed.svd import truncated_svd
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


def low_rank(d1=90, d2=70, rank=4, noise=0.0, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    truth = scale * rng.normal(size=(d1, rank)) @ rng.normal(size=(rank, d2)) / np.sqrt(d1 * d2)
    return truth, truth + noise * rng.normal(size=(d1, d2))


def test_it_is_the_closest_product_of_its_rank():
    _, pmi = low_rank(noise=0.05)
    v1, v2 = factorise(pmi, 6)
    assert v1.shape == (90, 6)
    assert v2.shape == (70, 6)
    values = np.linalg.svd(pmi, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(pmi - v1 @ v2.T), np.linalg.norm(values[6:]))
    np.testing.assert_allclose(v1.T @ v1, np.diag(values[:6]), atol=1e-12)
    np.testing.assert_allclose(v2.T @ v2, np.diag(values[:6]), atol=1e-12)


def test_lanczos_agrees_with_lapack_on_falling_values():
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(d, 300)))[0] for d in (700, 400))
    matrix = (u * 0.97 ** np.arange(300)) @ v.T
    u, s, vt = truncated_svd(matrix, 20, solver="lanczos")
    exact = truncated_svd(matrix, 20, solver="exact")
    np.testing.assert_allclose(s, exact[1], rtol=1e-5)
    np.testing.assert_allclose((u * s) @ vt, (exact[0] * exact[1]) @ exact[2], atol=2e-2)
    np.testing.assert_allclose(u.T @ u, np.eye(20), atol=1e-10)


def test_lanczos_on_a_flat_spectrum():
    matrix = np.random.default_rng(0).normal(size=(700, 900))  # noise: the worst case
    s = truncated_svd(matrix, 40, solver="lanczos")[1]
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False)[:40], rtol=1e-4)


def test_lanczos_on_fewer_dimensions_than_asked():
    matrix = low_rank(700, 650, rank=3)[0]
    s = truncated_svd(matrix, 8, solver="lanczos")[1]
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False)[:8], atol=1e-7)


def test_signs_and_bits_are_fixed():
    _, pmi = low_rank(700, 650, noise=0.01)
    first, again = factorise(pmi, 5), factorise(pmi.copy(), 5)
    np.testing.assert_array_equal(first[0], again[0])
    largest = np.abs(first[0]).argmax(axis=0)
    assert (first[0][largest, np.arange(5)] > 0).all()
    flipped = factorise(-pmi, 5)
    np.testing.assert_allclose(flipped[0] @ flipped[1].T, -(first[0] @ first[1].T), atol=1e-9)


def test_weights_solve_the_weighted_problem():
    """No step of alternating weighted least squares improves on it."""
    rng = np.random.default_rng(3)
    pmi = rng.normal(size=(12, 9))
    rows, columns = rng.uniform(0.1, 5, 12), rng.uniform(0.1, 5, 9)
    v1, v2 = factorise(pmi, 3, weights=(rows, columns))

    def loss(a, b):
        return (np.multiply.outer(rows, columns) * (pmi - a @ b.T) ** 2).sum()

    best = min(_alternated(pmi, rows, columns, rng, loss) for _ in range(4))
    assert loss(v1, v2) == pytest.approx(best, rel=1e-6)
    plain = factorise(pmi, 3)
    assert loss(*plain) > 1.01 * best
    np.testing.assert_allclose(v1.T @ v1, v2.T @ v2, atol=1e-10)


def _alternated(pmi, rows, columns, rng, loss):
    b = rng.normal(size=(9, 3))
    for _ in range(150):
        a = np.array(
            [
                np.linalg.lstsq(b * np.sqrt(columns)[:, None], y * np.sqrt(columns), rcond=None)[0]
                for y in pmi
            ]
        )
        b = np.array(
            [
                np.linalg.lstsq(a * np.sqrt(rows)[:, None], y * np.sqrt(rows), rcond=None)[0]
                for y in pmi.T
            ]
        )
    return loss(a, b)


def test_a_token_of_weight_zero_gets_zeros():
    _, pmi = low_rank(noise=0.01)
    rows, columns = np.ones(90), np.ones(70)
    rows[5] = 0
    v1, _ = factorise(pmi, 4, weights=(rows, columns))
    assert (v1[5] == 0).all()


@pytest.mark.parametrize(
    "weights", [(np.ones(90), np.ones(69)), (np.ones(90), -np.ones(70))], ids=["size", "sign"]
)
def test_weights_that_do_not_fit(weights):
    with pytest.raises(ConfigError, match="weights do not fit"):
        factorise(low_rank()[1], 2, weights=weights)


def test_shrinking_comes_closer_to_the_truth():
    truth, pmi = low_rank(noise=0.02)
    plain, shrunk = (factorise(pmi, 8, shrink=s) for s in (False, True))
    errors = [np.linalg.norm(v1 @ v2.T - truth) for v1, v2 in (plain, shrunk)]
    assert errors[1] < 0.8 * errors[0]


def test_the_shrinker_of_gavish_and_donoho():
    """Square matrices, noise 1 / sqrt(n): y below 2 gives 0, above it sqrt(y^2 - 4)."""
    got = shrunken(np.array([3.0, 2.5, 1.9]), (400, 400), 1 / 20)
    np.testing.assert_allclose(got, [np.sqrt(5), 1.5, 0])


def test_the_noise_left_over():
    _, pmi = low_rank(300, 200, noise=0.1, scale=20)
    s = np.linalg.svd(pmi, compute_uv=False)[:4]
    assert noise_level(pmi, s) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("rank", [1, 4, 20])
def test_the_rank_is_found(rank):
    _, pmi = low_rank(200, 150, rank=rank, noise=0.005, scale=4)
    assert signflip_rank(pmi) == rank


def test_the_rank_is_found_where_cells_are_not_alike():
    """A tenth of the rows with tenfold noise: their noise is no dimension."""
    rng = np.random.default_rng(0)
    truth, _ = low_rank(200, 150, scale=8)
    spread = np.where(np.arange(200) < 20, 0.05, 0.005)[:, None]
    pmi = truth + spread * rng.normal(size=truth.shape)
    assert signflip_rank(pmi) == 4
    assert factorise(pmi, "auto")[0].shape == (200, 4)


def test_cells_of_rare_tokens_that_no_sign_can_break():
    """One pair that always meets, each token once in a while: a PMI of hundreds."""
    _, pmi = low_rank(200, 150, noise=0.005, scale=4)
    pmi[17, 30] = 300
    with pytest.raises(ConfigError, match="row 17, column 30"):
        factorise(pmi, "auto")
    assert factorise(pmi, 5)[0].shape == (200, 5)


def test_a_rank_beyond_the_limit_is_not_guessed():
    with pytest.raises(ConfigError, match="give the rank as a number"):
        signflip_rank(low_rank(200, 150, rank=20, noise=1e-6)[1], most=10)


@pytest.mark.parametrize("rank", [0, 71, 2.5, "all"])
def test_impossible_rank(rank):
    with pytest.raises(ConfigError, match="no such rank"):
        factorise(low_rank()[1], rank)


def test_values_that_are_not_finite():
    pmi = low_rank()[1]
    pmi[3, 4] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        factorise(pmi, 3)


SIZES = {"a": 50, "b": 40, "c": 30}


def truth_and_blocks(noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(size=(d, 4)) / np.sqrt(d) for name, d in SIZES.items()}
    blocks = {
        (a, b): truth[a] @ truth[b].T + noise * rng.normal(size=(SIZES[a], SIZES[b]))
        for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    return truth, blocks


def test_two_modalities_are_claime():
    blocks = {("a", "b"): truth_and_blocks(0.02)[1]["a", "b"]}
    found, (v1, v2) = joint_factorise(blocks, 4), factorise(blocks["a", "b"], 4)
    np.testing.assert_allclose(found["a"] @ found["b"].T, v1 @ v2.T, atol=1e-6)
    np.testing.assert_allclose(found["a"] @ found["a"].T, v1 @ v1.T, atol=1e-6)


def test_noise_is_shared_out_over_the_pairs():
    truth, blocks = truth_and_blocks(0.05)
    found = joint_factorise(blocks, 4)
    for (a, b), block in blocks.items():
        v1, v2 = factorise(block, 4)
        alone = np.linalg.norm(v1 @ v2.T - truth[a] @ truth[b].T)
        assert np.linalg.norm(found[a] @ found[b].T - truth[a] @ truth[b].T) < 0.85 * alone


def test_modalities_that_never_met_are_related_through_a_third():
    truth, blocks = truth_and_blocks(0.02)
    del blocks["b", "c"]
    found = joint_factorise(blocks, 4)
    got, expected = found["b"] @ found["c"].T, truth["b"] @ truth["c"].T
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.9


def test_a_modality_related_to_no_other():
    _, blocks = truth_and_blocks()
    lonely = {("a", "b"): blocks["a", "b"], ("c", "d"): np.ones((30, 8))}
    with pytest.raises(ArtefactError, match="related to no other"):
        joint_factorise(lonely, 2)


def test_blocks_of_other_sizes():
    _, blocks = truth_and_blocks()
    blocks["b", "c"] = blocks["b", "c"][:-1]
    with pytest.raises(ArtefactError, match="differ in their tokens of b"):
        joint_factorise(blocks, 2)


def test_a_token_that_is_related_to_nothing_gets_zeros():
    _, blocks = truth_and_blocks(0.02)
    blocks["a", "b"][:, 3] = blocks["b", "c"][3] = 0
    assert np.flatnonzero(~joint_factorise(blocks, 4)["b"].any(axis=1)).tolist() == [3]


def test_impossible_rank_of_several():
    with pytest.raises(ConfigError, match="no such rank"):
        joint_factorise(truth_and_blocks()[1], 31)


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
