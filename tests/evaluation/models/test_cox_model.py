from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import ConfigError
from medmcl.evaluation import c_index
from medmcl.evaluation.metrics.survival import metrics as sm
from medmcl.evaluation.models.cox_model import baseline_hazard, cox_model
from medmcl.evaluation.models.discrete_time import discrete_time_model


def simulated(count=200, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)) * [1, 5, 0.1, 1] + [0, 100, 0, -3]
    time = 10 * rng.exponential(np.exp(-x[:, 0]))
    time = np.ceil(time) if ties else time
    return x, rng.random(count) < 0.6, np.minimum(time, 12 if ties else 30)


def test_survival_curves_equal_scikit_survival():
    linear = pytest.importorskip(
        "sksurv.linear_model", reason="scikit-survival, an oracle, is not installed"
    )
    from sksurv.util import Surv

    x, event, time = simulated()
    for ties in ("breslow", "efron"):
        theirs = linear.CoxPHSurvivalAnalysis(alpha=0.3, ties=ties, tol=1e-12, n_iter=200)
        theirs.fit(x, Surv.from_arrays(event, time))
        ours, _ = cox_model(x, event, time, ridge=0.3, ties=ties)
        times = np.concatenate([theirs.unique_times_, theirs.unique_times_[:-1] + 0.4])
        curves = theirs.predict_survival_function(x)
        expected = np.array([[curve(t) for t in times] for curve in curves])
        assert ours.survival(x, times) == pytest.approx(expected, abs=1e-8)
        assert ours.scores(x)[:, 0] == pytest.approx(theirs.predict(x), abs=1e-6)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_the_baseline_equals_slow_loops(ties):
    x, event, time = simulated(60)
    eta = 0.5 * x[:, 0]
    found = baseline_hazard(eta, event, time, ties=ties)
    total, expected = 0.0, []
    for t in np.unique(time[event]):
        dead = event & (time == t)
        risk, tied = np.exp(eta[time >= t]).sum(), np.exp(eta[dead]).sum()
        for k in range(dead.sum()):
            total += 1 / (risk - (k / dead.sum() * tied if ties == "efron" else 0))
        expected.append(total)
    assert found.times.tolist() == np.unique(time[event]).tolist()
    assert np.exp(found.log_cumulative) == pytest.approx(expected)
    assert found.log_at(np.array([-1.0])) == -np.inf
    assert found.log_at(np.array([1e9])) == pytest.approx(np.log(total))


def test_constant_and_collinear_columns_change_nothing():
    x, event, time = simulated()
    plain, nothing = cox_model(x, event, time)
    wide = np.column_stack([x, np.full(len(x), 1e6), 2 * x[:, 0] + 1])
    found, notes = cox_model(wide, event, time)
    assert nothing == ()
    ours, theirs = found.scores(wide), plain.scores(x)
    assert ours - ours.mean() == pytest.approx(theirs - theirs.mean(), abs=1e-5)
    assert found.weights[4] == 0
    assert len(notes) == 2
    assert "1 columns too many" in notes[1]
    times = np.arange(13.0)
    assert found.survival(wide, times) == pytest.approx(plain.survival(x, times), abs=1e-6)
    # of equal fits, the standardised weights of the copy and the original are the same
    assert found.weights[5] == pytest.approx(found.weights[0] / 2, rel=1e-4)


def test_separation_is_noted_and_a_ridge_mends_it():
    time = np.arange(1.0, 31)
    x = np.column_stack([-time, np.random.default_rng(0).normal(size=30)])
    free, notes = cox_model(x, np.ones(30, bool), time)
    assert np.isfinite(free.weights).all()
    assert any("no maximum" in note for note in notes)
    assert c_index(np.ones(30, bool), time, free.scores(x)[:, 0]) == 1.0
    assert np.isfinite(free.survival(x, time)).all()
    assert cox_model(x, np.ones(30, bool), time, ridge=0.1)[1] == ()


def test_a_perfect_marker_of_few_events_is_noted():
    x, event = np.zeros((40, 1)), np.arange(40) < 5
    x[:5] = 1.0
    time = np.where(event, 3.0, 10.0) + np.arange(40) / 100
    model, notes = cox_model(x, event, time)
    assert any("no maximum" in note for note in notes)
    assert 5 < model.weights[0, 0] < 50


FITS = {
    "breslow": partial(cox_model, ties="breslow"),
    "efron": cox_model,
    "discrete time": partial(discrete_time_model, intervals=3),
}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 25),
    st.sampled_from(list(FITS)),
    st.sampled_from([0.0, 1e-6, 0.1, 10.0]),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_any_small_table_gives_finite_falling_curves(seed, count, fit, ridge, unit):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, 3)).astype(float)
    if fit == "discrete time":
        ridge += 1e-3
    else:
        x *= unit
    time, event = rng.integers(0, 5, count).astype(float), rng.random(count) < 0.5
    model, _ = FITS[fit](x, event, time, ridge=ridge)
    curves = model.survival(x, np.arange(-1, 7.0))
    assert np.isfinite(model.weights).all()
    assert fit == "discrete time" or (curves[:, 0] == 1).all()  # who has events at 0 there
    assert (np.diff(curves, axis=1) <= 0).all()
    assert ((curves >= 0) & (curves <= 1)).all()


@pytest.mark.parametrize("wrong", [{"intervals": 0}, {"ridge": -1.0}])
def test_settings_of_discrete_time_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ConfigError, match="an interval and a ridge"):
        discrete_time_model(*simulated(20), **{"ridge": 1.0, **wrong})


@pytest.mark.parametrize("fault", ["nan", "negative", "length", "ridge"])
def test_faults_are_refused(fault):
    x, event, time = simulated(20)
    ridge = -1.0 if fault == "ridge" else 0.0
    if fault == "nan":
        x[0, 0] = np.nan
    if fault == "negative":
        time[0] = -1
    if fault == "length":
        event = event[:-1]
    with pytest.raises(ConfigError):
        cox_model(x, event, time, ridge=ridge)


def table_of(name):
    if "MEDMCL_DATA" not in os.environ:
        pytest.skip("MEDMCL_DATA is not set")
    folder = Path(os.environ["MEDMCL_DATA"]) / "survival"
    if name == "support2":
        table = pd.read_csv(folder / "support2.csv.gz")
        time, event = table["d.time"].to_numpy(float), table["death"].to_numpy() == 1
        columns = ["age", "num.co", "edu", "scoma", "meanbp", "wblc", "hrt", "resp", "temp"]
        columns += ["pafi", "alb", "bili", "crea", "sod", "ph", "diabetes", "dementia"]
        numbers = table[columns].fillna(table[columns].median())
        words = pd.get_dummies(table[["sex", "dzgroup", "ca"]], drop_first=True)
        x = np.column_stack([numbers.to_numpy(float), words.to_numpy(float)])
    elif name == "gbsg_rotterdam":
        table = pd.read_csv(folder / "gbsg_rotterdam.csv.gz")
        time, event = table["time"].to_numpy(float), table["event"].to_numpy() == 1
        x = table[[f"x{k}" for k in range(7)]].to_numpy(float)
    else:
        table = pd.read_csv(folder / "heart_failure_clinical_records.csv")
        event = table.pop("DEATH_EVENT").to_numpy() == 1
        time = table.pop("time").to_numpy(dtype=float)
        x = table.to_numpy(dtype=float)
    return (x - x.mean(axis=0)) / x.std(axis=0), event, time


@pytest.mark.parametrize("ties", ["breslow", "efron"])
@pytest.mark.parametrize("name", ["support2", "gbsg_rotterdam", "heart_failure"])
def test_real_tables_give_coefficients_curves_c_index_and_brier_of_scikit_survival(name, ties):
    linear = pytest.importorskip(
        "sksurv.linear_model", reason="scikit-survival, an oracle, is not installed"
    )
    from sksurv import metrics as oracle
    from sksurv.util import Surv

    x, event, time = table_of(name)
    train = np.arange(len(x)) % 3 != 0
    outcome = Surv.from_arrays(event, time)
    for ridge in (1e-4, 10.0):
        theirs = linear.CoxPHSurvivalAnalysis(alpha=ridge, ties=ties, tol=1e-10, n_iter=100)
        theirs.fit(x[train], outcome[train])
        ours, _ = cox_model(x[train], event[train], time[train], ridge=ridge, ties=ties)
        assert ours.weights[:, 0] == pytest.approx(theirs.coef_, abs=1e-6)
        test = np.flatnonzero(~train)[:400]
        grid = np.quantile(time[test], np.linspace(0.1, 0.8, 15))
        grid = np.unique(grid[grid < time[test].max()])
        curves = np.array([f(grid) for f in theirs.predict_survival_function(x[test])])
        found = ours.survival(x[test], grid)
        assert found == pytest.approx(curves, abs=1e-6)
        scored, risk = (event[test], time[test]), theirs.predict(x[test])
        expected = oracle.concordance_index_censored(*scored, risk)[0]
        assert c_index(*scored, risk) == pytest.approx(expected, abs=1e-9)
        # scikit-survival counts risks within 1e-8 of one another as tied
        assert c_index(*scored, ours.scores(x[test])[:, 0]) == pytest.approx(expected, abs=1e-4)
        for own in (True, False):
            rows = test if own else np.flatnonzero(train)
            seen = None if own else (event[rows], time[rows])
            expected = oracle.integrated_brier_score(outcome[rows], outcome[test], curves, grid)
            found = sm.brier_at(*scored, curves, grid, censoring=seen).mean
            assert found == pytest.approx(expected, abs=1e-9)
            values, mean = oracle.cumulative_dynamic_auc(outcome[rows], outcome[test], risk, grid)
            auc = sm.time_dependent_auc(*scored, risk, grid, censoring=seen)
            assert auc.values == pytest.approx(values, abs=1e-9)
            assert auc.mean == pytest.approx(mean, abs=1e-9)
            tau = float(grid[-1])
            expected = oracle.concordance_index_ipcw(outcome[rows], outcome[test], risk, tau=tau)[0]
            concordance = sm.c_index_ipcw(*scored, risk, censoring=seen, tau=tau)
            assert concordance == pytest.approx(expected, abs=1e-9)
