"""The penalty where a few tuning people would choose it by chance: of embeddings, of columns."""

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.core.errors import LeakageError
from medmcl.core.split_guard import SplitGuard
from medmcl.evaluation.models import penalty
from medmcl.evaluation.models.penalty import (
    CROSSED,
    cross_validated_strength,
    plain_probe,
    prediction_loss,
)
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.strength import ALIKE, ENOUGH, STRENGTHS, WEIGHED, said_alike
from medmcl.evaluation.models.survival_models import discrete_time_probe
from medmcl.evaluation.protocol.evaluate import evaluate_task
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.predicted import Method

KINDS = ("binary", "multiclass", "regression", "survival")
TRAIN, TUNING = np.arange(105), np.arange(105, 118)


def cohort(kind, seed=0, *, rows=600, strength=1.0):
    """Six columns of which four say something of the outcome, as much as the strength."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    x = rng.normal(size=(rows, 6))
    score = strength * x[:, :4] @ np.array([0.6, 0.4, -0.3, 0.2])
    if kind == "survival":
        time, end = rng.exponential(np.exp(-score)), rng.exponential(1.2, size=rows)
        values = np.column_stack([np.minimum(time, end), time <= end])
    elif kind == "regression":
        values = (score + rng.normal(size=rows))[:, None]
    else:
        cuts = [0.0] if kind == "binary" else [-0.7, 0.7]
        values = np.digitize(score + rng.logistic(size=rows), cuts)
    return x, targets_of(kind, values)


def nats(told, rows, fitted, x):
    """Summed loss of tuning rows, on the scale of a likelihood."""
    if told.kind == "regression":
        errors = (fitted.predict(x[rows]) - told.values[rows]) ** 2
        return 0.5 * len(rows) * np.log(errors.mean())
    return prediction_loss(told.take(rows), fitted.predict(x[rows]))


def tuning_alone(x, told, train, tuning):
    """What the linear probe was: the strength of the lowest loss of tuning, however few."""
    grid = STRENGTHS[told.kind]
    fits = [linear_probe(x, told, train, tuning[:0], strengths=[one]) for one in grid]
    return fits[int(np.argmin([nats(told, tuning, one, x) for one in fits]))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [13, 250])
def test_few_tuning_cases_are_weighed_against_the_middle_of_the_grid(kind, size):
    """Loops over the grid: summed loss, and half the squared decades from the middle if few."""
    grid = STRENGTHS[kind]
    for seed in range(6):
        x, told = cohort(kind, seed)
        tuning = np.arange(105, 105 + size)
        total = []
        for strength in grid:
            one = linear_probe(x, told, TRAIN, tuning[:0], strengths=[strength])
            away = np.log10(strength) - np.log10(grid[len(grid) // 2])
            total.append(nats(told, tuning, one, x) + 0.5 * away**2 * (size < 50))
        assert linear_probe(x, told, TRAIN, tuning).chosen == (grid[int(np.argmin(total))],)


def test_a_wide_embedding_is_not_left_to_seven_people():
    """Of 20 cohorts of 75 tuning alone takes far too weak a penalty in two: nonsense."""
    lost, alone = [], []
    for seed in range(20):
        rng = np.random.default_rng([seed, 7])
        hidden, told = cohort("survival", seed)
        x = 0.5 * hidden[:, :4] @ rng.normal(size=(4, 64)) + 1.5 * rng.normal(size=(600, 64))
        rows = np.arange(52), np.arange(52, 59)
        others = np.arange(59, 600)
        best, worst = linear_probe(x, told, *rows), tuning_alone(x, told, *rows)
        lost.append(nats(told, others, best, x) / len(others))
        alone.append(nats(told, others, worst, x) / len(others))
    gain = np.subtract(alone, lost)
    assert 1 <= (gain > 1).sum() <= 4
    assert gain.min() > -0.001


def test_thirteen_tuning_people_alone_make_everyone_alike_and_cross_validation_does_not():
    """Of 40 cohorts whose columns tell the outcome, tuning alone gives two the null model."""
    strongest = max(STRENGTHS["survival"])
    chosen, gain = {plain_probe: [], tuning_alone: []}, []
    for seed in range(40):
        x, told = cohort("survival", seed)
        others = np.arange(118, len(x))
        lost = []
        for fit in chosen:
            fitted = fit(x, told, TRAIN, TUNING)
            chosen[fit] += fitted.chosen
            lost.append(nats(told, others, fitted, x) / len(others))
        gain.append(lost[1] - lost[0])
    assert chosen[tuning_alone].count(strongest) >= 1
    assert chosen[plain_probe].count(strongest) == 0
    assert np.mean(gain) > 3 * np.std(gain) / np.sqrt(len(gain))


@pytest.mark.parametrize("kind", KINDS)
def test_the_choice_is_that_of_plain_folds_and_the_fit_is_on_train(kind):
    x, told = cohort(kind)
    both = np.concatenate([TRAIN, TUNING])
    best, _ = cross_validated_strength(linear_walk, x[both], told.take(both), both)
    by_hand = linear_probe(x, told, TRAIN, TUNING[:0], strengths=[best])
    found = plain_probe(x, told, TRAIN, TUNING)
    assert found.chosen == (best,)
    assert CROSSED in found.notes
    np.testing.assert_array_equal(found.predict(x), by_hand.predict(x))


@pytest.mark.parametrize("kind", KINDS)
def test_enough_tuning_people_choose_on_their_own(kind):
    x, told = cohort(kind)
    tuning = np.arange(105, 400)
    found, plain = plain_probe(x, told, TRAIN, tuning), linear_probe(x, told, TRAIN, tuning)
    np.testing.assert_array_equal(found.predict(x), plain.predict(x))
    assert (found.chosen, found.notes) == (plain.chosen, plain.notes)


@pytest.mark.parametrize(
    ("kind", "tuning", "is_enough"),
    [
        ("survival", [(1.0, 1)] * ENOUGH, True),
        ("survival", [(1.0, 1)] * (ENOUGH - 1) + [(1.0, 0)] * 200, False),
        ("binary", [(1,)] * ENOUGH + [(0,)] * ENOUGH, True),
        ("binary", [(1,)] * 200 + [(0,)] * (ENOUGH - 1), False),
        ("regression", [(0.5,)] * ENOUGH, True),
        ("regression", [(0.5,)] * (ENOUGH - 1), False),
    ],
)
def test_what_decides_is_events_and_the_rarer_class(kind, tuning, is_enough):
    _, told = cohort(kind, rows=300)
    values = np.vstack([told.values, np.array(tuning, dtype=float)])
    whole = targets_of(kind, values)
    x = np.random.default_rng(0).normal(size=(len(values), 3))
    found = plain_probe(x, whole, np.arange(300), np.arange(300, len(values)))
    assert (CROSSED in found.notes) is not is_enough


def test_each_column_of_several_chooses_for_itself():
    x, one = cohort("binary", rows=600)
    rare = np.zeros(600)
    rare[::30] = 1
    told = targets_of("multilabel", np.column_stack([one.values[:, 0], rare]))
    train, tuning = np.arange(300), np.arange(300, 600)
    found = plain_probe(x, told, train, tuning)
    often = linear_probe(x, told.column(0), train, tuning)
    np.testing.assert_array_equal(found.predict(x)[:, :1], often.predict(x))
    assert CROSSED in found.notes
    assert len(found.chosen) == 2


@pytest.fixture
def asked(monkeypatch):
    """The units that each inner cross-validation was given."""
    found = []
    real = penalty.cross_validated_strength

    def spy(walk, features, inside, units, **more):
        found.append(units)
        return real(walk, features, inside, units, **more)

    monkeypatch.setattr(penalty, "cross_validated_strength", spy)
    return found


def test_records_of_a_person_are_in_one_fold(asked):
    x, told = cohort("binary", rows=150)
    people = np.arange(150) // 2
    splits = np.where(np.arange(150) < 106, "train", "tuning")
    told = replace(told, sides=SplitGuard(splits=splits, subjects=people))
    plain_probe(x, told, np.arange(106), np.arange(106, 150))
    np.testing.assert_array_equal(asked[0], people)


def test_the_penalty_of_folds_of_sites_is_chosen_on_other_sites(asked):
    """As the folds themselves: no inner fold holds a part of a site."""
    x, told = cohort("binary", rows=160)
    sites = np.repeat(np.arange(16), 10).astype(str)
    everyone = np.ones(160, dtype=bool)
    how = CrossValidation(
        folds=4, repeats=1, refit="probe", unseen=everyone, by="site", sites=sites
    )
    evaluate_task(
        {"covariates": Method(features=x, fit=plain_probe, protocol="linear_probe")},
        told, np.full(160, "held_out"), np.arange(160), cross_validation=how, bootstrap_draws=10,
    )  # fmt: skip
    assert len(asked) == 4
    for units in asked:
        assert np.unique(units, return_counts=True)[1].min() == 10


def test_a_share_of_the_labels_smaller_than_tuning_is_not_cross_validated():
    x, told = cohort("survival")
    few, tuning = np.arange(12), np.arange(105, 160)
    found = plain_probe(x, told, few, tuning)
    assert CROSSED not in found.notes
    assert found.chosen == linear_probe(x, told, few, tuning).chosen


def test_held_out_people_choose_nothing():
    x, told = cohort("binary", rows=150)
    splits = np.array(["train"] * 105 + ["held_out"] * 45)
    told = replace(told, sides=SplitGuard(splits=splits))
    with pytest.raises(LeakageError, match="held_out"):
        plain_probe(x, told, TRAIN, TUNING)


@pytest.mark.parametrize("kind", [*KINDS, "discrete_time"])
def test_a_model_of_nothing_says_that_everyone_is_alike(kind):
    """Tuning people for whom the opposite holds choose the strongest penalty; others do not."""
    fit = linear_probe
    if kind == "discrete_time":
        kind, fit = "survival", discrete_time_probe
    x, told = cohort(kind, strength=3.0)
    tuning = np.arange(105, 305)
    against = x.copy()
    against[tuning] *= -1
    found, usual = fit(against, told, TRAIN, tuning), fit(x, told, TRAIN, tuning)
    assert found.chosen == (max(STRENGTHS[kind]),)
    assert said_alike(found.notes) == [ALIKE]
    assert said_alike(usual.notes) == []
    assert WEIGHED not in usual.notes
    assert WEIGHED in fit(x, told, TRAIN, np.arange(105, 120)).notes
    assert np.ptp(found.predict(x), axis=0).max() < 0.1 * np.ptp(usual.predict(x), axis=0).max()
