import numpy as np
import pytest

from medmcl.core.errors import ConfigError
from medmcl.evaluation import competing_calibration, cumulative_incidence
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.competing_calibration import pseudo_values


def sample(size=800, factor=1.0, seed=0, censored=True):
    """Two constant hazards; the risk of event 1 by 2, with its hazard taken ``factor`` times."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=size)
    own, other = 0.2 * np.exp(0.9 * x), np.full(size, 0.25)
    time = rng.exponential(1 / (own + other))
    code = np.where(rng.random(size) < own / (own + other), 1, 2)
    ends = rng.uniform(1, 6, size) if censored else np.full(size, np.inf)
    code, time = np.where(time <= ends, code, 0), np.minimum(time, ends)
    own = factor * own
    return code, time, own / (own + other) * -np.expm1(-2 * (own + other))


def test_pseudo_values_are_those_of_a_slow_loop_and_events_without_censoring():
    code, time, _ = sample(60)
    time = np.round(time, 1)
    whole = cumulative_incidence(code, time, np.array([2.0]))[0]
    slow = [
        60 * whole
        - 59 * cumulative_incidence(np.delete(code, k), np.delete(time, k), np.array([2.0]))[0]
        for k in range(60)
    ]
    assert pseudo_values(code, time, 2.0) == pytest.approx(slow, abs=1e-10)
    code, time, _ = sample(60, censored=False)
    assert pseudo_values(code, time, 2.0) == pytest.approx(((code == 1) & (time <= 2)) + 0.0)


def test_true_risks_are_calibrated_and_doubled_hazards_are_not():
    right = competing_calibration(*sample(3000), 2.0, Resampling(draws=30))
    assert right.slope.low < 1 < right.slope.high
    assert right.observed_expected.value == pytest.approx(1, abs=0.08)
    assert right.ici_uncorrected < 0.03
    wrong = competing_calibration(*sample(3000, factor=2.0), 2.0, Resampling(draws=30))
    assert wrong.observed_expected.high < 0.75
    truth, told = sample(3000)[2], sample(3000, factor=2.0)[2]
    assert wrong.ici_uncorrected == pytest.approx(np.abs(truth - told).mean(), abs=0.03)
    inner = np.array(wrong.curve.predicted)
    order = np.argsort(told)
    expected = np.interp(inner, told[order], truth[order])
    middle = (inner > np.quantile(told, 0.1)) & (inner < np.quantile(told, 0.9))
    assert np.array(wrong.curve.observed)[middle] == pytest.approx(expected[middle], abs=0.05)


def test_risks_that_hardly_vary_have_no_slope_but_the_other_numbers():
    code, time, risk = sample()
    found = competing_calibration(code, time, 0.2 + 1e-4 * risk, 2.0, Resampling(draws=10))
    assert found.slope.value is None
    assert found.slope.note == "predictions hardly vary"
    assert found.observed_expected.low < found.observed_expected.high
    assert "predictions hardly vary" in found.ici.note


def test_groups_are_aalen_johansen_by_tenth():
    code, time, risk = sample(500)
    found = competing_calibration(code, time, risk, 2.0, Resampling(draws=30))
    rows = np.argsort(risk)[: found.groups[0].n]
    known = cumulative_incidence(code[rows], time[rows], np.array([2.0]))[0]
    assert found.groups[0].observed == pytest.approx(known)
    assert len(found.groups) == 10
    assert found.n == 500
    assert found.events == int(((code == 1) & (time <= 2)).sum())


def test_too_extreme_risks_have_a_slope_below_one():
    code, time, risk = sample(3000)
    x = np.log(-np.log1p(-risk))
    extreme = -np.expm1(-np.exp(2 * (x - x.mean()) + x.mean()))
    found = competing_calibration(code, time, extreme, 2.0, Resampling(draws=2))
    assert found.slope.value == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c, t, r: (c * 0, t, r), "no event by the horizon"),
        (lambda c, t, r: (np.where(c == 1, 2, c), t, r), "no event by the horizon"),
        (lambda c, t, r: (c, t, r * 0 + 0.3), "fewer than three distinct"),
        (lambda c, t, r: (c[:0], t[:0], r[:0]), "no rows"),
    ],
)
def test_what_the_data_cannot_give_is_said(change, said):
    found = competing_calibration(*change(*sample(100)), 2.0, Resampling(draws=5))
    assert isinstance(found, NotEstimable)
    assert said in found.reason


def test_other_lengths_are_refused():
    code, time, risk = sample(50)
    with pytest.raises(ConfigError, match="event, time and risk"):
        competing_calibration(code, time, risk[:-1], 2.0)
