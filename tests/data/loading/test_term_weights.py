"""TF-IDF of counts: against scikit-learn, and learned on train rows alone."""

import numpy as np
from scipy.sparse import csr_matrix

from medmcl.data.loading import simple_reading as term_weights
from medmcl.data.loading.simple_reading import TermWeights


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
