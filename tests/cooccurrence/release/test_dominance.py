"""No released cell is mostly one patient's or one site's, however it was counted and summed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_counts import some_counts, tables, vocabularies

from medmcl.cooccurrence import count_events, count_tokens
from medmcl.cooccurrence.count.items import Tokens
from medmcl.cooccurrence.count.rules import Rules
from medmcl.cooccurrence.exchange.flat import layout_of
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.release.dominance import undominated
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError

LARGE = st.sampled_from([1, 2, 5, 40])


def largest_of_a_patient(x1, x2):
    """Most pairs that one patient adds to each cell, by looking at everybody."""
    return (x1[:, :, None] * x2[:, None, :]).max(axis=0)


def skewed(seed, n=40, most=40):
    """Counts of which some patients have very many."""
    generator = np.random.default_rng(seed)
    x1, x2 = tables(seed, n, 4, 3, 0.6)
    for x in (x1, x2):
        x[generator.random(x.shape) < 0.03] = most
    return x1, x2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), LARGE, st.sampled_from([0.3, 0.5, 0.8]), st.integers(1, 3))
def test_no_cell_that_leaves_is_mostly_of_one_patient_or_site(seed, most, share, sites):
    x = [skewed(seed + k, most=most) for k in range(sites)]
    counts = merge(*(count_tokens(*one, vocabularies=vocabularies(4, 3)) for one in x))
    if not any(undominated(counts, pair, share).nnz for pair in counts.blocks):
        return
    try:
        cells = release_threshold(counts, 2, public_vocabulary=True, largest_share=share).counts.D
    except ArtefactError:  # the cells that pass the rule are of one patient
        return
    one = np.max([largest_of_a_patient(*some) for some in x], axis=0)
    site = np.max([some[0].T @ some[1] for some in x], axis=0)
    kept = cells.toarray() > 0
    assert (one[kept] <= share * cells.toarray()[kept]).all()
    if sites > 1:
        assert (site[kept] <= share * cells.toarray()[kept]).all()


def test_a_cell_of_one_patient_among_many_is_left_out(tmp_path):
    x1, x2 = np.ones((40, 2), dtype=int), np.ones((40, 2), dtype=int)
    x1[0, 0] = 500  # 500 of 539 pairs, though forty patients have the cell
    counts = count_tokens(x1, x2, vocabularies=vocabularies(2, 2))
    release = release_threshold(load_counts(save_counts(counts, tmp_path / "site")))
    assert release.counts.D.toarray().tolist() == [[0, 0], [40, 40]]
    assert release.left_out["cells mostly of one"] == 2
    assert release.counts.margins["codes"].tokens.tolist() == [0, 80]
    everything = release_threshold(counts, largest_share=1).counts.D.toarray()
    assert everything.tolist() == [[539, 539], [40, 40]]  # what was released before
    keys = read_manifest(release.save(tmp_path / "out")).release
    assert keys.largest_share == 0.8
    assert load_counts(tmp_path / "out").margins["codes"].most is None


def test_a_cell_of_one_site_among_three_is_left_out(tmp_path):
    words = vocabularies(2, 2)
    few = np.tile([[1, 1]], (12, 1))
    many = np.tile([[5, 1]], (40, 1))
    sites = [
        save_counts(count_tokens(x, np.ones_like(x), vocabularies=words), tmp_path / f"{k}")
        for k, x in enumerate((few, few[:11], many))
    ]
    total = save_counts(merge(*sites), tmp_path / "sum")
    for counts in (merge(*sites), load_counts(total), merge(*sites[::-1])):
        # 200 of 223 pairs of the first code are one site's, 40 of 63 of the second
        assert release_threshold(counts).counts.D.toarray().tolist() == [[0, 0], [63, 63]]
        assert counts.cross().largest.toarray().tolist() == [[200, 200], [40, 40]]
    assert release_threshold(merge(*sites), largest_share=0.9).counts.D.nnz == 4


@pytest.mark.parametrize("window", ["record", "month", "days:20", "visit"])
@pytest.mark.parametrize("pairing", ["product", "distinct"])
@pytest.mark.parametrize("pieces", [1, 4])
def test_the_most_of_a_patient_is_counted_in_every_window(window, pairing, pieces):
    generator = np.random.default_rng(3)
    n = 600
    subject = np.sort(generator.integers(0, 40, n))
    time = generator.integers(0, 90, n) * 86_400_000_000
    token = generator.integers(0, 6, n)
    order = np.lexsort((time, subject))
    events = Tokens(subject[order], time[order], token[order], generator.integers(0, 3, n))
    parts = [events.take(subject[order] % pieces == k) for k in range(pieces)]
    rules = Rules(window=window, pairing=pairing)
    counts = count_events(parts, vocabularies(3, 3), rules, fast=False)
    for number, name in enumerate(counts.modalities):
        seen = [
            [(token[order][subject[order] == one] == 3 * number + k).sum() for k in range(3)]
            for one in range(40)
        ]
        most = counts.margins[name].most
        assert (most <= np.max(seen, axis=0)).all()
        if (window, pairing) == ("record", "product"):
            assert (most == np.max(seen, axis=0)).all()
    # what one patient adds to a cell is never more than the bound says
    alone = [count_events([events.take(subject[order] == one)], vocabularies(3, 3), rules,
                          fast=False).D.toarray() for one in range(40)]  # fmt: skip
    bound = np.multiply.outer(*(counts.margins[name].most for name in counts.modalities))
    assert (np.max(alone, axis=0) <= bound).all()
    passes = undominated(counts, ("codes", "concepts"), 0.2).toarray() > 0
    assert (np.max(alone, axis=0)[passes] <= 0.2 * counts.D.toarray()[passes]).all()


def test_counts_that_do_not_say_what_one_has_are_judged_by_patients_alone():
    counts = some_counts(n=200)
    margins = {name: replace(one, most=None) for name, one in counts.margins.items()}
    older = replace(counts, margins=margins)
    few = release_threshold(older, largest_share=0.2).counts.D
    more = release_threshold(counts, largest_share=0.2).counts.D
    assert set(zip(*few.nonzero(), strict=True)) < set(zip(*more.nonzero(), strict=True))
    assert layout_of(counts).size == layout_of(older).size  # maxima do not go into a secure sum


def test_what_no_site_is_known_of_is_said():
    counts = replace(some_counts(n=200), sites=3)
    warnings = release_threshold(counts).keys.warnings
    assert any("What each site gives to a cell is not known" in one for one in warnings)


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ArtefactError, match="is no share of a cell"):
        release_threshold(some_counts(n=200), largest_share=share)
