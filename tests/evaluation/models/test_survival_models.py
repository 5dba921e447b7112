from __future__ import annotations

import numpy as np
import pytest
from made_targets import targets_of
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from medmcl.evaluation import c_index
from medmcl.evaluation.models.cox import cox_fit
from medmcl.evaluation.models.discrete_time import (
    INTERCEPT_RIDGE,
    discrete_time_loss,
    discrete_time_model,
    interval_ends,
)
from medmcl.evaluation.models.scaling import Scaler
from medmcl.evaluation.models.survival_models import cox_probe, discrete_time_probe


def simulated(count=240, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3)) * [1, 4, 1] + [0, 10, 0]
    time = rng.exponential(5 * np.exp(-x[:, 0]))
    censored = rng.exponential(8, count)
    return x, time <= censored, np.minimum(time, censored)


def task(event, time, known=None):
    known = np.ones(len(time), bool) if known is None else known
    return targets_of("survival", np.column_stack([time, event]), np.column_stack([known, known]))


def slow_loss(x, event, time, cuts, weights, intercepts):
    """One term for each person and period."""
    edges, total = [0.0, *cuts], 0.0
    for row in range(len(time)):
        for k in range(len(cuts)):
            hazard = 1 / (1 + np.exp(-intercepts[k] - x[row] @ weights))
            if time[row] >= edges[k + 1] and not (event[row] and time[row] == edges[k + 1]):
                total -= np.log(1 - hazard)
            elif event[row] and (edges[k] < time[row] or k == 0):
                total -= np.log(hazard)
                break
            else:
                break
    return total


def test_the_likelihood_equals_a_loop_over_persons_and_periods():
    x, event, time = simulated(80)
    model, _ = discrete_time_model(x, event, time, ridge=1.0, intervals=6)
    expected = slow_loss(x, event, time, model.times, model.weights[:, 0], model.curve)
    assert discrete_time_loss(model, x, event, time) == pytest.approx(expected)


def test_the_fit_has_zero_gradient_by_finite_differences():
    x, event, time = simulated(80)
    model, _ = discrete_time_model(x, event, time, ridge=0.7, intervals=5)
    edges = np.concatenate([[0], model.times])
    first = []
    for k, end in enumerate(model.times):
        inside = event & (time > edges[k]) & (time <= end)
        passed = inside | (time > end) | (~event & (time >= end))
        first.append(np.log((inside.sum() + 0.5) / (passed.sum() - inside.sum() + 0.5)))

    def loss(solution):
        w, a = solution[:3], solution[3:]
        penalty = 0.35 * w @ w + 0.5 * INTERCEPT_RIDGE * ((a - first) ** 2).sum()
        return slow_loss(x, event, time, model.times, w, a) + penalty

    best = np.concatenate([model.weights[:, 0], model.curve])
    for axis in range(len(best)):
        step = np.zeros(len(best))
        step[axis] = 1e-4
        assert abs(loss(best + step) - loss(best - step)) / 2e-4 < 2e-3


def test_without_effects_survival_at_the_ends_is_kaplan_meier():
    _, event, time = simulated()
    event[:] = True  # without censoring inside intervals both are the same estimate
    model, _ = discrete_time_model(np.zeros((240, 1)), event, time, ridge=1.0, intervals=8)
    found = model.survival(np.zeros((1, 1)), model.times)[0]
    assert found == pytest.approx([(time > cut).mean() for cut in model.times], abs=2e-3)


def test_survival_between_the_ends_has_constant_hazard_and_then_is_flat():
    x, event, time = simulated()
    model, _ = discrete_time_model(x, event, time, ridge=1.0, intervals=4)
    a, b = model.times[1:3]
    three = model.survival(x[:5], np.array([a, (a + b) / 2, b]))
    assert three[:, 1] == pytest.approx(np.sqrt(three[:, 0] * three[:, 2]))
    ends = model.survival(x[:5], np.array([-1.0, 0.0, model.times[-1], 1e9]))
    assert (ends[:, :2] == 1).all()
    assert (ends[:, 2] == ends[:, 3]).all()


def test_discrete_time_recovers_the_true_survival():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6000, 2))
    time = rng.exponential(4 * np.exp(-0.7 * x[:, 0]))
    censored = rng.exponential(10, 6000)
    event, seen = time <= censored, np.minimum(time, censored)
    model, _ = discrete_time_model(x, event, seen, ridge=0.01, intervals=40)
    grid = np.array([0.5, 1.0, 2.0, 4.0])
    truth = np.exp(-grid * np.exp(0.7 * x[:, :1]) / 4)
    assert np.abs(model.survival(x, grid) - truth).mean() < 0.02


def test_intervals_end_at_event_times_and_each_holds_one():
    _, event, time = simulated()
    ends = interval_ends(event, time, 10)
    assert len(ends) == 10
    assert np.isin(ends, time[event]).all()
    assert ends[-1] == time[event].max()
    assert interval_ends(event, np.ones(240), 10).tolist() == [1.0]
    assert len(interval_ends(np.zeros(240, bool), time, 10)) == 0


@pytest.mark.parametrize("fit", [cox_probe, discrete_time_probe])
def test_tuning_chooses_a_strength_and_held_out_rows_have_no_say(fit):
    x, event, time = simulated()
    train, tuning, held = np.arange(120), np.arange(120, 180), np.arange(180, 240)
    model = fit(x, task(event, time), train, tuning)
    assert len(model.chosen) == 1
    assert c_index(event[held], time[held], model.predict(x[held])[:, 0]) > 0.65
    changed = x.copy()
    changed[held] = 1e6
    flipped = np.where(np.arange(240) < 180, event, ~event)
    again = fit(changed, task(flipped, time), train, tuning)
    assert again.chosen == model.chosen
    assert (again.predict(x) == model.predict(x)).all()


@pytest.mark.parametrize("fit", [cox_probe, discrete_time_probe])
def test_no_events_are_stated(fit):
    x, event, time = simulated()
    train, tuning = np.arange(120), np.arange(120, 240)
    none = fit(x, task(np.zeros(240), time), train, tuning)
    assert none.notes == ("no event in training, constant risk",)
    assert (none.survival(x, time[:3]) == 1).all()
    assert (none.predict(x) == 0).all()
    late = fit(x, task(event & (np.arange(240) < 120), time), train, tuning)
    assert "no event in tuning: penalty not tuned" in late.notes


@pytest.mark.parametrize("width", [5, 60])
@pytest.mark.parametrize("fit", [cox_probe, discrete_time_probe])
def test_a_warm_walk_ends_where_a_cold_fit_to_all_columns_does(fit, width):
    """More columns than rows, too: there the walk looks in the span of the rows only."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, width)) @ rng.normal(size=(width, width))
    time, event = rng.exponential(np.exp(-x[:, 0] / x.std())), rng.random(60) < 0.6
    train, tuning = np.arange(40), np.arange(40, 60)
    for refit_on in (None, np.arange(60)):
        model = fit(x, task(event, time), train, tuning, refit_on=refit_on)
        rows = train if refit_on is None else refit_on
        inputs, ridge = Scaler.of(x[rows])(x[rows]), model.chosen[0]
        if fit is cox_probe:
            plain = by_scikit_survival(inputs, event[rows], time[rows], ridge)
        else:
            plain = discrete_time_model(inputs, event[rows], time[rows], ridge=ridge)[0].weights[
                :, 0
            ]
        np.testing.assert_allclose(model.predict(x[rows])[:, 0], inputs @ plain, atol=1e-5)


@pytest.mark.parametrize("ridge", [1e-3, 0.5, 1e4])
def test_a_wide_cox_fit_of_rows_that_repeat_is_that_of_scikit_survival(ridge):
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=(12, 40)), 2, axis=0)
    event, time = rng.random(24) < 0.7, rng.exponential(size=24)
    ours, converged = cox_fit(x, event, time, ridge=ridge)
    assert converged
    theirs = by_scikit_survival(x, event, time, ridge)
    np.testing.assert_allclose(x @ ours, x @ theirs, atol=1e-5)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def by_scikit_survival(x, event, time, ridge):
    model = CoxPHSurvivalAnalysis(alpha=ridge, ties="efron", tol=1e-12, n_iter=500)
    return model.fit(x - x.mean(axis=0), Surv.from_arrays(event, time)).coef_
