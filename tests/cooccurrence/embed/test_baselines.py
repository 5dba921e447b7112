"""Concate, CL and within-only against their formulas, patient by patient."""

import numpy as np
import pytest
from small_counts import some_counts

from medmcl.cooccurrence import cl, concate, count_tokens, within_only
from medmcl.cooccurrence.embed.baselines import eigen_embedding
from medmcl.cooccurrence.embed.pmi import log_pmi
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError, ConfigError


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return rng.poisson(0.9, (15, 6)), rng.poisson(0.9, (15, 5))


def pairs_by_loops(x):
    """Ordered token pairs of a patient, self-pairs left out, and pairs of different patients."""
    d = x.shape[1]
    same, apart = np.zeros((d, d)), np.zeros((d, d))
    for i, mine in enumerate(x):
        for j, theirs in enumerate(x):
            for w in range(d):
                for v in range(d):
                    if i == j:
                        same[w, v] += mine[w] * (mine[v] - (w == v))
                    else:
                        apart[w, v] += mine[w] * theirs[v]
    return same, apart


def test_cl_is_the_linear_pmi_of_the_stack(tables):
    same, apart = pairs_by_loops(np.hstack(tables))
    g = same.sum(axis=1)
    pmi = g.sum() ** 2 / np.outer(g, g) * (same / same.sum() - apart / apart.sum())
    values, vectors = np.linalg.eigh(pmi)
    expected = (vectors[:, -3:] * values[-3:]) @ vectors[:, -3:].T
    v = np.vstack(cl(count_tokens(*tables, within=True), 3))
    np.testing.assert_allclose(v @ v.T, expected, atol=1e-11)


def test_concate_is_the_log_pmi_of_the_stack(tables):
    same, _ = pairs_by_loops(np.hstack(tables))
    same[0, 1] = same[1, 0] = max(same[0, 1], 1)
    g = same.sum(axis=1)
    pmi = np.empty_like(same)
    for w, v in np.ndindex(same.shape):
        expected = g[w] * g[v] / g.sum()
        pmi[w, v] = np.log(same[w, v] / expected) if same[w, v] else min(np.log(0.5 / expected), 0)
    np.testing.assert_allclose(log_pmi(same), pmi, atol=1e-12)
    counts = count_tokens(*tables, within=True)
    v = np.vstack(concate(counts, 2))
    stack = log_pmi(pairs_by_loops(np.hstack(tables))[0])
    np.testing.assert_allclose(v, eigen_embedding(stack, 2), atol=1e-11)


def test_within_only_reads_one_modality_alone(tables):
    x1, x2 = tables
    v1 = within_only(count_tokens(x1, x2, within=True), 2)[0]
    other = within_only(count_tokens(x1, np.roll(x2, 1, axis=0) + 1, within=True), 2)[0]
    np.testing.assert_array_equal(v1, other)
    same, _ = pairs_by_loops(x1)
    np.testing.assert_allclose(v1, eigen_embedding(log_pmi(same), 2), atol=1e-12)


@pytest.mark.parametrize("method", [cl, concate, within_only])
def test_they_need_the_within_blocks(tables, method):
    with pytest.raises(ArtefactError, match="pairs within codes were not counted"):
        method(count_tokens(*tables), 2)


@pytest.mark.parametrize("method", [cl, concate, within_only])
def test_the_absent_cells_of_a_release_are_not_read_as_zeros(method):
    release = release_threshold(some_counts(n=200)).counts
    assert ("codes", "codes") in release.blocks
    with pytest.raises(ArtefactError, match="absent cells of a release as zeros"):
        method(release, 2)


def test_kinds_of_log_pmi():
    cells = np.array([[8, 2, 0], [2, 8, 4], [0, 0, 0]])
    plain = log_pmi(cells)
    assert plain[0, 0] == pytest.approx(np.log(8 * 24 / (10 * 10)))
    assert plain[0, 2] == pytest.approx(np.log(0.5 * 24 / (10 * 4)))
    assert (plain[2] == 0).all()
    np.testing.assert_allclose(
        log_pmi(cells, shift=2, positive=True)[:2], np.maximum(plain - np.log(2), 0)[:2]
    )
    columns = np.array([10, 10, 4.0]) ** 0.75
    assert log_pmi(cells, smoothing=0.75)[1, 2] == pytest.approx(
        np.log(4 / (14 * columns[2] / columns.sum()))
    )


def test_absence_is_no_evidence_of_association():
    """Half a pair where a hundredth is expected would be a strong association."""
    cells = np.array([[0, 9], [9, 4000]])
    assert log_pmi(cells)[0, 0] == 0


@pytest.mark.parametrize("wrong", [{"shift": 0.5}, {"smoothing": 0.0}, {"smoothing": 1.5}])
def test_refused(wrong):
    with pytest.raises(ConfigError, match="cannot shift or smooth"):
        log_pmi(np.ones((2, 2)), **wrong)
