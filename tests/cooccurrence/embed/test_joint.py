"""Several modalities in one space, against the truth that made the blocks."""

import numpy as np
import pytest

from medmcl.cooccurrence import factorise
from medmcl.cooccurrence.embed.factorise import joint_factorise
from medmcl.core.errors import ArtefactError, ConfigError

SIZES = {"a": 50, "b": 40, "c": 30}


def truth_and_blocks(noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(size=(d, 4)) / np.sqrt(d) for name, d in SIZES.items()}
    blocks = {
        (a, b): truth[a] @ truth[b].T + noise * rng.normal(size=(SIZES[a], SIZES[b]))
        for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    return truth, blocks


def test_the_truth_comes_back_up_to_one_rotation():
    truth, blocks = truth_and_blocks()
    found = joint_factorise(blocks, 4)
    for a in SIZES:
        for b in SIZES:
            np.testing.assert_allclose(found[a] @ found[b].T, truth[a] @ truth[b].T, atol=1e-6)


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


def test_impossible_rank():
    with pytest.raises(ConfigError, match="no such rank"):
        joint_factorise(truth_and_blocks()[1], 31)
