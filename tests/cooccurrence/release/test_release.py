"""Nothing below the threshold leaves, nothing that was left out can be derived, no patients."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from small_counts import edit, numbers, some_counts, tables, vocabularies

from benchmarks.ehr.record_tracing import largest_advantage, trace_scores, traced
from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.count.counts import Block, Margin
from medmcl.cooccurrence.count.rules import nested_modalities
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release.dominance import LARGEST_SHARE
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import release_private
from medmcl.cooccurrence.release.release import Release, release_threshold
from medmcl.core.errors import ArtefactError


def dense(matrix):
    return matrix.toarray()


def release_or_none(counts, below, public):
    settings_ = {"public_vocabulary": public, "largest_share": 1}  # the threshold alone
    if all(block.patients.max() < below for block in counts.blocks.values()):
        with pytest.raises(ArtefactError, match="no cell has enough patients"):
            release_threshold(counts, below, **settings_)
        return None
    return release_threshold(counts, below, **settings_)


CASES = st.tuples(
    st.integers(0, 2**31), st.integers(5, 80), st.integers(2, 6), st.sampled_from([0.1, 0.4, 2.0])
)


@settings(max_examples=40, deadline=None)
@given(CASES, st.booleans())
def test_no_cell_below_the_threshold_leaves_and_no_other_is_lost(case, public):
    seed, n, below, rate = case
    counts = some_counts(seed, n, rate=rate)
    released = release_or_none(counts, below, public)
    if released is None:
        return
    where = {
        name: [counts.vocabularies[name].tokens.index(t) for t in words.tokens]
        for name, words in released.counts.vocabularies.items()
    }
    for (a, b), block in released.counts.blocks.items():
        cells = np.ix_(where[a], where[b])
        patients = dense(counts.blocks[a, b].patients)
        pairs = dense(counts.blocks[a, b].pairs)
        want = np.where(patients >= below, pairs, 0)
        np.testing.assert_array_equal(dense(block.pairs), want[cells])
        assert want.sum() == want[cells].sum()
        assert block.patients is None
    for name, words in released.counts.vocabularies.items():
        enough = counts.margins[name].patients >= below
        expected = [t for t, e in zip(counts.vocabularies[name].tokens, enough, strict=True)
                    if e or public]  # fmt: skip
        assert list(words.tokens) == expected
    assert released.counts.patients is None
    assert released.counts.units is None


@settings(max_examples=40, deadline=None)
@given(CASES, st.booleans(), st.integers(0, 2**31))
def test_the_release_does_not_depend_on_what_it_leaves_out(case, public, other):
    """Not derivable: any values of the suppressed cells, margins and totals give the same release.

    Cells within a modality stay symmetric, tokens stay on their side of the threshold.
    """
    seed, n, below, rate = case
    counts = some_counts(seed, n, rate=rate)
    changed = with_other_secrets(counts, below, np.random.default_rng(other))
    one, two = (release_or_none(c, below, public) for c in (counts, changed))
    if one is None or two is None:
        assert one is two
        return
    assert numbers(one.counts) == numbers(two.counts)
    assert one.keys == two.keys
    ratios = [[b.pairs_per_patient for b in r.counts.blocks.values()] for r in (one, two)]
    assert ratios[0] == ratios[1]


def with_other_secrets(counts, below, generator):
    blocks = {}
    for (a, b), block in counts.blocks.items():
        patients, pairs = dense(block.patients), dense(block.pairs)
        secret = patients < below
        drawn = generator.integers(0, below, patients.shape)
        if a == b:
            drawn = np.triu(drawn) + np.triu(drawn, 1).T
        patients[secret] = drawn[secret]
        pairs[secret] = 3 * drawn[secret]
        blocks[a, b] = Block(sparse.csr_array(pairs), sparse.csr_array(patients))
    margins = {}
    for name, one in counts.margins.items():
        rare = one.patients < below
        people = np.where(rare, generator.integers(0, below, len(rare)), one.patients + 5)
        margins[name] = Margin(one.tokens + 9, one.pairs + generator.integers(0, 9), people)
    return replace(counts, blocks=blocks, margins=margins, units=999, patients=777)


def test_margins_that_were_counted_would_give_a_cell_away():
    """The attack that the rule stops: with true margins, linear algebra finds suppressed cells."""
    counts = some_counts(3, n=100, within=False)
    truth, below = dense(counts.D), 11
    released = release_threshold(counts, below, public_vocabulary=True).counts
    absent = dense(counts.cross().patients) < below
    assert absent.sum() == 12
    true_margins = truth.sum(axis=1), truth.sum(axis=0)
    released_margins = released.margins["codes"].tokens, released.margins["concepts"].tokens

    found = solve_absent(dense(released.D), absent, *true_margins)
    single = absent & (absent.sum(axis=1) == 1)[:, None]
    assert single.any()
    np.testing.assert_allclose(found[single], truth[single], atol=1e-9)
    nothing = solve_absent(dense(released.D), absent, *released_margins)
    np.testing.assert_allclose(nothing[absent], 0, atol=1e-9)
    assert truth[absent].max() > 5


def solve_absent(cells, absent, rows, columns):
    """Least squares for the absent cells from what margins leave over."""
    i, j = np.nonzero(absent)
    unknown = np.arange(len(i))
    system = np.zeros((sum(cells.shape), len(i)))
    system[i, unknown] = 1
    system[cells.shape[0] + j, unknown] = 1
    left = np.r_[rows - cells.sum(axis=1), columns - cells.sum(axis=0)]
    found = np.zeros(cells.shape)
    found[i, j] = np.linalg.lstsq(system, left, rcond=None)[0]
    return found


def test_the_folder_says_what_was_done_and_loads(tmp_path):
    counts = some_counts(4, n=70)
    release = release_threshold(replace(counts, sites=3))
    folder = release.save(tmp_path / "out")
    keys = read_manifest(folder)
    assert (keys.units, keys.patients, keys.min_patients) == (None, None, 11)
    assert keys.release.min_patients == 11
    assert keys.release.absent.startswith("0, below the threshold, mostly of one patient")
    assert keys.release.largest_share == LARGEST_SHARE
    assert keys.release.sites == 3
    assert len(keys.release.warnings) == 4  # not that of a single site; that none is known apart
    assert "one level of a hierarchy" in keys.release.warnings[1]
    assert load_counts(folder).sites == 3
    assert numbers(load_counts(folder)) == numbers(release.counts)
    assert all(b.pairs_per_patient > 1 for b in load_counts(folder).blocks.values())
    assert release.left_out["cells suppressed"] == 61  # told to the site, not in the folder


def test_margins_of_three_modalities_are_sums_of_all_their_cells():
    generator = np.random.default_rng(0)
    tables_ = {name: generator.poisson(0.5, (100, d)) for name, d in (("a", 4), ("b", 3), ("c", 5))}
    words = {n: Vocabulary(tuple(f"{n}{k}" for k in range(x.shape[1]))) for n, x in tables_.items()}
    counted = {
        pair: count_tokens(*(tables_[m] for m in pair), names=pair, within=pair == ("b", "c"),
                           vocabularies={m: words[m] for m in pair})
        for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    }  # fmt: skip
    counts = replace(
        counted["a", "b"],
        vocabularies=words,
        margins={m: c.margins[m] for c in counted.values() for m in c.margins},
        blocks={pair: block for c in counted.values() for pair, block in c.blocks.items()},
    )
    released = release_threshold(counts, 11).counts
    assert released.vocabularies == words
    D = {pair: dense(block.pairs) for pair, block in released.blocks.items()}
    assert (D["a", "c"] == 0).any()
    want = {
        "a": D["a", "b"].sum(1) + D["a", "c"].sum(1),
        "b": D["a", "b"].sum(0) + D["b", "c"].sum(1),
        "c": D["a", "c"].sum(0) + D["b", "c"].sum(0),
    }
    for name, values in want.items():
        np.testing.assert_array_equal(released.margins[name].tokens, values)
    np.testing.assert_array_equal(released.margins["b"].pairs, D["b", "b"].sum(1))
    np.testing.assert_array_equal(released.margins["a"].pairs, want["a"])


def test_a_higher_threshold_than_was_kept_is_a_lie(tmp_path):
    folder = release_threshold(some_counts(4, n=70), 5).save(tmp_path / "out")
    edit(folder, lambda v: (v.update(min_patients=11), v["release"].update(min_patients=11)))
    with pytest.raises(ArtefactError, match="fewer pairs than its threshold"):
        load_counts(folder)


def rolled_up():
    """P1 of 40 patients, P2 of 5, and their roll-up G, in one vocabulary."""
    p1, p2 = np.arange(100) < 40, (np.arange(100) >= 40) & (np.arange(100) < 45)
    words = {"codes": Vocabulary(("P1", "P2", "G")), "concepts": Vocabulary(("x",))}
    x1 = np.stack([p1, p2, p1 | p2], axis=1).astype(int)
    return count_tokens(x1, np.ones((100, 1), dtype=int), vocabularies=words)


def test_nested_codes_give_a_suppressed_cell_away_and_are_refused(tmp_path):
    counts = rolled_up()
    leaves = {"c1": ("P1", "G"), "c2": ("P2", "G"), "c3": ("G",)}
    nested = nested_modalities(leaves, counts.vocabularies)
    assert nested == ("codes",)
    counts = load_counts(save_counts(replace(counts, nested=nested), tmp_path / "site"))
    assert counts.nested == ("codes",)
    for known in (counts, merge(replace(counts, nested=()), counts)):
        with pytest.raises(ArtefactError, match=r"difference of two(.|\n)*nested codes in codes"):
            release_threshold(known, public_vocabulary=False)
    allowed = release_threshold(counts, allow_nested=True)
    D = dict(zip(allowed.counts.vocabularies["codes"].tokens, dense(allowed.counts.D), strict=True))
    assert "P2" not in D
    assert D["G"][0] - D["P1"][0] == 5  # what the flag is about
    assert load_counts(allowed.save(tmp_path / "out")).nested == ("codes",)


def test_one_level_of_a_hierarchy_is_not_nested():
    words = {"codes": Vocabulary(("G", "H")), "others": Vocabulary(("K",))}
    assert nested_modalities(None, words) == ()
    assert nested_modalities({"a": ("G", "X"), "b": ("H",), "c": ("Y", "Z")}, words) == ()
    assert nested_modalities({"a": ("G", "K")}, words) == ("codes", "others")
    assert nested_modalities({"a": ("H", "H")}, words) == ()


def test_the_sum_of_three_sites_is_released_as_such(tmp_path):
    sites = [save_counts(some_counts(k, n=40), tmp_path / str(k)) for k in range(3)]
    total = save_counts(merge(*sites), tmp_path / "sum")
    release = release_threshold(load_counts(total))
    assert release.keys.sites == 3
    assert not any("one site" in warning for warning in release.keys.warnings)


def test_a_site_reads_few_patients_of_the_others_off_a_sum_and_the_manifest_says_so():
    """The attack that no threshold on the sum stops: subtract one's own counts."""
    mine, theirs = some_counts(0, n=300), some_counts(1, n=6)
    with pytest.raises(ArtefactError, match="mostly of one"):
        release_threshold(mine + theirs)  # one site gives nearly all of every cell
    release = release_threshold(mine + theirs, largest_share=1)
    left = dense(release.counts.D) - dense(mine.D)
    assert (dense(release.counts.D) > 0).all()
    np.testing.assert_array_equal(left, dense(theirs.D))
    assert 0 < theirs.cross().patients.max() < 11
    assert any("subtracts its own counts" in warning for warning in release.keys.warnings)
    alone = release_threshold(mine)
    assert not any("subtracts its own" in warning for warning in alone.keys.warnings)


def test_an_older_folder_says_its_sites_in_the_release_only(tmp_path):
    folder = release_threshold(replace(some_counts(4, n=70), sites=3)).save(tmp_path / "out")
    edit(folder, lambda values: values.update(sites=2))
    with pytest.raises(ArtefactError, match="truth about: sites"):
        load_counts(folder)
    edit(folder, lambda values: (values.pop("sites"), values.pop("checksum")))  # as before any
    assert load_counts(folder).sites == 3


def test_a_block_without_a_cell_left_loads(tmp_path):
    x1, x2 = tables(n=200)
    x1[:, 0] += 1
    x1[:, 1:] = 0
    release = release_threshold(count_tokens(x1, x2 * 0 + [1, 0, 0, 0, 0], within=True))
    assert release.counts.blocks["concepts", "concepts"].pairs.nnz == 0
    loaded = load_counts(release.save(tmp_path / "out"))
    assert loaded.blocks["concepts", "concepts"].pairs_per_patient == 1


def test_exact_counts_are_not_saved_under_the_name_of_a_release(tmp_path):
    keys = release_threshold(some_counts(n=200)).keys
    with pytest.raises(ArtefactError, match="nothing beside its cells"):
        save_counts(some_counts(n=200), tmp_path / "out", release=keys)
    assert not (tmp_path / "out").exists()


def test_a_single_site_is_told_to_sum_first():
    assert any("sum securely" in w for w in release_threshold(some_counts(n=200)).keys.warnings)


def test_notes_of_the_site_do_not_leave(tmp_path):
    counts = replace(some_counts(n=200), notes=("ward 7, patient 123",))
    release = release_threshold(counts)
    assert release.counts.notes == ()
    leaky = replace(release, counts=replace(release.counts, notes=counts.notes))
    with pytest.raises(ArtefactError, match="notes of the site"):
        leaky.save(tmp_path / "out")


def forged():
    counts = some_counts(n=200)
    good = release_threshold(counts, public_vocabulary=True)
    inside = good.counts

    def doctored(**changes):
        return Release(replace(inside, **changes), good.keys)

    exact = replace(counts, units=None, patients=None)
    return {
        "patients": doctored(patients=200),
        "units": doctored(units=200),
        "patients of codes": doctored(margins=counts.margins),
        "patients of codes x concepts": doctored(blocks=counts.blocks),
        "tokens of codes that are not": doctored(
            margins={n: replace(m, patients=None) for n, m in counts.margins.items()}
        ),
        "exact cells": Release(exact, good.keys),
    }


@pytest.mark.parametrize("what", list(forged()))
def test_a_release_with_more_than_its_cells_is_not_written(tmp_path, what):
    with pytest.raises(ArtefactError, match=f"nothing beside its cells(.|\n)*{what}"):
        forged()[what].save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_released_is_refused():
    with pytest.raises(ArtefactError, match="hides nobody"):
        release_threshold(some_counts(), 1)
    with pytest.raises(ArtefactError, match="patients were not counted"):
        release_threshold(some_counts(n=200, patients=False))
    released = release_threshold(some_counts(n=200)).counts
    with pytest.raises(ArtefactError, match="released already"):
        release_threshold(released)
    with pytest.raises(ArtefactError, match="no cell has enough patients"):
        release_threshold(some_counts(n=9))
    unnamed = some_counts(n=200)
    words = {n: Vocabulary(one.tokens) for n, one in unnamed.vocabularies.items()}
    with pytest.raises(ArtefactError, match="has no version"):
        release_threshold(replace(unnamed, vocabularies=words), public_vocabulary=True)


def test_rare_tokens_are_not_even_named():
    x1, x2 = tables(n=200)
    x1[:, 3] = 0
    x1[:5, 3] = 1
    release = release_threshold(count_tokens(x1, x2))
    assert "codes:3" not in release.counts.vocabularies["codes"].tokens
    assert release.left_out["codes left out"] == 1


def test_summing_before_suppressing_loses_fewer_cells():
    sites = [some_counts(seed, n=25) for seed in range(4)]
    apart = sum(release_threshold(s, public_vocabulary=True).counts.D.nnz for s in sites
                if s.cross().patients.max() >= 11)  # fmt: skip
    together = release_threshold(merge(*sites), public_vocabulary=True).counts.D.nnz
    assert apart / 4 < together / 2


def test_saved_exact_counts_say_that_they_are_no_release(tmp_path):
    folder = save_counts(some_counts(), tmp_path / "inside")
    assert read_manifest(folder).release is None


N, D1, D2 = 150, 50, 50


def people(generator, n):
    return tuple(generator.poisson(0.5, (n, d)) for d in (D1, D2))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    generator = np.random.default_rng(0)
    members, others = people(generator, N), people(generator, N)
    like_them = people(generator, 20_000)
    expected = (like_them[0].T @ like_them[1]) * (N / 20_000)
    counts = count_tokens(*members, vocabularies=vocabularies(D1, D2))
    ledger = Ledger.start(tmp_path_factory.mktemp("l") / "l.json", epsilon=2, delta=1e-6)
    noisy = release_private(
        *members, vocabularies=counts.vocabularies, clip=(3, 3), epsilon=1, delta=1e-6,
        ledger=ledger,
    )  # fmt: skip
    released = release_threshold(counts, public_vocabulary=True, beside_private=True)
    kept = released.counts.D.toarray().astype(float)
    cells = {
        "exact": counts.D.toarray().astype(float),
        "threshold": np.where(kept > 0, kept, np.nan),
        "private": noisy.counts.D.toarray().astype(float),
    }

    def attack(one):
        return traced(*(trace_scores(one, expected, *x) for x in (members, others)))

    return {name: attack(one) for name, one in cells.items()}


def test_exact_cells_give_members_away(world):
    assert world["exact"].auc > 0.9


def test_a_threshold_does_not_hide_members(world):
    assert world["threshold"].auc > 0.9


def test_noise_hides_members(world):
    assert abs(world["private"].auc - 0.5) < 0.16  # 4.8 standard errors of 150 against 150
    assert world["private"].advantage < largest_advantage(1, 1e-6)


def test_two_releases_subtracted_read_a_record_off_unless_they_are_noisy(tmp_path):
    """What the manifest of a threshold release warns of."""
    members = people(np.random.default_rng(2), N)
    words = vocabularies(D1, D2)
    record = np.outer(members[0][0], members[1][0])
    both = (members, tuple(x[1:] for x in members))  # with the first patient, and without
    kept = [
        release_threshold(count_tokens(*x, vocabularies=words), public_vocabulary=True).counts.D
        for x in both
    ]
    seen = (kept[0].toarray() > 0) & (kept[1].toarray() > 0)
    assert seen.mean() > 0.9
    np.testing.assert_array_equal((kept[0] - kept[1]).toarray()[seen], record[seen])
    ledger = Ledger.start(tmp_path / "l.json", epsilon=2, delta=1e-6)
    noisy = [
        release_private(*x, vocabularies=words, clip=(4, 4), epsilon=1, delta=1e-6,
                        ledger=ledger).counts.D.toarray() for x in both
    ]  # fmt: skip
    lean = np.corrcoef((noisy[0] - noisy[1]).ravel(), record.ravel())[0, 1]
    assert abs(lean) < 0.1  # 5 standard errors of 2,500 cells


def test_scores_are_the_sum_over_pairs_of_the_record():
    generator = np.random.default_rng(1)
    cells, expected = generator.uniform(1, 9, (2, 4, 3))
    expected[0, 0], cells[1, 2] = 0, np.nan
    x1, x2 = generator.poisson(1, (5, 4)), generator.poisson(1, (5, 3))
    known = np.isfinite(cells) & (expected > 0)
    fitted = np.where(known, expected, 0)
    for _ in range(20):
        fitted = fitted / fitted.sum(1, keepdims=True) * np.where(known, cells, 0).sum(1)[:, None]
        fitted = fitted / fitted.sum(0) * np.where(known, cells, 0).sum(0)
    for k, score in enumerate(trace_scores(cells, expected, x1, x2)):
        want = 0.0
        for i in range(4):
            for j in range(3):
                if (i, j) not in ((0, 0), (1, 2)):
                    lean = (cells[i, j] - fitted[i, j]) / fitted[i, j]
                    want += x1[k, i] * x2[k, j] * lean
        assert score == pytest.approx(want)


def test_advantage_of_perfect_and_of_blind_guessing():
    assert traced(np.arange(5) + 10.0, np.arange(5.0)).advantage == 1
    assert traced(np.ones(5), np.ones(5)).auc == 0.5
    assert largest_advantage(0, 0) == 0
    assert largest_advantage(1, 0) == pytest.approx(np.tanh(0.5))
