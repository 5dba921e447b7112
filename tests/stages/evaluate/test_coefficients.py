"""The model of a table written out: people of one level against those of another, their risk."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_targets import targets_of
from scipy.stats import binom

from medmcl.evaluation.aspects.tasks.tables import coefficient_section
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.standard_errors import standard_errors
from medmcl.stages.evaluate.coefficients import baseline_rows, coefficient_rows
from medmcl.stages.run.features import Covariates

AGE = (60.0, 10.0)
"""Mean and deviation by which the table was standardised."""


def drawn(kind, seed, effect, people=300):
    """Codes of a category (0 the commonest), standardised ages, and an outcome that both tell."""
    rng = np.random.default_rng(seed)
    count = len(effect)
    codes = rng.choice(count, people, p=np.arange(count, 0, -1) / (count * (count + 1) / 2))
    age = rng.normal(size=people)
    eta = np.asarray(effect)[codes] + 0.3 * age
    if kind == "survival":
        due, seen = rng.exponential(np.exp(-eta)), rng.exponential(2.0, people)
        values = np.stack([np.minimum(due, seen), due <= seen], axis=1)
    elif kind == "binary":
        values = rng.random(people) < 1 / (1 + np.exp(-eta))
    else:
        values = eta + rng.normal(size=people)
    unit = "days" if kind == "survival" else ""
    return codes, age, targets_of(kind, values, name="y", unit=unit)


def written_out(targets, values, terms, shares, penalty):
    """Rows of a model that was fitted to everybody, by column and what it is."""
    rows = np.arange(len(values))
    read = Covariates(
        values=values, present=rows >= 0, cells=None, faults={}, warnings=[],
        terms=terms, gaps=None,
        reading={"state": {"scales": {"age": AGE}}, "shares": {"sex": shares}},
    )  # fmt: skip
    fitted = linear_probe(values, targets, rows, rows[:0], strengths=[penalty])
    setting = SimpleNamespace(targets=targets, subjects=rows, train=rows, keep=lambda r, *_: r)
    found = coefficient_rows(targets, {"covariates": fitted}, read, setting)
    return {(row["column"], row.get("is", "")): row for row in found}


def of_two(kind, seed, effect, penalty):
    codes, age, targets = drawn(kind, seed, (0.0, effect))
    values = np.stack([age, codes == 0, codes == 1], axis=1).astype(float)
    terms = (("age", ""), ("sex", "f"), ("sex", "m"))
    shares = {"unseen": 0.0, "f": float(np.mean(codes == 0)), "m": float(np.mean(codes == 1))}
    return written_out(targets, values, terms, shares, penalty)


@pytest.mark.parametrize("kind", ["survival", "binary", "regression"])
def test_intervals_of_a_level_against_the_reference_cover_the_truth_at_their_rate(kind):
    """Of one level alone they did in 3 of 16: who is m is not f, and both have a weight."""
    truth, cohorts, covered = np.log(1.65), 60, 0
    for seed in range(cohorts):
        row = of_two(kind, seed, truth, 0.001 if kind == "regression" else 0.5)["sex", "m"]
        covered += row["contrast_low"] < truth < row["contrast_high"]
        assert row["ratio_per"] == "m against f"
        if kind != "regression":
            for end in ("value", "low", "high"):
                log = row["contrast" if end == "value" else f"contrast_{end}"]
                assert row[f"ratio_{end}"] == pytest.approx(np.exp(log))
    assert binom.ppf(0.001, cohorts, 0.95) <= covered


@pytest.mark.parametrize("kind", ["survival", "binary"])
def test_with_hardly_a_penalty_ratios_are_those_of_dummy_coding(kind):
    """Three levels and people without one: the reference and the gap are told apart, too."""
    codes, age, targets = drawn(kind, 1, (0.0, 0.5, -0.6, 0.9), people=600)
    names = ["a", "b", "c"]
    hot = np.stack([codes == level for level in range(3)], axis=1)
    values = np.hstack([hot.any(axis=1)[:, None], age[:, None], hot]).astype(float)
    terms = (("sex", "measured"), ("age", ""), *(("sex", name) for name in names))
    shares = dict(zip(names, hot[hot.any(axis=1)].mean(axis=0), strict=True))
    found = written_out(targets, values, terms, shares, 1e-5)
    rows = np.arange(len(values))
    dummies = np.hstack([age[:, None], hot[:, 1:], (codes == 3)[:, None]]).astype(float)
    plain = linear_probe(dummies, targets, rows, rows[:0], strengths=[1e-5])
    errors = standard_errors(plain.model, dummies, targets, rows, rows, plain.chosen)[:, 0]
    truth = plain.model.weights[:, 0]
    if kind == "survival" and pytest.importorskip(
        "sksurv", reason="scikit-survival, an oracle, is not installed"
    ):
        from sksurv.linear_model import CoxPHSurvivalAnalysis
        from sksurv.util import Surv

        time, event = targets.values.T
        other = CoxPHSurvivalAnalysis(ties="efron").fit(dummies, Surv.from_arrays(event > 0, time))
        assert truth == pytest.approx(other.coef_, abs=1e-4)
    for place, level in ((1, "b"), (2, "c")):
        row = found["sex", level]
        assert row["ratio_per"] == f"{level} against a"
        assert row["ratio_value"] == pytest.approx(np.exp(truth[place]), rel=1e-4)
        half = 1.959964 * errors[place]
        assert row["contrast_high"] - row["contrast"] == pytest.approx(half, rel=1e-3)
    gap = found["sex", "measured"]
    assert gap["ratio_per"] == "a against not measured"
    assert gap["ratio_value"] == pytest.approx(np.exp(-truth[3]), rel=1e-4)
    assert gap["contrast"] - gap["contrast_low"] == pytest.approx(1.959964 * errors[3], rel=1e-3)
    reference, number = found["sex", "a"], found["age", "number"]
    assert (reference["ratio_value"], reference["ratio_per"]) == (1.0, "reference")
    assert reference["ratio_low"] is None
    assert number["ratio_per"] == "sd"
    assert number["coefficient"] * AGE[1] == pytest.approx(truth[0], rel=1e-3)
    assert number["contrast_high"] == pytest.approx(number["coefficient_per_sd_high"])


def test_the_appendix_says_who_is_compared_with_whom():
    rows = of_two("survival", 0, 0.5, 1.0)
    m = rows["sex", "m"]
    (table,) = coefficient_section([*rows.values()]).tables
    lines = {line[1]: line[4:] for line in table.rows}
    shown = f"{m['ratio_value']:.3g} ({m['ratio_low']:.3g} to {m['ratio_high']:.3g})"
    assert lines["sex is m"] == (f"hazard ratio {shown}", "m against f")
    assert lines["sex is f"] == ("hazard ratio 1", "reference")
    assert lines["age"][1] == "one SD"
    rows = of_two("regression", 0, 0.5, 0.01)
    (table,) = coefficient_section([*rows.values()]).tables
    lines = {line[1]: line[4:] for line in table.rows}
    assert lines["sex is m"][0].startswith(f"difference {rows['sex', 'm']['contrast']:.3g} (")
    assert lines["intercept"] == ("", "")


def test_a_baseline_far_from_anybody_gives_risks_by_its_logarithm():
    """A year of birth: at year 0 survival is 1 or 0 to the last digit."""
    rng = np.random.default_rng(5)
    year = 1950 + 10 * rng.normal(size=300)
    _, _, targets = drawn("survival", 5, (0.0, 0.5))
    due = rng.exponential(np.exp(0.1 * (year - 1950)))
    targets = replace(targets, values=np.stack([due, np.ones(300)], axis=1))
    rows = np.arange(300)
    values = ((year - 1950) / 10)[:, None]
    read = Covariates(
        values=values, present=rows >= 0, cells=None, faults={}, warnings=[],
        terms=(("born", ""),), gaps=None,
        reading={"state": {"scales": {"born": (1950.0, 10.0)}}, "shares": {}},
    )  # fmt: skip
    fitted = linear_probe(values, targets, rows, rows[:0], strengths=[1e-3])
    at = (0.0, 1.0)
    setting = SimpleNamespace(horizons=SimpleNamespace(years=at, times=at, suffix="y"))
    models = {"covariates": fitted}
    before, middle, *events = baseline_rows(targets, models, read, setting)
    assert (before["survival"], before["cumulative_hazard"]) == (1.0, 0.0)
    assert before["log_cumulative_hazard"] == -np.inf
    assert [row["time"] for row in events] == sorted(due)
    (row,) = coefficient_rows(targets, models, read)
    said = fitted.survival(values, np.ones(1))[:, 0]
    hand = np.exp(-np.exp(middle["log_cumulative_hazard"] + row["coefficient"] * year))
    assert hand == pytest.approx(said, abs=1e-9)
    rival = replace(targets, values=targets.values * [1, 0], competing=np.ones(300, dtype=bool))
    made = baseline_rows(rival, models, read, setting)
    _, shown = coefficient_section([row], made).tables
    assert shown.rows[0] == ("y", "0 days", "1", "-inf")
    assert "y: the competing event is censored here" in shown.notes[0]
