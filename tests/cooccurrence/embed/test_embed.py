"""From counts to a table of vectors and their errors, and from the table to patients."""

from dataclasses import replace

import numpy as np
import pytest

from medmcl.cooccurrence import Block, claime_pmi, count_tokens, factorise
from medmcl.cooccurrence.embed.embed import EmbedSettings, embed_patients, embed_tokens
from medmcl.cooccurrence.embed.jackknife import jackknife
from medmcl.cooccurrence.embed.pmi import ASSOCIATIONS
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


@pytest.fixture(scope="module")
def cohort():
    return simulate(8_000, 60, 50, 3, 2, rho=0.5, seed=2)


@pytest.fixture(scope="module")
def counts(cohort):
    return count_tokens(cohort[0], cohort[1])


def test_defaults_are_claime(counts):
    found = embed_tokens(counts)
    v1, v2 = factorise(claime_pmi(counts), 3)
    np.testing.assert_array_equal(found.table.vectors, np.concatenate([v1, v2]))
    assert found.table.modalities == ("codes",) * 60 + ("concepts",) * 50
    assert found.facts["rank"] == 3
    assert found.facts["rank_rule"] == "parallel analysis, tables drawn under independence"
    bare = replace(counts, blocks={p: Block(b.pairs) for p, b in counts.blocks.items()})
    without = embed_tokens(bare)  # patients of the cells were not counted
    assert without.facts["rank_rule"] == "parallel analysis, sign flips"
    assert without.facts["rank"] == 3
    assert found.facts["totals"]["patients"] == 8_000
    assert found.facts["without_vector"] == 0


LEAST = {"claime": 0.8, "own_margins": 0.8, "log": 0.8, "positive": 0.6, "smoothed": 0.6}
"""Positive kinds throw away half of what these data tell."""


@pytest.mark.parametrize("name", LEAST)
def test_associations_find_the_same_neighbours(counts, cohort, name):
    vectors = embed_tokens(counts, EmbedSettings(association=name, rank=3)).table.units
    truth = cohort[2] @ cohort[3].T
    got = vectors[:60] @ vectors[60:].T
    assert np.corrcoef(got.ravel(), truth.ravel())[0, 1] > LEAST[name]
    assert (ASSOCIATIONS[name].differs == "") == (name == "claime")


def test_the_shift(counts):
    pair = ("codes", "concepts")
    positive, shifted = (ASSOCIATIONS[n].matrix(counts, pair) for n in ("positive", "shifted"))
    np.testing.assert_allclose(shifted, np.maximum(positive - np.log(5), 0), atol=1e-12)


def test_tokens_without_vectors_are_named(cohort):
    x1 = cohort[0].toarray()
    x1[:, 7] = 0
    found = embed_tokens(count_tokens(x1, cohort[1]), EmbedSettings(rank=3))
    assert found.facts["unpaired"] == {"codes x concepts": {"codes": ["codes:7"], "concepts": []}}
    assert found.facts["without_vector"] == 1
    assert found.facts["no_vector"] == ["codes:7"]
    assert not found.table.embedded[7]


def test_an_association_of_nothing_is_refused_and_no_table_of_zeros():
    x = np.ones((30, 4), dtype=np.int64)
    with pytest.raises(ArtefactError, match="no token has a vector: the association 'shifted'"):
        embed_tokens(count_tokens(x, x), EmbedSettings(rank=2, association="shifted"))


def test_counts_of_one_modality_say_what_to_count():
    x = np.ones((30, 4), dtype=np.int64)
    both = count_tokens(x, x, within=True)
    within = replace(both, blocks={("codes", "codes"): both.blocks["codes", "codes"]})
    with pytest.raises(ArtefactError, match="how two modalities meet") as told:
        embed_tokens(within)
    assert "codes x codes" in str(told.value)
    assert "two modalities of the spec" in str(told.value)


def test_three_modalities_share_one_space(cohort):
    """Codes in two halves beside the concepts: like two modalities with their own noise."""
    x1, x2, v1, v2 = cohort
    halves = {"a": x1[:, :30], "b": x1[:, 30:], "c": x2}
    pairs = [("a", "c"), ("b", "c")]
    parts = {p: count_tokens(halves[p[0]], halves[p[1]], names=p) for p in pairs}
    together = replace(
        parts["a", "c"],
        vocabularies={n: v for c in parts.values() for n, v in c.vocabularies.items()},
        margins={n: m for c in parts.values() for n, m in c.margins.items()},
        blocks={p: c.blocks[p] for p, c in parts.items()},
    )
    found = embed_tokens(together)
    assert found.facts["rank"] == 3
    units = found.table.units
    order = [i for m in ("a", "b", "c") for i, n in enumerate(found.table.modalities) if n == m]
    got = units[order][:60] @ units[order][60:].T
    assert np.corrcoef(got.ravel(), (v1 @ v2.T).ravel())[0, 1] > 0.8
    with pytest.raises(ConfigError, match="for two modalities"):
        embed_tokens(together, EmbedSettings(shrink=True))


def test_an_association_that_does_not_exist(counts):
    with pytest.raises(ConfigError, match="did you mean 'positive'"):
        embed_tokens(counts, EmbedSettings(association="positiv"))


def test_patients_are_where_their_states_are(cohort, counts):
    x1, x2, *_ = cohort
    state = numpy_generator(2, "ehr patients", 0).standard_normal((2048, 3), dtype=np.float32)
    table = embed_tokens(counts, EmbedSettings(rank=3)).table
    shares = {name: margin.tokens for name, margin in counts.margins.items()}
    both = {"codes": x1[:2048], "concepts": x2[:2048]}

    def explained(tokens):
        c, has_any = embed_patients(tokens, table, shares)
        assert has_any.all()
        fit = c @ np.linalg.lstsq(c, state, rcond=None)[0]
        return 1 - ((state - fit) ** 2).sum() / (state**2).sum()

    alone = max(explained({name: x}) for name, x in both.items())
    assert explained(both) > alone + 0.05
    assert explained(both) > 0.4


def test_the_mode_is_a_mode():
    """The gradient of the log posterior vanishes where vectors are small."""
    rng = np.random.default_rng(0)
    vectors, x = 0.05 * rng.normal(size=(8, 2)), rng.poisson(2, (5, 8))
    shares = rng.uniform(1, 3, 8)
    table = TokenVectors.join({"codes": [str(i) for i in range(8)]}, {"codes": vectors})
    states, _ = embed_patients({"codes": x}, table, {"codes": shares})
    for tokens, c in zip(x, states, strict=True):
        softmax = shares * np.exp(vectors @ c)
        gradient = tokens @ vectors - tokens.sum() * (softmax / softmax.sum()) @ vectors - c
        assert np.abs(gradient).max() < 2e-3
        assert np.abs(c).max() > 0.05


def test_patients_without_tokens_are_told_apart():
    table = TokenVectors.join({"codes": ["a", "b"]}, {"codes": np.array([[1.0, 0], [0, 0]])})
    shares = {"codes": np.array([1, 1])}
    states, has_any = embed_patients({"codes": [[2, 0], [0, 3], [0, 0]]}, table, shares)
    assert has_any.tolist() == [True, False, False]  # "b" has no vector
    assert (states[1:] == 0).all()
    with pytest.raises(ArtefactError, match="does not fit the table"):
        embed_patients({"codes": [[1]]}, table, shares)
    with pytest.raises(ArtefactError, match="different patients"):
        embed_patients({}, table, shares)


def grouped(seed, groups=12, n=1200):
    x1, x2, *_ = simulate(n, 15, 12, 2, 2, seed=seed)
    return x1, x2, [count_tokens(x1[i::groups], x2[i::groups]) for i in range(groups)]


def similarities(counts):
    v1, v2 = factorise(claime_pmi(counts), 2)
    rows = [np.concatenate([v1, v2])[i] for i in (0, 3, 16, 20)]
    units = np.stack([r / np.linalg.norm(r) for r in rows])
    return (units @ units.T)[np.triu_indices(4, 1)]


def test_the_formula():
    """For a mean over equal groups it is the standard error of a mean."""
    x1, _, groups = grouped(0, groups=6)
    found = jackknife(groups, lambda c: c.margins["codes"].tokens / c.patients)
    means = np.stack([g.margins["codes"].tokens / g.patients for g in groups])
    np.testing.assert_allclose(found.error, means.std(axis=0, ddof=1) / np.sqrt(6))
    np.testing.assert_allclose(found.value, x1.mean(axis=0))
    assert found.groups == 6


def test_what_is_left_out_is_exactly_one_group():
    x1, x2, groups = grouped(1, groups=3)
    seen = []
    jackknife(groups, lambda c: seen.append(claime_pmi(c)) or np.zeros(1))
    rest = np.arange(len(x1.toarray())) % 3 != 1
    np.testing.assert_array_equal(seen[1], claime_pmi(count_tokens(x1[rest], x2[rest])))


def test_errors_of_similarities_are_their_scatter_over_fresh_cohorts():
    """Same truth (the seed's), other patients: blocks of one long cohort."""
    x1, x2, *_ = simulate(2000 * 24, 15, 12, 2, 2, seed=3)
    parts = [slice(i * 2000, (i + 1) * 2000) for i in range(24)]
    scatter = np.std(
        [similarities(count_tokens(x1[p], x2[p], patients=False)) for p in parts], axis=0
    )
    errors = []
    for p in parts[:6]:
        a, b = x1[p], x2[p]
        groups = [count_tokens(a[i::12], b[i::12], patients=False) for i in range(12)]
        errors.append(jackknife(groups, similarities).error)
    ratio = np.mean(errors, axis=0) / scatter
    assert 0.8 < np.exp(np.log(ratio).mean()) < 1.25
    assert ((ratio > 0.5) & (ratio < 2)).all()


def test_one_group_is_refused():
    with pytest.raises(ArtefactError, match="leaves out one group"):
        jackknife(grouped(0, groups=1)[2], similarities)
