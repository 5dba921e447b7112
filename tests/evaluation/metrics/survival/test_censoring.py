from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation.metrics.survival.censoring import censoring_survival, clamp_times


def slow_censoring(event, time, at):
    value = 1.0
    for u in sorted(set(time.tolist())):
        if u <= at:
            at_risk = (time >= u).sum() - (event & (time == u)).sum()
            censored = (~event & (time == u)).sum()
            value *= 1 - censored / at_risk if censored else 1
    return value


def weights_of_events(event, time, other):
    curve = censoring_survival(event, time, np.ones((len(time), 1)), time, other)[:, 0]
    return np.divide(event, curve, out=np.zeros(len(time)), where=curve > 0)


def follow_up(seed, size=80):
    rng = np.random.default_rng(seed)
    return rng.random(size) < 0.5, np.ceil(rng.exponential(8, size))


def test_censoring_curve_equals_loops_with_events_leaving_first():
    event, time = follow_up(0)
    at = np.array([0.0, 1.0, 2.5, 6.0, 11.0])
    found = censoring_survival(event, time, np.ones((80, 1)), at)[:, 0]
    assert found == pytest.approx([slow_censoring(event, time, t) for t in at], abs=1e-13)


def test_censoring_curve_under_weights_equals_repeated_rows():
    event, time = follow_up(1, 30)
    weights = np.random.default_rng(1).integers(0, 4, (30, 5)).astype(float)
    at = np.array([1.0, 4.0, 9.0, 40.0])
    found = censoring_survival(event, time, weights, at)
    for column in range(5):
        rows = np.repeat(np.arange(30), weights[:, column].astype(int))
        expected = censoring_survival(event[rows], time[rows], np.ones((len(rows), 1)), at)
        np.testing.assert_allclose(found[:, column], expected[:, 0], atol=1e-12)


@pytest.mark.parametrize("own", [True, False])
def test_weights_of_events_equal_scikit_survival(own):
    oracle = pytest.importorskip(
        "sksurv.nonparametric", reason="scikit-survival, an oracle, is not installed"
    )
    from sksurv.util import Surv

    event, time = follow_up(2)
    time[np.argmax(time)] += 1
    event[np.argmax(time)] = False
    other = (event, time) if own else follow_up(3, 300)
    estimator = oracle.CensoringDistributionEstimator().fit(Surv.from_arrays(*other))
    rows = time < other[1].max()
    expected = estimator.predict_ipcw(Surv.from_arrays(event[rows], time[rows]))
    found = weights_of_events(event[rows], time[rows], other)
    assert found == pytest.approx(expected, abs=1e-12)


def test_events_that_cannot_be_weighted_weigh_nothing():
    own = np.array([True, True, False]), np.array([1.0, 2.0, 2.0])
    assert weights_of_events(*own, None).tolist() == [1.0, 0.0, 0.0]  # tied with the last
    others = np.array([True, False, False]), np.array([1.0, 2.0, 3.0])
    given = np.array([True, True]), np.array([1.0, 5.0])
    assert weights_of_events(*given, others).tolist() == [1.0, 0.0]
    assert not weights_of_events(*given, (given[0][:0], given[1][:0])).any()


def test_times_beyond_follow_up_are_left_out_with_a_note():
    kept, note = clamp_times([1, 2, 5, 9], [1, 0, 1, 0], [1.0, 2.0, 3.0, 5.0])
    assert kept.tolist() == [1, 2]
    assert note == "2 of 4 times left out (5 to 9): nobody is followed beyond 5"
    kept, note = clamp_times([0.5, 2], [1, 0], [1.0, 3.0])
    assert kept.tolist() == [0.5, 2.0]
    assert note == ""


def test_the_censoring_rows_limit_the_grid_too():
    event, time = [1, 0, 1], [1.0, 8.0, 9.0]
    kept, note = clamp_times([1, 4], event, time, ([1, 0, 1], [1.0, 2.0, 3.0]))
    assert kept.tolist() == [1]
    assert note == "1 of 2 times left out (4): the censoring curve ends at 3"
    kept, note = clamp_times([1, 3], event, time, ([1, 0, 0], [1.0, 2.0, 3.0]))
    assert kept.tolist() == [1]
    assert note.endswith("the censoring curve is zero at 3")
    _, note = clamp_times([1, 3], event, time, ([], np.array([])))
    assert note.endswith("no rows for the censoring curve")
    assert clamp_times([1.0], [], np.array([]))[1].endswith("no rows")


@pytest.mark.parametrize("times", [[2, 1], [1, 1], [-1, 2], [np.nan], [], [[1.0]]])
def test_malformed_time_grids_are_refused(times):
    with pytest.raises(ValueError, match="times"):
        clamp_times(times, [1, 0], [1.0, 3.0])
