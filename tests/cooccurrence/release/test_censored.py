"""Absent cells at what fewer patients than the threshold are expected to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson
from small_counts import some_counts

from medmcl.cooccurrence.count.counts import Block
from medmcl.cooccurrence.release.censored import expected_below, fill_censored, filled
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 300), st.integers(2, 30))
def test_expectation_is_the_sum_over_what_is_below(rate, below):
    k = np.arange(below)
    weight = poisson.pmf(k, rate)
    want = (k * weight).sum() / weight.sum() if weight.sum() > 0 else None
    got = float(expected_below(np.array([rate]), below)[0])
    assert 0 < got < min(rate, below - 1) or got == pytest.approx(min(rate, below - 1))
    if want is not None:
        assert got == pytest.approx(want, rel=1e-9)


def test_extremes():
    assert expected_below(np.array([0.0, 1e30]), 11).tolist() == [0, 10]


def made(seed, mean):
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(0.7, 1.4, (2, 30))
    rate = mean * np.outer(a, b) / (a.mean() * b.mean())
    return generator.poisson(rate).astype(float)


@pytest.mark.parametrize("pairs", [1.0, 2.5])
def test_margins_come_back_from_what_is_left(pairs):
    """Half the cells absent: their sum is found, where zeros and the cap are far off."""
    patients = made(0, 11)
    kept = np.where(patients >= 11, patients, 0)
    assert 0.4 < (kept == 0).mean() < 0.7
    got = fill_censored(kept * pairs, 11, pairs) / pairs
    np.testing.assert_array_equal(got[kept > 0], kept[kept > 0])
    assert got.max(where=kept == 0, initial=0) <= 10
    assert got.sum() == pytest.approx(patients.sum(), rel=0.03)
    absent = kept == 0
    assert abs((got - patients)[absent].mean()) < 0.3  # zeros: -7, the cap: +3
    assert np.abs(got - patients)[absent].mean() < 0.4 * patients[absent].mean()
    np.testing.assert_allclose(got.sum(axis=1), patients.sum(axis=1), rtol=0.25)


def test_nothing_absent_and_nothing_there_stay_as_they_are():
    whole = np.arange(1.0, 7).reshape(2, 3)
    assert (fill_censored(whole, 11) == whole).all()
    assert (fill_censored(np.zeros((2, 3)), 11) == 0).all()


def test_counts_are_filled_by_what_they_say_of_themselves():
    counts = some_counts(3, n=100, within=False)
    np.testing.assert_array_equal(filled(counts), counts.D.toarray())
    released = release_threshold(counts, public_vocabulary=True).counts
    block = released.cross()
    want = fill_censored(block.pairs.toarray(), 11, block.pairs_per_patient)
    np.testing.assert_array_equal(filled(released), want)
    assert (want > 0).all()
    assert np.abs(want - counts.D.toarray()).sum() < (counts.D.toarray() - released.D).sum()
    silent = type(released)(
        **{**vars(released), "blocks": {("codes", "concepts"): Block(block.pairs)}}
    )
    with pytest.raises(ArtefactError, match="pairs a patient adds"):
        filled(silent)
