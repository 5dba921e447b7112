"""Metrics of Cox models on real survival tables, against scikit-survival."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.evaluation.metrics.predictions import c_index
from medmcl.evaluation.metrics.survival import metrics as sm

pytestmark = pytest.mark.skipif("MEDMCL_DATA" not in os.environ, reason="MEDMCL_DATA is not set")

TABLES = {
    "gbsg_rotterdam": ("gbsg_rotterdam.csv.gz", "time", "event", [f"x{k}" for k in range(7)]),
    "support2": ("support2.csv.gz", "d.time", "death", ["age", "num.co", "meanbp", "hrt", "temp"]),
    "heart_failure": (
        "heart_failure_clinical_records.csv",
        "time",
        "DEATH_EVENT",
        ["age", "ejection_fraction", "serum_creatinine", "serum_sodium"],
    ),
}


@pytest.fixture(scope="module", params=list(TABLES))
def predicted(request):
    """Half the rows fit a Cox model; the other half have its risk and curves."""
    linear_model = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    file, time, event, columns = TABLES[request.param]
    path = Path(os.environ["MEDMCL_DATA"]) / "survival" / file
    if not path.exists():
        pytest.skip(f"MEDMCL_DATA holds no survival/{file}")
    table = pd.read_csv(path)[[time, event, *columns]].dropna()
    table = table.sample(min(len(table), 1600), random_state=0)
    x = table[columns].to_numpy(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = Surv.from_arrays(table[event].to_numpy() == 1, table[time].to_numpy(float))
    half = len(x) // 2
    model = linear_model.CoxPHSurvivalAnalysis(ties="efron").fit(x[:half], y[:half])
    # both sides are given rows within the follow-up of the training half
    x, test, train = x[half:], y[half:], y[:half]
    rows = test["time"] < train["time"].max()
    x, test = x[rows], test[rows]
    grid = np.unique(np.quantile(test["time"], np.linspace(0.1, 0.85, 12)))
    survival = np.array([curve(grid) for curve in model.predict_survival_function(x)])
    return train, test, model.predict(x), survival, grid


@pytest.mark.parametrize("own", [True, False])
def test_metrics_of_a_cox_model_equal_scikit_survival(predicted, own):
    from sksurv import metrics as oracle

    train, test, risk, survival, grid = predicted
    event, time = test["event"], test["time"]
    source = test if own else train
    censoring = None if own else (train["event"], train["time"])
    expected = oracle.concordance_index_censored(event, time, risk)[0]
    assert c_index(event, time, risk) == pytest.approx(expected, abs=1e-9)
    tau = float(grid[-1])
    expected = oracle.concordance_index_ipcw(source, test, risk, tau=tau)[0]
    found = sm.c_index_ipcw(event, time, risk, censoring=censoring, tau=tau)
    assert found == pytest.approx(expected, abs=1e-9)
    values, mean = oracle.cumulative_dynamic_auc(source, test, risk, grid)
    auc = sm.time_dependent_auc(event, time, risk, grid, censoring=censoring)
    assert auc.values == pytest.approx(values, abs=1e-9)
    assert auc.mean == pytest.approx(mean, abs=1e-9)
    _, scores = oracle.brier_score(source, test, survival, grid)
    brier = sm.brier_at(event, time, survival, grid, censoring=censoring)
    assert brier.values == pytest.approx(scores, abs=1e-9)
    expected = oracle.integrated_brier_score(source, test, survival, grid)
    assert brier.mean == pytest.approx(expected, abs=1e-9)
