from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.calibration import NOT_FOLLOWED, survival_calibration
from medmcl.evaluation.metrics.survival.competing_calibration import competing_calibration
from medmcl.evaluation.metrics.survival.kaplan_meier import kaplan_meier


def sample(size=400, factor=1.0, power=1.0, seed=0):
    """Exponential times; predictions of hazard ``factor * hazard ** power``."""
    rng = np.random.default_rng(seed)
    hazard = np.exp(rng.normal(-1, 0.8, size))
    event_at, censored_at = rng.exponential(size=size) / hazard, rng.exponential(3, size=size)
    event, time = event_at <= censored_at, np.minimum(event_at, censored_at)
    return event, time, np.exp(-factor * hazard**power)


def test_true_predictions_are_calibrated():
    found = survival_calibration(*sample(2000), 1.0, Resampling(draws=20))
    assert isinstance(found, Calibration)
    assert found.slope.value == pytest.approx(1, abs=0.12)
    assert found.observed_expected.value == pytest.approx(1, abs=0.07)
    assert found.ici_uncorrected < 0.02
    assert found.ici.value <= found.ici_uncorrected
    assert found.e50 <= found.e90 <= found.emax


def test_the_curve_finds_the_risk_that_data_were_drawn_with():
    found = survival_calibration(*sample(4000, factor=2.0), 1.0, Resampling(draws=2))
    predicted = np.array(found.curve.predicted)
    right = 1 - np.sqrt(1 - predicted)  # half the predicted cumulative hazard
    inner = (predicted > 0.2) & (predicted < 0.9)
    assert np.array(found.curve.observed)[inner] == pytest.approx(right[inner], abs=0.04)
    assert found.observed_expected.value < 0.8
    assert found.ici_uncorrected == pytest.approx(0.17, abs=0.05)


def test_too_extreme_predictions_have_a_slope_below_one():
    found = survival_calibration(*sample(2000, power=2.0), 1.0, Resampling(draws=2))
    assert found.slope.value == pytest.approx(0.5, abs=0.07)


def test_risks_that_hardly_vary_have_no_slope_but_the_other_numbers():
    found = survival_calibration(*sample(power=1e-4), 1.0, Resampling(draws=10))
    assert found.slope.value is None
    assert found.slope.note == "predictions hardly vary"
    assert found.observed_expected.low < found.observed_expected.high
    assert "predictions hardly vary" in found.ici.note


def test_groups_are_kaplan_meier_by_tenth():
    sksurv = pytest.importorskip(
        "sksurv.nonparametric", reason="scikit-survival, an oracle, is not installed"
    )
    event, time, survival = sample(300)
    found = survival_calibration(event, time, survival, 1.0, Resampling(draws=30))
    order = np.argsort(1 - survival)
    rows = order[: found.groups[0].n]
    times, alive = sksurv.kaplan_meier_estimator(event[rows], time[rows])
    assert found.groups[0].observed == pytest.approx(1 - alive[times <= 1.0][-1])
    assert len(found.groups) == 10
    assert all(group.low <= group.observed <= group.high for group in found.groups)


@pytest.mark.parametrize("competes", [False, True])
def test_groups_that_nobody_follows_to_the_horizon_are_joined_and_everybody_stands_in_one(competes):
    event, time, survival = sample(300, seed=2)
    risky = np.argsort(survival)[:60]  # two tenths, last seen before the horizon
    event[risky] &= time[risky] < 0.5
    time[risky] = np.minimum(time[risky], 0.5)
    judge = competing_calibration if competes else survival_calibration
    found = judge(event, time, 1 - survival if competes else survival, 1.0, Resampling(draws=30))
    assert [group.n for group in found.groups] == [30] * 7 + [90]
    joined = np.argsort(survival)[:90]
    curve = kaplan_meier(event[joined], time[joined])
    alive = np.array(curve.survival)[np.array(curve.times) <= 1.0][-1]
    assert found.groups[-1].observed == pytest.approx(1 - alive)
    assert found.groups[-1].predicted == pytest.approx((1 - survival)[joined].mean())
    assert found.groups[-1].events == (event & (time <= 1))[joined].sum()
    assert sum(group.events for group in found.groups) == found.events
    assert f"2 of 10 groups by predicted risk, {NOT_FOLLOWED}" in found.note


def test_small_groups_are_joined_before_they_are_counted():
    event, time, survival = sample(300)
    people = np.arange(300) % 200  # a hundred people have two rows
    found = survival_calibration(event, time, survival, 1.0, Resampling(people, draws=20), fewest=5)
    order = np.argsort(1 - survival)
    starts = np.cumsum([0, *(group.n for group in found.groups)])
    assert starts[-1] == 300
    assert len(found.groups) < 10
    by_then = event & (time <= 1)
    for group, rows in zip(found.groups, np.split(order, starts[1:-1]), strict=True):
        assert group.subjects == len(set(people[rows]))
        assert group.events == len(set(people[rows][by_then[rows]]))
        assert not group.has_few(5)
        curve = kaplan_meier(event[rows], time[rows])
        alive = np.array(curve.survival)[np.array(curve.times) <= 1.0][-1]
        assert group.observed == pytest.approx(1 - alive)


def test_copied_rows_give_the_same_numbers_and_by_subject_the_same_interval():
    event, time, survival = sample(120)
    once = survival_calibration(event, time, survival, 1.0, Resampling(draws=20))
    people = Resampling(np.tile(np.arange(120), 2), draws=20)
    twice = survival_calibration(*(np.tile(x, 2) for x in (event, time, survival)), 1.0, people)
    assert twice.slope.value == pytest.approx(once.slope.value, abs=1e-6)
    assert twice.slope.low == pytest.approx(once.slope.low, abs=1e-6)
    assert twice.observed_expected.high == pytest.approx(once.observed_expected.high)


def test_few_distinct_predictions_fall_back_to_a_line():
    event, time, survival = sample(300)
    coarse = np.where(survival > 0.7, 0.8, np.where(survival > 0.2, 0.6, 0.1))
    coarse[coarse == 0.1] = np.where(np.arange((coarse == 0.1).sum()) % 2, 0.1, 0.15)
    found = survival_calibration(event, time, coarse, 1.0, Resampling(draws=5))
    assert np.isfinite(found.ici_uncorrected)


@pytest.mark.parametrize(
    ("event", "time", "survival", "words"),
    [
        ([], [], [], "no rows"),
        ([0, 0, 0], [1, 2, 3], [0.5, 0.6, 0.7], "no event"),
        ([1, 0, 0], [0.5, 0.6, 0.7], [0.5, 0.6, 0.7], "followed"),
        ([1, 0, 1], [0.5, 2, 3], [0.5, 0.5, 0.7], "three distinct"),
    ],
)
def test_what_is_not_estimable_says_why(event, time, survival, words):
    found = survival_calibration(event, time, survival, 1.0)
    assert isinstance(found, NotEstimable)
    assert words in found.reason


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="probabilities"):
        survival_calibration([1, 0], [1, 2], [0.5, 1.5], 1.0)
    with pytest.raises(ValueError, match="must be"):
        survival_calibration([1, 0], [1, 2, 3], [0.5, 0.5], 1.0)
    with pytest.raises(ValueError, match="negative"):
        survival_calibration([1, 0], [-1, 2], [0.5, 0.5], 1.0)
