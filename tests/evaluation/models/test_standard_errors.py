"""Standard errors of penalised weights: slow loops, a bootstrap, and the truth of known models."""

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.scaling import Scaler
from medmcl.evaluation.models.standard_errors import standard_errors

SLOPE = np.array([0.8, -0.5, 0.0])


def drawn(kind, people, seed, *, ties=False):
    """Features (N, 3) of which the first two tell the outcome, and the outcome."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(people, 3)) * [1.0, 2.0, 10.0]
    eta = x / [1.0, 2.0, 10.0] @ SLOPE
    if kind == "survival":
        due, seen = rng.exponential(np.exp(-eta)), rng.exponential(2.0, people)
        time = np.minimum(due, seen)
        values = np.stack([np.ceil(4 * time) if ties else time, due <= seen], axis=1)
        return x, targets_of(kind, values)
    if kind == "regression":
        return x, targets_of(kind, eta + rng.normal(size=people) * (1 + (x[:, 0] > 0)))
    if kind == "multiclass":
        odds = np.exp(np.stack([0 * eta, eta, -eta], axis=1))
        chance = (odds / odds.sum(axis=1, keepdims=True)).cumsum(axis=1)
        values = (rng.random((people, 1)) > chance).sum(axis=1, keepdims=True)
        return x, targets_of(kind, values)
    return x, targets_of(kind, rng.random(people) < 1 / (1 + np.exp(-eta)))


def errors_of(x, targets, strength, subjects=None, rows=None):
    """Fit some rows; the model and its errors, for a standard deviation of each feature."""
    rows = np.arange(len(x)) if rows is None else rows
    fitted = linear_probe(x, targets, rows, rows[:0], strengths=[strength])
    people = np.arange(len(x)) if subjects is None else subjects
    errors = standard_errors(fitted.model, x, targets, people, rows, fitted.chosen)
    return fitted, errors * x[rows].std(axis=0)[:, None]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "survival"])
def test_they_are_the_spread_over_samples_of_people(kind):
    x, targets = drawn(kind, 400, 0)
    strength = 0.05 if kind == "regression" else 20.0
    _, errors = errors_of(x, targets, strength)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(150):
        rows = rng.integers(0, 400, 400)
        fitted = linear_probe(x, targets, rows, rows[:0], strengths=[strength])
        draws.append(fitted.model.weights * x.std(axis=0)[:, None])
    assert errors / np.std(draws, axis=0) == pytest.approx(np.ones_like(errors), abs=0.22)


def test_of_a_cox_model_with_ties_they_are_those_of_slow_loops():
    x, targets = drawn("survival", 60, 2, ties=True)
    fitted, errors = errors_of(x, targets, 3.0)
    z = Scaler.of(x)(x)
    hazard = np.exp(z @ (fitted.model.weights[:, 0] * x.std(axis=0)))
    time, event = targets.values.T
    scores, curvature = np.zeros((60, 3)), 3.0 * np.eye(3)
    for when in np.unique(time[event > 0]):
        tied = [i for i in range(60) if time[i] == when and event[i]]
        for rank in range(len(tied)):
            gone = rank / len(tied)
            share = [(time[i] >= when) * hazard[i] * (1 - gone * (i in tied)) for i in range(60)]
            share = np.array(share) / sum(share)
            mean = share @ z
            curvature += (z * share[:, None]).T @ z - np.outer(mean, mean)
            for i in range(60):
                scores[i] -= share[i] * (z[i] - mean)
            for i in tied:
                scores[i] += (z[i] - mean) / len(tied)
    centred = scores - scores.mean(axis=0)
    turned = np.linalg.inv(curvature)
    spread = turned @ (centred.T @ centred) @ turned * 60 / 59
    assert errors[:, 0] == pytest.approx(np.sqrt(np.diag(spread)), rel=1e-6)


@pytest.mark.parametrize("kind", ["binary", "survival"])
def test_with_hardly_a_penalty_intervals_cover_the_truth_at_their_rate(kind):
    covered = []
    for seed in range(120):
        x, targets = drawn(kind, 250, seed)
        fitted, errors = errors_of(x, targets, 1e-3)
        weights = fitted.model.weights[:, 0] * [1.0, 2.0, 10.0]
        errors = errors[:, 0] * [1.0, 2.0, 10.0] / x.std(axis=0)
        covered.append(np.abs(weights - SLOPE) < 1.96 * errors)
    assert 0.90 < np.mean(covered) < 0.985


def test_a_person_who_stands_there_thrice_says_no_more_than_once():
    x, targets = drawn("binary", 200, 3)
    _, once = errors_of(x, targets, 5.0)
    rows = np.repeat(np.arange(200), 3)
    _, thrice = errors_of(x[rows], targets.take(rows), 15.0, subjects=rows)
    assert thrice == pytest.approx(once, rel=1e-3)


def test_there_are_none_where_they_would_be_of_another_model():
    x, targets = drawn("binary", 200, 4)
    rows = np.arange(100)
    x[:, 1] = 7.0
    fitted, errors = errors_of(x, targets, 5.0, rows=rows)
    assert np.isfinite(errors[:, 0]).tolist() == [True, False, True]
    others = np.arange(100, 200)
    found = standard_errors(fitted.model, x, targets, np.arange(200), others, fitted.chosen)
    assert np.isnan(found).all()
