"""CLAIME's matrix against the formula in exact fractions; that of a release without some cells."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from medmcl.cooccurrence import (
    Block,
    Counts,
    Margin,
    Vocabulary,
    claime_pmi,
    count_tokens,
    factorise,
)
from medmcl.cooccurrence.count.counts import exact_sum
from medmcl.cooccurrence.embed import pmi
from medmcl.cooccurrence.embed.pmi import linear_pmi, unpaired_tokens
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ArtefactError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return rng.poisson(0.8, (12, 5)), rng.poisson(0.8, (12, 4))


def exact_pmi(d, one, two, total):
    """The formula in fractions, from Python integers."""
    (s1, g1), (s2, g2) = one, two
    apart = sum(s1) * sum(s2) - total
    return [
        [
            Fraction(sum(g1) * sum(g2), g1[w] * g2[v])
            * (Fraction(d[w][v], total) - Fraction(s1[w] * s2[v] - d[w][v], apart))
            for v in range(len(s2))
        ]
        for w in range(len(s1))
    ]


def counted_by_hand(x1, x2):
    """D, (s, g) of both, by loops over patients and tokens."""
    d = [[0] * x2.shape[1] for _ in range(x1.shape[1])]
    sides = []
    for x in (x1, x2):
        s, g = [0] * x.shape[1], [0] * x.shape[1]
        for row in x.tolist():
            tokens = [w for w, count in enumerate(row) for _ in range(count)]
            for t, w in enumerate(tokens):
                s[w] += 1
                g[w] += sum(1 for u in range(len(tokens)) if u != t)
        sides.append((s, g))
    for a, b in zip(x1.tolist(), x2.tolist(), strict=True):
        for w, n in enumerate(a):
            for v, m in enumerate(b):
                d[w][v] += n * m
    return d, sides[0], sides[1]


def test_the_formula(tables):
    d, one, two = counted_by_hand(*tables)
    expected = np.array(exact_pmi(d, one, two, sum(map(sum, d))), dtype=float)
    np.testing.assert_allclose(claime_pmi(count_tokens(*tables)), expected, rtol=0, atol=1e-13)


def test_pieces_are_the_rows_of_the_whole(tables, monkeypatch):
    counts = count_tokens(*tables)
    whole = claime_pmi(counts)
    monkeypatch.setattr(pmi, "CELLS", 8)
    np.testing.assert_array_equal(claime_pmi(counts), whole)


def test_sites_added_give_the_pooled_matrix_bit_for_bit(tables):
    x1, x2 = tables
    sites = [count_tokens(x1[i::3], x2[i::3]) for i in range(3)]
    np.testing.assert_array_equal(claime_pmi(sum(sites)), claime_pmi(count_tokens(x1, x2)))


def huge_counts():
    """Margins whose totals and products lie beyond int64."""
    s1, s2 = [6 * 10**18, 5 * 10**18], [7 * 10**18, 3 * 10**18]
    d = [[4 * 10**18, 10**18], [2 * 10**18, 5 * 10**18]]
    margins = [Margin(np.array(s), np.array(s) // 2) for s in (s1, s2)]
    names = ("codes", "concepts")
    return Counts(
        vocabularies={n: Vocabulary((f"{n}:0", f"{n}:1")) for n in names},
        margins=dict(zip(names, margins, strict=True)),
        blocks={names: Block(sparse.csr_array(np.array(d)))},
        units=10,
        patients=10,
    ), (d, (s1, [s // 2 for s in s1]), (s2, [s // 2 for s in s2]))


def test_sums_beyond_int64_stay_exact():
    counts, (d, one, two) = huge_counts()
    assert exact_sum(np.array(d)) == sum(map(sum, d)) > 2**63
    expected = np.array(exact_pmi(d, one, two, sum(map(sum, d))), dtype=float)
    np.testing.assert_allclose(claime_pmi(counts), expected, rtol=0, atol=1e-14)


def test_exact_sum_of_negative_values():
    assert exact_sum(np.array([-(2**62), -(2**62), -(2**62), 5])) == -3 * 2**62 + 5


def test_a_token_that_never_pairs_is_independent_and_named(tables):
    x1, x2 = (t.copy() for t in tables)
    x1[:, 2] = 0  # never occurs
    x2[:, 1] = 0
    x2[4] = [0, 1, 0, 0]  # occurs once, alone
    counts = count_tokens(x1, x2)
    found = claime_pmi(counts)
    assert (found[2] == 0).all()
    assert (found[:, 1] == 0).all()
    assert unpaired_tokens(counts) == {"codes": ("codes:2",), "concepts": ("concepts:1",)}
    assert np.isfinite(found).all()


def test_nobody_has_both(tables):
    x1, x2 = (t.copy() for t in tables)
    x1[::2], x2[1::2] = 0, 0
    with pytest.raises(ArtefactError, match="no tokens met"):
        claime_pmi(count_tokens(x1, x2))


def test_one_patient_has_no_others_to_compare_with(tables):
    with pytest.raises(ArtefactError, match="all tokens lie in one unit"):
        claime_pmi(count_tokens(tables[0][:1], tables[1][:1]))


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
