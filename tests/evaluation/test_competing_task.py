"""A survival task with competing events: against exponential hazards whose risks are known."""

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.evaluation import (
    Given,
    cumulative_incidence,
    evaluate_task,
    kaplan_meier,
    majority,
)
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.survival.incidence_curve import IncidenceCurve
from medmcl.evaluation.protocol.predicted import Method

OWN, OTHER, SIZE = 0.10, 0.15, 4000  # hazards a year


def simulated(censored=True):
    """Competing exponential hazards that both depend on one feature, and the true risk by 5."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(SIZE, 1))
    own, other = OWN * np.exp(0.7 * x[:, 0]), OTHER * np.exp(0.3 * x[:, 0])
    time = generator.exponential(1 / (own + other))
    first = generator.random(SIZE) < own / (own + other)
    ends = generator.uniform(3, 15, SIZE) if censored else np.full(SIZE, np.inf)
    seen = time <= ends
    values = np.stack([np.minimum(time, ends), seen & first], axis=1)
    more = {"unit": "years", "horizons_years": (5.0,), "competing": seen & ~first}
    return (
        x,
        targets_of("survival", values, **more),
        own / (own + other) * -np.expm1(-5 * (own + other)),
    )


SPLIT = np.array(["train"] * 2400 + ["tuning"] * 600 + ["held_out"] * 1000)


def scored(x, targets, **more):
    done = evaluate_task(
        {"x": x, "nobody": Method(features=x * 0, fit=majority, protocol="Kaplan-Meier")},
        targets, SPLIT, np.arange(SIZE), bootstrap_draws=60, shown=["x"], **more,
    )  # fmt: skip
    return done, {(r.method, r.metric): r for r in done.results if not r.versus}


@pytest.mark.parametrize("protocol", ["linear_probe", "discrete_time"])
def test_risks_are_those_of_competing_exponential_hazards(protocol):
    x, targets, truth = simulated()
    done, rows = scored(x, targets, protocol=protocol)
    risk = 1 - done.models["x"].survival(x[3000:], np.array([5.0]))[:, 0]
    assert np.abs(risk - truth[3000:]).mean() < 0.025
    ratio = rows["x", "observed_expected_at_5y"]
    assert ratio.low < 1 < ratio.high
    assert "Aalen-Johansen" in ratio.note
    assert rows["nobody", "observed_expected_at_5y"].value == pytest.approx(1, abs=0.15)
    alone, _ = scored(x, replace(targets, competing=None), protocol=protocol)
    naive = 1 - alone.models["x"].survival(x[3000:], np.array([5.0]))[:, 0]
    assert naive.mean() > 1.25 * truth[3000:].mean()  # what censoring them would claim
    assert rows["x", "c_index"].value == pytest.approx(
        next(r.value for r in alone.results if (r.method, r.metric) == ("x", "c_index"))
    )
    assert "competing events count as censored" in rows["x", "c_index"].note
    assert rows["x", "net_benefit_at_5y"].value > rows["nobody", "net_benefit_at_5y"].value
    (evidence,) = done.evidence
    assert isinstance(evidence.decision, DecisionCurve)
    event, time = targets.values[3000:, 1], targets.values[3000:, 0]
    codes = np.where(targets.competing[3000:], 2, event)
    order = np.argsort(done.models["x"].predict(x[3000:])[:, 0], kind="stable")
    lowest, highest = evidence.risk_groups[0], evidence.risk_groups[-1]
    for group, rows_of in ((lowest, order[: lowest.n]), (highest, order[-highest.n :])):
        assert isinstance(group.curve, IncidenceCurve)
        assert group.events == int((codes[rows_of] == 1).sum())
        at = np.searchsorted(group.curve.times, 5.0, side="right") - 1
        known = cumulative_incidence(codes[rows_of], time[rows_of], np.array([5.0]))[0]
        assert group.curve.incidence[at] == pytest.approx(known)
        naive_km = 1 - kaplan_meier(codes[rows_of] == 1, time[rows_of]).at([5.0])[0]
        assert group.curve.incidence[at] < naive_km - 0.02  # Kaplan-Meier overstates it
    assert isinstance(evidence.calibration, Calibration)
    assert rows["x", "calibration_slope_at_5y"].low < 1 < rows["x", "calibration_slope_at_5y"].high
    assert rows["x", "ici_at_5y"].value < 0.04
    assert rows["x", "d_calibration_p"].value is None
    assert "not defined under competing risks" in rows["x", "d_calibration_p"].note


def test_the_brier_score_counts_a_competing_event_as_no_event():
    x, targets, _ = simulated(censored=False)
    done, rows = scored(x, targets)
    event, time = targets.values[3000:, 1], targets.values[3000:, 0]
    risk = 1 - done.models["x"].survival(x[3000:], np.array([5.0]))[:, 0]
    plain = np.square((event > 0) & (time <= 5), dtype=float) - risk
    assert rows["x", "brier_at_5y"].value == pytest.approx((plain**2).mean())
    assert rows["x", "brier_at_5y"].events == int((event[time <= 5] > 0).sum())
    x, targets, truth = simulated()  # weights for what censoring hides: the same in expectation
    own = rows["x", "brier_at_5y"]
    hidden = scored(x, targets)[1]["x", "brier_at_5y"]
    assert hidden.value == pytest.approx((truth[3000:] * (1 - truth[3000:])).mean(), abs=0.02)
    assert own.value == pytest.approx((truth[3000:] * (1 - truth[3000:])).mean(), abs=0.02)


def test_predictions_without_a_model_of_the_competing_event_have_no_risk_by_a_horizon():
    x, targets, _ = simulated()
    given = Given(values=x, survival=lambda times: np.full((SIZE, len(times)), 0.5))
    done = evaluate_task(
        {}, targets, SPLIT, np.arange(SIZE), predictions={"p": given}, bootstrap_draws=20
    )
    rows = {r.metric: r for r in done.results}
    assert rows["c_index"].value > 0.5
    assert rows["brier_at_5y"].value is None
    assert "nothing was kept of the competing event" in rows["brier_at_5y"].note


def test_both_events_in_one_row_are_refused():
    _, targets, _ = simulated()
    with pytest.raises(ValueError, match="the event and a competing one"):
        replace(targets, competing=targets.competing | True)
