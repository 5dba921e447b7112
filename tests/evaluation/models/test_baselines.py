"""Baselines: no features at all, and covariates beside an embedding."""

import pickle

import numpy as np
import pytest
from made_targets import targets_of as targets
from slow_survival import slow_survival

from medmcl.evaluation.models.baselines import NO_FEATURES, beside, combined, majority, probe_terms
from medmcl.evaluation.models.probe import linear_probe

N = 300
TRAIN, TUNING, HELD = np.arange(180), np.arange(180, 240), np.arange(240, 300)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def test_labels_get_their_share_among_known_train_rows(generator):
    values = generator.integers(0, 2, (N, 3))
    known = generator.random((N, 3)) < 0.7
    task = targets("multilabel", values, known)
    fitted = majority(np.zeros((N, 2)), task, TRAIN, TUNING)
    expected = [values[TRAIN][known[TRAIN, c], c].mean() for c in range(3)]
    assert np.allclose(fitted.predict(np.zeros((5, 2))), np.tile(expected, (5, 1)))
    assert fitted.notes == (NO_FEATURES,)


def test_classes_get_their_shares_and_numbers_their_mean(generator):
    values = generator.integers(0, 3, N)
    fitted = majority(np.zeros((N, 1)), targets("multiclass", values, classes=tuple("abc")),
                      TRAIN, TUNING)  # fmt: skip
    shares = fitted.predict(np.zeros((2, 1)))
    assert np.allclose(shares[0], np.bincount(values[TRAIN], minlength=3) / len(TRAIN))
    numbers = generator.standard_normal((N, 2))
    fitted = majority(np.zeros((N, 1)), targets("regression", numbers), TRAIN, TUNING)
    assert np.allclose(fitted.predict(np.zeros((1, 1))), numbers[TRAIN].mean(axis=0))


def test_survival_is_kaplan_meier_and_the_risk_is_constant(generator):
    time, event = generator.exponential(5, N).round(1) + 0.1, generator.random(N) < 0.6
    task = targets("survival", np.column_stack([time, event]))
    fitted = majority(np.zeros((N, 1)), task, TRAIN, TUNING)
    assert not fitted.predict(np.zeros((4, 1))).any()
    times = np.array([0.05, 1.0, 3.0, 7.5, 1e6])
    slow = [slow_survival(event[TRAIN], time[TRAIN], at) for at in times]
    curve = fitted.survival(np.zeros((2, 1)), times)
    assert curve.shape == (2, 5)
    assert np.allclose(curve, slow)


def test_only_train_rows_count(generator):
    for kind, columns in (("binary", 1), ("regression", 2), ("survival", 2)):
        values = generator.integers(1, 3, (N, columns)).astype(float)
        if kind == "survival":
            values[:, 1] -= 1
        bent = values.copy()
        bent[180:] = values[180:] * 0 + 1
        one, two = (
            majority(np.zeros((N, 1)), targets(kind, v), TRAIN, TUNING).predict(np.zeros((3, 1)))
            for v in (values, bent)
        )
        assert np.array_equal(one, two)


def test_no_label_at_all_is_said():
    nothing, values = np.zeros((N, 1), bool), np.zeros(N)
    for task, expected in (
        (targets("binary", values, nothing), [[0.5]]),
        (targets("regression", values, nothing), [[0.0]]),
        (targets("multiclass", values, nothing, classes=("a", "b")), [[0.5, 0.5]]),
    ):
        fitted = majority(np.zeros((N, 1)), task, TRAIN, TUNING)
        assert fitted.predict(np.zeros((1, 1))).tolist() == expected
        assert "no training label" in fitted.notes
    quiet = targets("survival", np.column_stack([np.ones(N), np.zeros(N)]))
    fitted = majority(np.zeros((N, 1)), quiet, TRAIN, TUNING)
    assert fitted.survival(np.zeros((1, 1)), np.array([0.5, 9.0])).tolist() == [[1, 1]]
    assert "no event in training" in fitted.notes


def test_predictors_can_be_pickled(generator):
    time = generator.exponential(5, N)
    task = targets("survival", np.column_stack([time, np.ones(N)]))
    fitted = pickle.loads(pickle.dumps(majority(np.zeros((N, 1)), task, TRAIN, TUNING)))
    assert fitted.survival(np.zeros((1, 1)), np.array([1.0])).shape == (1, 1)


@pytest.mark.parametrize("kind", ["binary", "regression", "survival"])
def test_few_covariates_are_not_drowned_by_a_wide_embedding(generator, kind):
    """Both matter: together they beat each alone, and the joint fit without blocks, on new rows."""
    clinic, wide = generator.standard_normal((N, 3)), generator.standard_normal((N, 200))
    score = 1.2 * clinic.sum(axis=1) + 0.08 * wide.sum(axis=1)
    noisy = score + generator.standard_normal(N)
    if kind == "binary":
        task = targets(kind, noisy > 0)
    elif kind == "regression":
        task = targets(kind, noisy)
    else:
        time = generator.exponential(np.exp(-noisy))
        task = targets(kind, np.column_stack([np.minimum(time, 3), time < 3]))
    fitted, both = combined([clinic, wide], task, TRAIN, TUNING)

    def agreement(fit, x):
        return np.corrcoef(fit.predict(x[HELD])[:, 0], score[HELD])[0, 1]

    together = agreement(fitted, both)
    alone = [agreement(linear_probe(x, task, TRAIN, TUNING), x) for x in (clinic, wide)]
    plain = agreement(linear_probe(both, task, TRAIN, TUNING), both)
    assert together > max(*alone, plain) - 0.01
    assert together > plain + 0.02


def test_beside_gives_what_a_protocol_needs(generator):
    blocks = [generator.standard_normal((N, 2)), generator.standard_normal((N, 5))]
    task = targets("regression", generator.standard_normal(N))
    features, fit = beside(*blocks)
    assert np.array_equal(features, np.hstack(blocks))
    one = fit(features, task, TRAIN, TUNING).predict(features)
    two, _ = combined(blocks, task, TRAIN, TUNING)
    assert np.array_equal(one, two.predict(features))


def test_rare_directions_of_terms_stay_small(generator):
    strong, weak = generator.standard_normal((N, 3)), 0.01 * generator.standard_normal((N, 150))
    x = np.hstack([strong, weak])
    task = targets("binary", strong.sum(axis=1) + 0.5 * generator.standard_normal(N) > 0)
    truth = strong[HELD].sum(axis=1)
    spread, kept = (
        np.corrcoef(fit(x, task, TRAIN, TUNING).predict(x[HELD])[:, 0], truth)[0, 1]
        for fit in (linear_probe, probe_terms)
    )
    assert kept > spread
