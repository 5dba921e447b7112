import numpy as np
import pytest

from medmcl.core.errors import ConfigError
from medmcl.evaluation import cumulative_incidence, incidence_curve, kaplan_meier
from medmcl.evaluation.metrics.metric import NotEstimable


def sample(size=300, seed=0):
    rng = np.random.default_rng(seed)
    own, other, ends = rng.exponential(5, size), rng.exponential(4, size), rng.uniform(1, 8, size)
    time = np.round(np.minimum(np.minimum(own, other), ends), 1)  # with ties
    code = np.where(ends <= np.minimum(own, other), 0, np.where(own <= other, 1, 2))
    return code, time


def test_the_curve_is_aalen_johansen_and_reads_as_steps():
    code, time = sample()
    found = incidence_curve(code, time)
    known = cumulative_incidence(code, time, np.array(found.times))
    assert found.incidence == pytest.approx(known, abs=1e-12)
    assert sum(found.events) == (code == 1).sum()
    assert found.at_risk[0] == len(code)
    assert all(a <= b <= c for a, b, c in zip(found.low, found.incidence, found.high, strict=True))


def test_the_variance_is_the_textbook_sum():
    code, time = sample(80)
    found = incidence_curve(code, time)
    times, curve = np.array(found.times), np.array(found.incidence)
    at_risk = np.array([(time >= t).sum() for t in times])
    gone = np.array([((time == t) & (code > 0)).sum() for t in times])
    own = np.array([((time == t) & (code == 1)).sum() for t in times])
    before = np.concatenate([[1.0], np.cumprod(1 - gone / at_risk)[:-1]])
    for k in range(0, len(times) - 2, 5):
        total = 0.0
        for j in range(k + 1):
            gap, n, d, e = curve[k] - curve[j], at_risk[j], gone[j], own[j]
            total += gap**2 * d / (n * (n - d)) + before[j] ** 2 * e * (n - e) / n**3
            total -= 2 * gap * before[j] * e / n**2
        if not 0 < curve[k] < 1:
            continue
        error = np.sqrt(total) / ((1 - curve[k]) * abs(np.log(1 - curve[k])))
        low = 1 - (1 - curve[k]) ** np.exp(-1.959963984540054 * error)
        assert found.low[k] == pytest.approx(low, abs=1e-9)


def test_one_kind_of_event_is_one_minus_kaplan_meier_with_its_interval():
    code, time = sample()
    code = (code == 1).astype(int)
    found, other = incidence_curve(code, time), kaplan_meier(code, time)
    assert found.incidence == pytest.approx(1 - np.array(other.survival))
    inner = np.array(other.survival) < 1
    assert np.array(found.low)[inner] == pytest.approx((1 - np.array(other.high))[inner])
    assert np.array(found.high)[inner] == pytest.approx((1 - np.array(other.low))[inner])


def test_intervals_hold_the_true_incidence_as_often_as_they_should():
    truth = (1 / 5) / (1 / 5 + 1 / 4) * -np.expm1(-3 * (1 / 5 + 1 / 4))
    inside = 0
    for seed in range(200):
        found = incidence_curve(*sample(150, seed))
        k = np.searchsorted(found.times, 3.0 + 1e-9, side="right") - 1
        inside += found.low[k] <= truth <= found.high[k]
    assert 0.9 <= inside / 200 <= 0.99


def test_nobody_has_no_curve_and_codes_that_are_none_are_refused():
    assert isinstance(incidence_curve([], []), NotEstimable)
    with pytest.raises(ConfigError, match="competing events"):
        incidence_curve([0.5], [1.0])
