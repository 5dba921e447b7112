"""What simple features learn is kept, read back, and applied to other people as it is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from medmcl.core.errors import ArtefactError
from medmcl.data.loading import simple_reading as term_weights
from medmcl.data.loading.simple_features import SimpleTable
from medmcl.data.loading.simple_reading import SimpleReading, TermWeights


def term_matrix(found, names, train):
    learned = TermWeights.learn(found, names, train)
    return learned.apply(found, names), learned.columns


def counts(rows=60, terms=40, seed=0):
    generator = np.random.default_rng(seed)
    return generator.poisson(np.geomspace(2, 0.02, terms), (rows, terms)).astype(float)


def test_weights_equal_those_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfTransformer

    found = counts()
    train = np.arange(40)
    values, names = term_matrix(csr_matrix(found), tuple(map(str, range(40))), train)
    kept = [int(name) for name in names]
    assert kept == np.flatnonzero((found[train] > 0).sum(axis=0) >= 2).tolist()
    theirs = TfidfTransformer(sublinear_tf=True).fit(found[train][:, kept])
    assert np.allclose(values, theirs.transform(found[:, kept]).toarray())


def test_many_terms_become_directions_that_keep_the_angles(monkeypatch):
    generator = np.random.default_rng(1)
    topics = generator.random((3, 400)) ** 6
    found = generator.poisson(8 * generator.dirichlet([0.3] * 3, 80) @ topics).astype(float)
    names = tuple(map(str, range(400)))
    train = np.arange(60)
    whole = term_matrix(csr_matrix(found[:, :250]), names[:250], train)[0]
    monkeypatch.setattr(term_weights, "DIMENSIONS", 59)
    few, directions = term_matrix(csr_matrix(found[:, :250]), names[:250], train)
    assert len(directions) == 59
    angles, kept = whole[:60] @ whole[:60].T, few[:60] @ few[:60].T
    assert np.abs(angles - kept).max() < 0.05
    assert np.array_equal(few, term_matrix(csr_matrix(found[:, :250]), names[:250], train)[0])


def test_rows_without_a_known_term_are_zero_and_rare_terms_are_left_out():
    found = np.array([[1.0, 0, 1], [2, 0, 0], [0, 5, 0]])
    values, names = term_matrix(csr_matrix(found), ("a", "b", "c"), np.array([0, 1]))
    assert names == ("a",)
    assert values.tolist() == [[1], [1], [0]]
    nothing, names = term_matrix(csr_matrix(np.eye(3)), ("a", "b", "c"), np.arange(3))
    assert nothing.tolist() == [[0], [0], [0]]
    assert names == ("no common term",)


def table(values, names, train=()):
    return SimpleTable(
        modality="m", names=names, values=values, present=np.ones(values.shape[0], bool),
        train=np.array(train, dtype=int),
    )  # fmt: skip


def kept(reading):
    about = json.loads(json.dumps(reading.about()))
    return SimpleReading.of(about, reading.arrays())


def test_numbers_are_filled_with_the_means_of_who_was_learned_from():
    nan = np.nan
    here = table(np.array([[1.0, 2, nan], [3, nan, nan], [9, 9, 9]]), ("a", "b", "c"), [0, 1])
    reading = kept(here.learn())
    there = table(np.array([[nan, 5.0, 7], [0, nan, 7]]), ("b", "a", "new"))  # other order
    values, names = there.matrix(reading=reading)
    assert names == ("a", "b", "no b")
    assert values.tolist() == [[5, 2, 1], [2, 0, 0]]  # the second lacks a, whose gap has no flag
    own = here.matrix()
    assert np.array_equal(here.matrix(reading=reading)[0], own[0])
    with pytest.raises(ArtefactError, match="without b"):
        table(np.zeros((1, 1)), ("a",)).matrix(reading=reading)
    with pytest.raises(ArtefactError, match="another kind"):
        table(csr_matrix(np.eye(2)), ("a", "b")).matrix(reading=reading)


@pytest.mark.parametrize("dimensions", [3, 100])
def test_terms_weigh_what_they_weighed_there_and_new_ones_nothing(monkeypatch, dimensions):
    monkeypatch.setattr(term_weights, "DIMENSIONS", dimensions)
    counts = np.random.default_rng(0).poisson(0.6, (40, 12)).astype(float)
    names = tuple(f"t{k}" for k in range(12))
    here = table(csr_matrix(counts), names, range(30))
    reading = kept(here.learn())
    order = np.random.default_rng(1).permutation(12)
    more = np.column_stack([counts[:, order], np.ones(40)])
    there = table(csr_matrix(more), (*(names[k] for k in order), "unheard"))
    assert np.allclose(there.matrix(reading=reading)[0], here.matrix()[0], atol=1e-12)
    twice = table(csr_matrix(np.vstack([counts, counts[30:]])), names, range(30))
    assert np.allclose(twice.matrix()[0][:40], here.matrix()[0], atol=1e-12)


def test_what_was_kept_must_fit_together():
    reading = table(np.eye(2), ("a", "b"), [0, 1]).learn()
    with pytest.raises(ValueError, match="do not fit"):
        SimpleReading.of({**reading.about(), "names": ["a"]}, reading.arrays())
