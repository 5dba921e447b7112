from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from medmcl.evaluation.metrics import calibration_metrics as single
from medmcl.evaluation.metrics.calibration_curve import Calibration, calibration
from medmcl.evaluation.metrics.intervals import Resampling, bootstrap
from medmcl.evaluation.metrics.loess import loess
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Sampled, mean_of

PUBLISHED = Path(__file__).parent / "published"


def sample(size=200, a=0.0, b=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 1.2, size)
    return (rng.random(size) < expit(a + b * x)).astype(float), expit(x)


def loss(parameters, x, y, offset=0.0):
    eta = parameters[0] + offset + (parameters[1] * x if len(parameters) > 1 else 0)
    return (np.logaddexp(0, eta) - y * eta).sum()


def test_the_numbers_are_those_that_calibration_curves_publishes():
    table = pd.read_csv(PUBLISHED / "val_prob.csv")
    found = calibration(table["y"], table["p"], Resampling(draws=40))
    assert found.intercept.value == pytest.approx(0.22404680, abs=1e-7)
    assert found.slope.value == pytest.approx(0.82278297, abs=1e-7)
    assert found.ici_uncorrected == pytest.approx(0.04747448, abs=1e-7)  # "Eavg"
    assert len(repr(found)) < 1000  # a notebook shows no curve
    assert 0 <= found.ici.value < found.ici_uncorrected


def test_intercept_and_slope_are_maximum_likelihood():
    y, p = sample(a=0.5, b=0.7)
    x = logit(p)
    both = minimize(loss, [0.0, 1.0], (x, y), tol=1e-12).x
    large = minimize(lambda a: loss(a, x, y, x), [0.0], tol=1e-12).x[0]
    found = calibration(y, p, Resampling(draws=20))
    assert found.slope.value == pytest.approx(both[1], abs=1e-5)
    assert found.joint_intercept == pytest.approx(both[0], abs=1e-5)
    assert found.intercept.value == pytest.approx(large, abs=1e-5)
    assert found.observed_expected.value == pytest.approx(y.sum() / p.sum())


def test_a_slope_on_predictions_that_hardly_vary_is_not_estimable():
    y, p = sample(80)
    narrow = expit(logit(0.2) + 1e-4 * logit(p))  # autobind on 80 people: slope 957
    found = calibration(y, narrow, Resampling(draws=20))
    assert found.slope.value is None
    assert found.slope.note == "predictions hardly vary"
    assert found.joint_intercept is None
    assert "predictions hardly vary" in found.ici.note
    assert str(single.calibration_slope(y, narrow)).endswith("predictions hardly vary")
    wide = expit(logit(0.2) + 0.05 * logit(p))
    assert single.calibration_slope(y, wide) == pytest.approx(
        single.calibration_slope(y, p) / 0.05, rel=1e-5
    )
    assert "hardly" not in calibration(y, wide, Resampling(draws=20)).ici.note


def test_distances_are_those_of_the_loess_curve():
    y, p = sample()
    gap = np.abs(loess(p, y)(p) - p)
    found = calibration(y, p, Resampling(draws=2))
    assert found.ici_uncorrected == pytest.approx(gap.mean())
    assert found.e50 == pytest.approx(np.median(gap))
    assert found.e90 == pytest.approx(np.quantile(gap, 0.9))
    assert found.emax == pytest.approx(gap.max())
    assert single.ici(y, p) == pytest.approx(gap.mean())


@pytest.mark.parametrize("name", ["calibration_intercept", "calibration_slope", "ici"])
def test_the_vectorised_bootstrap_equals_a_loop_over_copied_rows(name):
    y, p = sample(90)
    metric = getattr(single, name)
    spec = getattr(single, name.upper())
    fast = bootstrap(spec, y, p, draws=25)
    slow = bootstrap(lambda a, b: metric(a, b), y, p, draws=25)
    if name == "ici":  # the foreign function is not known to be inflated
        assert fast.value <= slow.value
        assert "corrected for noise" in fast.note
        return
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))


def test_what_noise_alone_gives_is_what_simulated_outcomes_give():
    _, p = sample(150)
    rng = np.random.default_rng(1)
    outcomes = (rng.random((150, 800)) < p[:, None]).astype(float)
    expected = np.abs(loess(p, outcomes)(p) - p[:, None]).mean()
    found = calibration(outcomes[:, 0], p, Resampling(draws=2))
    assert found.ici_if_perfect == pytest.approx(expected, rel=0.03)


def test_the_correction_takes_most_of_the_bias_of_perfect_predictions():
    plain, corrected, zero_inside = [], [], 0
    for seed in range(12):
        y, p = sample(150, seed=seed)
        found = bootstrap("ici", y, p, draws=60, seed=seed)
        plain.append(single.ici(y, p))
        corrected.append(found.value)
        zero_inside += found.low == 0
    assert np.mean(corrected) < 0.6 * np.mean(plain)
    assert zero_inside >= 10


def test_a_large_distance_is_hardly_corrected():
    y, p = sample(500, a=1.5)
    found = bootstrap("ici", y, p, draws=60)
    assert found.value == pytest.approx(single.ici(y, p), rel=0.05)


def test_groups_and_curve_of_published_data():
    table = pd.read_csv(PUBLISHED / "dcurves.csv")
    found = calibration(table["cancer"], table["model"], Resampling(draws=30))
    assert isinstance(found, Calibration)
    assert sum(group.n for group in found.groups) == found.n == 750
    assert sum(group.events for group in found.groups) == found.events == 105
    assert len(found.groups) == 10
    for group in found.groups:
        assert group.low <= group.observed <= group.high
    curve = found.curve
    assert len(curve.predicted) == len(curve.observed) == len(curve.low) == len(curve.high)
    assert np.all(np.diff(curve.predicted) > 0)
    # fitted by logistic regression on these very rows
    assert found.slope.value == pytest.approx(1, abs=0.1)


def test_the_curve_ends_where_five_people_stand_and_never_leaves_0_to_1():
    y, p = sample(40, a=6, b=6)
    people = np.arange(40)
    people[np.argsort(p)[-6:]] = people[np.argmax(p)]  # six rows of the one with the most
    curve = calibration(y, p, Resampling(people, draws=60)).curve
    order = np.sort(p)
    assert order[4] <= curve.predicted[0] <= order[5]
    assert order[-11] <= curve.predicted[-1] <= order[-10]  # the fifth person from the top
    every = np.concatenate([curve.observed, curve.low, curve.high])
    assert (every.min(), every.max()) == (0, 1)
    fits = loess(np.sort(p), y[np.argsort(p)])(np.array(curve.predicted))
    assert fits.min() < 0 < 1 < fits.max()
    assert curve.observed == pytest.approx(np.clip(fits, 0, 1))
    assert calibration(y[:8], p[:8], Resampling(draws=10)).curve is None


def test_wilson_ends_of_a_group():
    y = np.r_[np.ones(3), np.zeros(7)]
    found = calibration(y, np.linspace(0.2, 0.4, 10), Resampling(draws=2), bins=1)
    assert (found.groups[0].low, found.groups[0].high) == pytest.approx((0.1078, 0.6032), abs=1e-4)


def test_copied_records_do_not_narrow_anything_if_they_are_of_one_subject():
    y, p = sample(80)
    once = calibration(y, p, Resampling(draws=60))
    four = calibration(
        np.tile(y, 4), np.tile(p, 4), Resampling(np.tile(np.arange(80), 4), draws=60)
    )
    assert (four.slope.low, four.slope.high) == pytest.approx((once.slope.low, once.slope.high))
    assert four.subjects == 80
    assert four.ici_if_perfect > 0.8 * once.ici_if_perfect
    widths = [[g.high - g.low for g in c.groups if 0 < g.observed < 1] for c in (once, four)]
    assert np.mean(widths[1]) > 0.9 * np.mean(widths[0])


def test_probabilities_of_zero_and_one_are_moved_and_counted():
    y, p = sample()
    p[:3], p[3:5] = 0.0, 1.0
    found = calibration(y, p, Resampling(draws=20))
    assert "5 probabilities are exactly 0 or 1" in found.note
    moved = np.clip(p, 1e-6, 1 - 1e-6)
    assert found.slope.value == pytest.approx(single.calibration_slope(y, moved))


def test_what_does_not_exist_has_a_reason_and_the_rest_stands():
    y, p = sample()
    assert isinstance(calibration([], []), NotEstimable)
    assert isinstance(single.calibration_slope(np.ones(9), np.linspace(0.1, 0.9, 9)), NotEstimable)
    separated = calibration((p > 0.4).astype(float), p, Resampling(draws=20))
    assert separated.slope.value is None
    assert "separate" in separated.slope.note
    assert separated.joint_intercept is None
    assert separated.ici.value is not None
    constant = calibration(y, np.full(len(y), 0.3), Resampling(draws=20))
    assert constant.slope.value is None
    assert constant.ici.value is None
    assert "three distinct" in constant.ici.note
    assert constant.curve is None
    assert constant.intercept.value == pytest.approx(logit(y.mean()) - logit(0.3))
    assert len(constant.groups) == 1
    one_class = calibration(np.zeros(len(y)), p, Resampling(draws=20))
    assert one_class.intercept.value is None
    assert one_class.observed_expected.value == 0
    assert one_class.slope.value is None
    assert one_class.ici.value is None
    assert "one class" in one_class.ici.note
    assert one_class.ici_uncorrected is one_class.emax is one_class.ici_if_perfect is None
    assert isinstance(single.ici(np.zeros(len(y)), p), NotEstimable)


def test_reversed_separation_is_seen_too():
    assert isinstance(single.calibration_slope([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]), NotEstimable)
    touching = single.calibration_slope([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.3])
    assert isinstance(touching, NotEstimable)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: calibration([0, 1], [0.2, 1.2]), "probabilities"),
        (lambda: calibration([0, 1, 1], [0.2, 0.3]), "must be"),
        (lambda: calibration([0, 1], [0.2, np.nan]), "finite"),
        (lambda: single.ici([0, 1, 0], [0.1, 0.2, 0.3], weights=[0.5, 1, 1]), "whole"),
        (lambda: calibration([0, 1] * 30, [0.2, 0.3] * 30, Resampling(np.arange(59), draws=10)),
         "60 targets, 59 subjects[^\n]*\n[^\n]*equal lengths"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_corrected_index_lies_inside_its_interval():
    """A mean over columns: each value is corrected to zero, each draw to zero or above."""
    rng = np.random.default_rng(0)
    parts = [
        Sampled(points=np.array([0.01]), draws=rng.uniform(0.005, 0.025, 500), n=90, events=9,
                subjects=90, inflated=True)
        for _ in range(20)
    ]  # fmt: skip
    mean = mean_of(parts, [str(k) for k in range(20)])
    assert np.quantile(mean.draws, 0.025) > mean.points[0] == 0
    found = mean.interval()
    assert found.low == found.value == 0 < found.high
