"""The jackknife over groups of patients: its formula, and the scatter over fresh cohorts."""

import numpy as np
import pytest

from medmcl.cooccurrence import claime_pmi, count_tokens, factorise
from medmcl.cooccurrence.embed.jackknife import jackknife
from medmcl.core.errors import ArtefactError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate


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
