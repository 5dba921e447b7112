"""The penalty chosen by cross-validation: that of plain fits, one after another, with less work."""

from __future__ import annotations

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.core.rng import numpy_generator
from medmcl.evaluation.models import logistic, probe, survival_models
from medmcl.evaluation.models.cross_validation import subject_folds
from medmcl.evaluation.models.penalty import cross_validated_strength, prediction_loss
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.scaling import Rotation
from medmcl.evaluation.models.strength import STRENGTHS
from medmcl.evaluation.models.survival_models import discrete_time_probe, discrete_time_walk

ROWS, COLUMNS = 90, 12
PLAIN = {linear_walk: linear_probe, discrete_time_walk: discrete_time_probe}


def made(kind, seed=0):
    """Features that say something of an outcome, and that outcome."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, COLUMNS)) * rng.uniform(0.1, 10, size=COLUMNS)
    score = x[:, 0] / x[:, 0].std() + rng.normal(size=ROWS)
    values = {
        "binary": (score > 0)[:, None],
        "multiclass": np.digitize(score, [-1, 1])[:, None],
        "regression": score[:, None],
        "survival": np.column_stack([rng.exponential(np.exp(-score)), rng.random(ROWS) < 0.6]),
    }[kind]
    return x, targets_of(kind, values)


def by_hand(x, targets, walk, grid):
    """Losses of fits that know nothing of one another."""
    stratum = {"regression": np.zeros(ROWS), "survival": targets.values[:, -1]}
    strata = stratum.get(targets.kind, targets.values[:, 0])
    fold = subject_folds(np.arange(ROWS), strata, 5, numpy_generator(0, "inner_folds", "t"))
    losses = []
    for strength in grid:
        loss = 0.0
        for k in np.unique(fold):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            fitted = PLAIN[walk](x, targets, train, train[:0], strengths=[strength])
            loss += prediction_loss(targets.take(test), fitted.predict(x[test]))
        losses.append(loss)
    return np.array(losses)


CASES = [
    ("binary", linear_walk),
    ("multiclass", linear_walk),
    ("regression", linear_walk),
    ("survival", linear_walk),
    ("survival", discrete_time_walk),
]


@pytest.mark.parametrize(("kind", "walk"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_choice_is_that_of_plain_fits(kind, walk, seed):
    x, targets = made(kind, seed)
    grid = STRENGTHS[kind]
    losses = by_hand(x, targets, walk, grid)
    found, notes = cross_validated_strength(walk, x, targets, np.arange(ROWS))
    rises = np.flatnonzero((losses[2:] > losses[1:-1]) & (losses[1:-1] > losses[:-2]))
    last = rises[0] + 3 if len(rises) else len(grid)
    assert found == grid[int(np.argmin(losses[:last]))]
    assert notes == ()


@pytest.mark.parametrize(("kind", "walk"), CASES)
def test_predictions_along_a_walk_are_those_of_plain_fits(kind, walk):
    x, targets = made(kind)
    train, test = np.arange(60), np.arange(60, ROWS)
    grid = STRENGTHS[kind]
    at = walk(x, targets, train)
    for strength in grid[:: max(1, len(grid) // 5)]:
        plain = PLAIN[walk](x, targets, train, train[:0], strengths=[strength])
        np.testing.assert_allclose(at(strength)(x[test]), plain.predict(x[test]), atol=2e-4)


@pytest.mark.parametrize(("kind", "walk"), CASES)
def test_rows_of_a_fold_are_standardised_and_decomposed_once(kind, walk, monkeypatch):
    """Once a fold, not once a fold and strength; discrete time alone is turned at each fit."""
    count = {"scaled": 0, "turned": 0}

    def counted(name, real):
        def call(*args, **kwargs):
            count[name] += 1
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(probe.Scaler, "__init__", counted("scaled", probe.Scaler.__init__))
    turned = np.linalg.eigh if kind == "regression" else Rotation.of
    owner, name = (np.linalg, "eigh") if kind == "regression" else (Rotation, "of")
    monkeypatch.setattr(owner, name, counted("turned", turned))
    x, targets = made(kind)
    cross_validated_strength(walk, x, targets, np.arange(ROWS))
    assert count["scaled"] == 5
    assert walk is discrete_time_walk or count["turned"] == 5


def test_a_fit_begins_where_the_last_ended(monkeypatch):
    """Fewer Newton steps than fits that begin at zero."""
    steps = []
    real = logistic.LogisticPath._whole_step
    monkeypatch.setattr(
        logistic.LogisticPath, "_whole_step", lambda *a: steps.append(1) or real(*a)
    )
    x, targets = made("binary")
    rows = np.arange(ROWS)
    at = linear_walk(x, targets, rows)
    for strength in STRENGTHS["binary"]:
        at(strength)
    warm = len(steps)
    for strength in STRENGTHS["binary"]:
        linear_probe(x, targets, rows, rows[:0], strengths=[strength])
    assert warm < len(steps) - warm


def test_a_cox_fit_begins_where_the_last_ended(monkeypatch):
    starts = []
    real = survival_models.CoxPath.fit

    def fit(path, ridge, *, start=None, **more):
        starts.append(start)
        return real(path, ridge, start=start, **more)

    monkeypatch.setattr(survival_models.CoxPath, "fit", fit)
    x, targets = made("survival")
    at = linear_walk(x, targets, np.arange(ROWS))
    for strength in STRENGTHS["survival"][:3]:
        at(strength)
    assert [start is None for start in starts] == [True, False, False]
