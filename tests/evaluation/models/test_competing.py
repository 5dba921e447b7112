from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_survival import slow_incidence

from medmcl.core.errors import ConfigError
from medmcl.evaluation.models import competing
from medmcl.evaluation.models.competing import EventFree, cumulative_incidence
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cox_model import cox_model


def simulated(count, seed=0, effect=0.8):
    """Exponential causes with hazards 0.2 exp(effect x0) and 0.1 exp(-effect x1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2))
    hazards = np.column_stack([0.2 * np.exp(effect * x[:, 0]), 0.1 * np.exp(-effect * x[:, 1])])
    latent = rng.exponential(1 / hazards)
    censored = rng.exponential(8, count)
    time = np.minimum(latent.min(axis=1), censored)
    event = np.where(latent.min(axis=1) <= censored, latent.argmin(axis=1) + 1, 0)
    return x, event, time, hazards


def truth(hazards, times, cause):
    total = hazards.sum(axis=1, keepdims=True)
    return hazards[:, [cause - 1]] / total * (1 - np.exp(-total * times))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 15))
def test_aalen_johansen_equals_slow_loops_for_every_column_of_weights(seed, count):
    rng = np.random.default_rng(seed)
    event, time = rng.integers(0, 4, count), rng.integers(0, 5, count).astype(float)
    weights = rng.integers(0, 3, (count, 4)).astype(float)
    weights[:, 0] = 1
    times = np.array([-1.0, 0.0, 1.5, 3.0, 9.0])
    for cause in (1, 2):
        found = cumulative_incidence(event, time, times, cause=cause, weights=weights)
        for column in range(4):
            rows = np.repeat(np.arange(count), weights[:, column].astype(int))
            if len(rows) == 0:
                assert np.isnan(found[:, column]).all()
                continue
            expected = [slow_incidence(event[rows], time[rows], t, cause) for t in times]
            assert found[:, column] == pytest.approx(expected)
        single = cumulative_incidence(event, time, times, cause=cause)
        assert single == pytest.approx(found[:, 0])


def incidences(models, x, times):
    """Of each of two causes, by a Cox model of each."""
    one, two = map(Fitted.of, models)
    return 1 - EventFree(one, two)(x, times), 1 - EventFree(two, one)(x, times)


def test_cox_models_of_both_causes_recover_exponential_ones():
    x, event, time, hazards = simulated(4000)
    models = [cox_model(x[:3000], event[:3000] == k, time[:3000])[0] for k in (1, 2)]
    times = np.array([0.5, 1.0, 3.0, 6.0])
    for cause, found in enumerate(incidences(models, x[:600], times), start=1):
        assert np.abs(found - truth(hazards[:600], times, cause)).mean() < 0.03
    assert models[0].weights[:, 0] == pytest.approx([0.8, 0.0], abs=0.08)
    assert models[1].weights[:, 0] == pytest.approx([0.0, -0.8], abs=0.12)


def test_incidences_equal_slow_loops_and_sum_to_one_minus_survival(monkeypatch):
    x, event, time, _ = simulated(60)
    time = np.ceil(time)
    models = {k: cox_model(x, event == k, time, ridge=0.1)[0] for k in (1, 2)}
    times = np.array([0.0, 1.0, 2.5, 100.0])
    monkeypatch.setattr(competing, "CELLS", 50)  # several blocks of rows
    parts = dict(enumerate(incidences(models.values(), x, times), start=1))
    free = models[1].survival(x, times) * models[2].survival(x, times)
    assert parts[1] + parts[2] == pytest.approx(1 - free)
    row, slow, past = x[:1], {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}
    steps_at = np.union1d(models[1].times, models[2].times)
    for t in steps_at[steps_at <= 2.5]:
        now = {k: -np.log(models[k].survival(row, np.array([t]))[0, 0]) for k in (1, 2)}
        steps = {k: now[k] - past[k] for k in (1, 2)}
        free, whole = np.exp(-sum(past.values())), sum(steps.values())
        for k in (1, 2):
            slow[k] += free * (1 - np.exp(-whole)) * steps[k] / whole
        past = now
    assert parts[1][0, 2] == pytest.approx(slow[1])
    assert parts[2][0, 2] == pytest.approx(slow[2])


def test_extreme_features_stay_probabilities():
    x, event, time, _ = simulated(60)
    models = [cox_model(x, event == k, time)[0] for k in (1, 2)]
    for found in incidences(models, 1e5 * x, time):
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("event", "time"), [([0.5, 1], [1, 2]), ([-1, 1], [1, 2]), ([1, 1], [1, -2]), ([1], [1, 2])]
)
def test_faulty_outcomes_are_refused(event, time):
    with pytest.raises(ConfigError):
        cumulative_incidence(np.array(event), np.array(time, float), np.array([1.0]))
