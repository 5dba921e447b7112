from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from slow_survival import slow_incidence

from medmcl.evaluation.metrics.decision_curve import (
    incidence_at,
    net_benefit,
    net_benefit_metric,
    net_benefit_survival,
)
from medmcl.evaluation.metrics.intervals import Resampling, bootstrap
from medmcl.evaluation.metrics.metric import NotEstimable

TABLE = Path(__file__).parent / "published" / "dcurves.csv"


@pytest.fixture(scope="module")
def published():
    return pd.read_csv(TABLE)


def test_binary_curves_are_those_that_dcurves_publishes(published):
    found = net_benefit(published["cancer"], published["model"], [0.25])
    assert found.model == pytest.approx((0.064,), abs=1e-9)
    assert found.treat_all == pytest.approx((-0.1466667,), abs=1e-7)
    assert found.treat_none == (0.0,)
    assert found.avoided == pytest.approx((63.2,), abs=1e-9)
    assert found.prevalence == pytest.approx(0.14)
    assert found.standardised == pytest.approx((0.064 / 0.14,))


def test_a_binary_marker_has_the_published_curve(published):
    found = net_benefit(published["cancer"], published["famhistory"], [0.05, 0.1, 0.2, 0.25, 0.3])
    expected = [0.025614, 0.018519, 0.001667, -0.008444, -0.020000]
    assert found.model == pytest.approx(expected, abs=5e-7)
    avoided = [-131.3333, -23.3333, 30.6667, 41.4667, 48.6667]
    assert found.avoided == pytest.approx(avoided, abs=1e-3)


def test_the_case_control_curve_is_the_published_one(published):
    found = net_benefit(published["case"], published["model"], [0.25], prevalence=0.15)
    assert found.model == pytest.approx((0.01495671,), abs=1e-7)
    assert found.treat_all == pytest.approx((-0.13333333,), abs=1e-7)


def test_survival_curves_are_those_that_dcurves_publishes(published):
    data = (published["cancer"], published["years"], published["model"])
    found = net_benefit_survival(*data, 1, [0.05, 0.1, 0.2, 0.25, 0.3])
    expected = [0.108145, 0.083907, 0.063146, 0.05695371, 0.054404]
    assert found.model == pytest.approx(expected, abs=5e-7)
    assert found.treat_all[3] == pytest.approx(-0.13695058, abs=1e-7)
    assert found.treated == pytest.approx((0.554667, 0.373333, 0.230667, 0.192, 0.148), abs=5e-7)
    assert found.prevalence == pytest.approx(0.14728706774292788)


def test_incidence_equals_slow_loops_and_weights_are_copies():
    rng = np.random.default_rng(0)
    time = rng.integers(0, 9, 60).astype(float)
    event = rng.integers(0, 3, 60)
    weights = rng.integers(0, 3, (60, 4)).astype(float)
    found = incidence_at(event, time, weights, 5)
    for column, value in zip(weights.T, found, strict=True):
        rows = np.repeat(np.arange(60), column.astype(int))
        assert value == pytest.approx(slow_incidence(event[rows], time[rows], 5))


def test_competing_events_lower_the_risk_against_calling_them_censored(published):
    data = (published["years"], published["model"])
    naive = net_benefit_survival(published["state"] == 1, *data, 1.5, [0.1])
    fair = net_benefit_survival(published["state"], *data, 1.5, [0.1])
    inside = published["model"] >= 0.1
    risk = slow_incidence(
        published["state"][inside].to_numpy(), published["years"][inside].to_numpy(), 1.5
    )
    share = inside.mean()
    assert fair.model == pytest.approx((share * (risk - (1 - risk) / 9),))
    assert fair.model < naive.model


def test_net_benefit_at_a_threshold_goes_into_the_bootstrap(published):
    rows = published.iloc[:120]
    data = (rows["cancer"].to_numpy(), rows["model"].to_numpy())
    metric = net_benefit_metric(0.1)
    found = bootstrap(metric, *data, draws=60)
    slow = bootstrap(lambda y, p: metric(y, p), *data, draws=60)
    assert (found.value, found.low, found.high) == pytest.approx((slow.value, slow.low, slow.high))
    curve = net_benefit(*data, [0.1], Resampling(draws=60))
    assert (curve.low[0], curve.high[0]) == pytest.approx((found.low, found.high))


def test_the_band_of_the_survival_curve_holds_it_and_is_wider_by_subject(published):
    rows = published.iloc[:150]
    data = (rows["cancer"], rows["years"], rows["model"], 1, [0.1])
    single = net_benefit_survival(*data, resampling=Resampling(draws=100))
    four = pd.concat([rows] * 4)
    again = (four["cancer"], four["years"], four["model"], 1, [0.1])
    clustered = net_benefit_survival(
        *again, resampling=Resampling(np.tile(np.arange(150), 4), draws=100)
    )
    assert single.low[0] < single.model[0] < single.high[0]
    assert clustered.low == pytest.approx(single.low)


def test_nobody_above_the_threshold_has_no_benefit_and_no_harm():
    found = net_benefit([0, 1, 0], [0.1, 0.2, 0.3], [0.5])
    assert found.model == (0.0,)
    found = net_benefit_survival([1, 0, 1], [1, 3, 2], [0.1, 0.2, 0.3], 2, [0.5])
    assert found.model == (0.0,)


def test_a_group_not_followed_to_the_horizon_has_no_value_and_a_note():
    event, time, p = [0, 1, 0, 0], [9, 1, 2, 9], [0.1, 0.1, 0.9, 0.1]
    found = net_benefit_survival(event, time, p, 5, [0.05, 0.5])
    assert found.model[0] is not None
    assert found.model[1] is None
    assert found.avoided[1] is None
    assert "1 of 2" in found.note


def test_what_is_not_estimable_is_said():
    assert isinstance(net_benefit([], [], [0.1]), NotEstimable)
    assert isinstance(net_benefit_survival([], [], [], 1, [0.1]), NotEstimable)
    lost = net_benefit_survival([0, 0], [1, 2], [0.1, 0.2], 5, [0.1])
    assert "followed" in lost.reason
    assert isinstance(net_benefit([1, 1], [0.1, 0.2], [0.1], prevalence=0.2), NotEstimable)
    nothing = net_benefit([0, 0], [0.1, 0.2], [0.15])
    assert nothing.standardised == (None,)
    assert nothing.model[0] < 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: net_benefit([0, 1], [0.1, 1.2], [0.1]), "probabilities"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], [0.0]), "thresholds"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], [1.0]), "thresholds"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], []), "thresholds"),
        (lambda: net_benefit([0, 1], [0.1], [0.1]), "must be"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], [0.1], prevalence=1.0), "prevalence"),
        (lambda: net_benefit_survival([0, 1], [-1, 2], [0.1, 0.2], 1, [0.1]), "negative"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], 0.2, Resampling(np.arange(3))), "equal lengths"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], 0.2, Resampling(level=95, draws=5)), "level"),
        (lambda: net_benefit([0, 1], [0.1, 0.2], 0.2, Resampling(draws=-1)), "draws"),
        *(
            (lambda code=code: net_benefit_survival([0, 1, code], [1, 2, 3], [0.1] * 3, 2.0),
             "event: must be 0")
            for code in (0.5, -1, np.nan)
        ),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_one_subject_gives_no_band():
    y, p = np.array([0, 1, 0, 1]), np.array([0.1, 0.8, 0.3, 0.6])
    found = net_benefit(y, p, 0.2, Resampling(np.zeros(4), draws=20))
    assert found.low == found.high == (None,)
    assert found.note == "one subject: no interval"
    assert found.thresholds == (0.2,)
    assert len(repr(net_benefit(y, p))) < 200  # a notebook shows no curve
    assert net_benefit(y, p, 0.3).treated == (0.75,)  # who is at the threshold is treated
