from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_survival import slow_incidence, slow_survival

from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.kaplan_meier import (
    SurvivalCurve,
    aalen_johansen_at,
    kaplan_meier,
    kaplan_meier_at,
    outcome_of,
)


def tied_follow_up(seed, size=60, kinds=2):
    rng = np.random.default_rng(seed)
    return rng.integers(0, kinds, size), np.ceil(rng.exponential(8, size))


def test_survival_equals_the_product_in_loops_before_between_and_at_tied_times():
    event, time = tied_follow_up(0)
    at = np.array([0.0, 0.5, 1.0, 3.0, 3.5, 7.0, time.max()])
    found = kaplan_meier_at(event == 1, time, np.ones((60, 1)), at)[:, 0]
    assert found == pytest.approx([slow_survival(event == 1, time, t) for t in at], abs=1e-14)


def test_incidence_of_each_cause_equals_the_sum_in_loops_and_adds_up_with_survival():
    event, time = tied_follow_up(1, kinds=3)
    at = np.array([0.5, 1.0, 4.0, 9.0, time.max()])
    ones = np.ones((60, 1))
    found = aalen_johansen_at(event, time, ones, at, causes=(1, 2))
    for k, cause in enumerate((1, 2)):
        expected = [slow_incidence(event, time, t, cause) for t in at]
        assert found[k, :, 0] == pytest.approx(expected, abs=1e-13)
    left = kaplan_meier_at(event > 0, time, ones, at)
    assert found.sum(axis=0) + left == pytest.approx(np.ones((5, 1)), abs=1e-12)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_a_weight_of_k_is_the_row_standing_k_times(seed, size):
    event, time = tied_follow_up(seed, size, kinds=3)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, (size, 3)).astype(float)
    at = np.array([0.5, 1, 2, 5, 11, 30])
    survival = kaplan_meier_at(event > 0, time, weights, at)
    incidence = aalen_johansen_at(event, time, weights, at, causes=(2,))
    for column in range(3):
        rows = np.repeat(np.arange(size), weights[:, column].astype(int))
        ones = np.ones((len(rows), 1))
        expected = kaplan_meier_at(event[rows] > 0, time[rows], ones, at)
        np.testing.assert_allclose(survival[:, column], expected[:, 0], atol=1e-12)
        expected = aalen_johansen_at(event[rows], time[rows], ones, at, causes=(2,))
        np.testing.assert_allclose(incidence[0, :, column], expected[0, :, 0], atol=1e-12)


def test_beyond_follow_up_the_curve_is_unknown_unless_it_is_zero_or_carried_on():
    ones, at = np.ones((3, 1)), np.array([2.0, 4.0])
    time = np.array([1.0, 2.0, 3.0])
    censored_last = np.array([True, True, False])
    assert np.isnan(kaplan_meier_at(censored_last, time, ones, at)[:, 0]).tolist() == [False, True]
    everyone = np.array([True, True, True])
    assert kaplan_meier_at(everyone, time, ones, at)[1, 0] == 0
    carried = kaplan_meier_at(censored_last, time, ones, at, extend=True)
    assert carried[1, 0] == pytest.approx(1 / 3)
    nobody = kaplan_meier_at(everyone, time, np.zeros((3, 1)), at, extend=True)
    assert np.isnan(nobody).all()
    assert np.isnan(kaplan_meier_at(everyone[:0], time[:0], ones[:0], at)).all()
    assert np.isnan(aalen_johansen_at(everyone[:0], time[:0], ones[:0], at)).all()


def test_curve_and_log_log_interval_equal_scikit_survival():
    oracle = pytest.importorskip(
        "sksurv.nonparametric", reason="scikit-survival, an oracle, is not installed"
    )
    event, time = tied_follow_up(4, 90)
    times, survival, ends = oracle.kaplan_meier_estimator(event == 1, time, conf_type="log-log")
    curve = kaplan_meier(event, time)
    assert isinstance(curve, SurvivalCurve)
    assert curve.times == pytest.approx(times)
    assert curve.survival == pytest.approx(survival, abs=1e-12)
    inside = (survival > 0) & (survival < 1)
    assert np.array(curve.low)[inside] == pytest.approx(ends[0][inside], abs=1e-9)
    assert np.array(curve.high)[inside] == pytest.approx(ends[1][inside], abs=1e-9)


def test_reading_a_curve_beyond_its_end_gives_a_reason():
    curve = kaplan_meier([1, 0, 1, 0], [1.0, 2.0, 3.0, 4.0])
    assert isinstance(curve, SurvivalCurve)
    values = curve.at([0.5, 1.0, 3.5, 9.0])
    assert values[:3] == (1.0, 0.75, pytest.approx(0.375))
    assert str(values[3]) == "not estimable: follow-up ends at 4"
    assert curve.at_risk == (4, 3, 2, 1)
    assert curve.events == (1, 0, 1, 0)


@pytest.mark.parametrize("weights", [[0, 0], None])
def test_no_rows_have_no_curve(weights):
    rows = [] if weights is None else [1, 0]
    found = kaplan_meier(np.array(rows, int), np.array(rows, float), weights=weights)
    assert found == NotEstimable("no rows")


def test_all_censored_rows_stay_at_one():
    curve = kaplan_meier([False, False], [1.0, 2.0])
    assert isinstance(curve, SurvivalCurve)
    assert curve.survival == curve.low == curve.high == (1.0, 1.0)


@pytest.mark.parametrize("event", [[True, False], [1, 0], [1.0, 0.0], np.array([1, 0], np.uint8)])
def test_events_may_be_bool_or_zero_and_one_of_any_type(event):
    happened, time = outcome_of(event, [0, 3])
    assert happened.dtype == bool
    assert happened.tolist() == [True, False]
    assert time.dtype == np.float64


@pytest.mark.parametrize(
    ("event", "time", "said"),
    [
        ([1, 2], [1.0, 2.0], "true/false or 0/1"),
        ([1, np.nan], [1.0, 2.0], "true/false or 0/1"),
        ([1, 0], [1.0, -2.0], "not negative"),
        ([1, 0], [1.0, np.inf], "finite"),
        ([1, 0], [1.0, np.nan], "finite"),
        ([1, 0], [1.0], r"\(2,\), \(1,\)"),
        ([[1], [0]], [[1.0], [2.0]], "must be"),
        (["yes", "no"], [1.0, 2.0], "must be numbers"),
        (np.array([(True, 1.0)], [("death", "?"), ("days", "f8")]), [1.0], "'death', 'days'"),
    ],
)
def test_malformed_outcomes_are_refused_with_what_is_wrong(event, time, said):
    with pytest.raises(ValueError, match=said):
        outcome_of(event, time)
