"""Score tests of variants, a study of benchmarks: against slow loops and known structure."""

import numpy as np
import pytest
from scipy import optimize, stats
from small_genomes import genomes

from benchmarks.brain.score_tests import MEDIAN_CHI2, score_tests


def slow_logistic(g, y, X):
    """Score statistic of one variant from numerical derivatives of the log likelihood."""

    def loss(b):
        eta = X @ b
        return np.logaddexp(0, eta).sum() - y @ eta

    null = optimize.minimize(loss, np.zeros(X.shape[1]), method="BFGS", options={"gtol": 1e-9}).x
    mu = 1 / (1 + np.exp(-(X @ null)))
    whole = np.column_stack([X, g])
    information = np.zeros((whole.shape[1],) * 2)
    for row, m in zip(whole, mu, strict=True):
        information += m * (1 - m) * np.outer(row, row)
    score = np.zeros(whole.shape[1])
    for row, m, outcome in zip(whole, mu, y, strict=True):
        score += (outcome - m) * row
    return score @ np.linalg.solve(information, score)


@pytest.fixture(scope="module")
def world():
    genotypes, population, case = genomes(people=500, variants=300, apart=0.25, missing=0)
    return genotypes.astype(float), population.astype(float), case.astype(float)


def scored(genotypes, case, covariates):
    return score_tests(genotypes, case, covariates, np.ones(genotypes.shape, dtype=bool))


def test_logistic_scores_equal_slow_loops(world):
    genotypes, population, case = world
    covariates = np.column_stack([population, np.random.default_rng(0).normal(size=500)])
    X = np.column_stack([np.ones(500), covariates])
    found = scored(genotypes[:, :6], case, covariates)
    expected = [slow_logistic(genotypes[:, n], case, X) for n in range(6)]
    np.testing.assert_allclose(found.chi2, expected, rtol=1e-4)
    np.testing.assert_allclose(found.p, stats.chi2.sf(expected, 1), rtol=1e-3)


def test_structure_inflates_and_covariates_take_it_away(world):
    """No variant causes anything; the populations differ in case rate and in frequencies."""
    genotypes, population, case = world
    plain, adjusted = scored(genotypes, case, None), scored(genotypes, case, population[:, None])
    assert plain.inflation > 3
    assert 0.75 < adjusted.inflation < 1.3
    assert (adjusted.p < 0.05).mean() < 0.09
    assert plain.inflation == pytest.approx(np.median(plain.chi2) / MEDIAN_CHI2)
    assert pytest.approx(stats.chi2.median(1)) == MEDIAN_CHI2


def test_absent_calls_take_the_mean_of_the_others(world):
    genotypes, population, case = world
    rng = np.random.default_rng(2)
    called = rng.random(genotypes.shape) > 0.1
    spoiled = np.where(called, genotypes, np.nan)
    found = score_tests(spoiled, case, population[:, None], called)
    by_hand = np.where(called, genotypes, np.nanmean(spoiled, axis=0))
    np.testing.assert_allclose(found.chi2, scored(by_hand, case, population[:, None]).chi2)


def test_variants_that_do_not_vary_have_no_statistic(world):
    genotypes, population, case = world
    some = np.column_stack([np.ones(500), population, genotypes[:, 0]])
    found = scored(some, case, population[:, None])
    assert np.isnan(found.chi2[:2]).all()
    assert np.isnan(found.p[:2]).all()
    assert np.isfinite(found.chi2[2])
    assert np.isfinite(found.inflation)
