from __future__ import annotations

import numpy as np
import pytest

from medmcl.evaluation.models.cox import cox_fit, cox_loss


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4))
    time = np.ceil(10 * rng.exponential(np.exp(-x[:, 0])))
    return x, rng.random(120) < 0.6, np.minimum(time, 12)


def slow_loss(w, x, event, time, ties):
    total = 0.0
    for t in np.unique(time[event]):
        dead = np.flatnonzero(event & (time == t))
        risk = np.exp(x[time >= t] @ w).sum()
        tied = np.exp(x[dead] @ w).sum()
        for k, row in enumerate(dead):
            gone = k / len(dead) * tied if ties == "efron" else 0.0
            total += np.log(risk - gone) - x[row] @ w
    return total


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_the_loss_equals_slow_loops(data, ties):
    x, event, time = data
    w = np.array([0.5, -0.2, 0.1, 0.3])
    found = cox_loss(w, x, event, time, ridge=2.0, ties=ties)
    assert found == pytest.approx(slow_loss(w, x, event, time, ties) + w @ w)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
@pytest.mark.parametrize("ridge", [0.01, 1.0, 100.0])
def test_coefficients_equal_scikit_survival(data, ties, ridge):
    linear = pytest.importorskip(
        "sksurv.linear_model", reason="scikit-survival, an oracle, is not installed"
    )
    from sksurv.util import Surv

    x, event, time = data
    model = linear.CoxPHSurvivalAnalysis(alpha=ridge, ties=ties, tol=1e-12, n_iter=200)
    expected = model.fit(x, Surv.from_arrays(event, time)).coef_
    found, converged = cox_fit(x, event, time, ridge=ridge, ties=ties)
    assert converged
    assert found == pytest.approx(expected, abs=1e-8)


def test_more_features_than_rows_and_separable_data_stay_finite():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 40))
    time = np.arange(12.0)
    w, converged = cox_fit(x, np.ones(12, bool), time, ridge=0.1)
    assert converged
    assert np.isfinite(w).all()
    w, _ = cox_fit(50 * time[:, None], np.ones(12, bool), time, ridge=1e-3)
    assert np.isfinite(w).all()
