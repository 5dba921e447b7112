"""A number has one interval wherever an evaluation gives it; few events give no curve."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_targets import targets_of
from read_pages import both_pages

from medmcl.evaluation import evaluate_task
from medmcl.evaluation.metrics.calibration_curve import Calibration, calibration
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import FEWEST_FOR_CURVE, too_few_for_curve
from medmcl.evaluation.report.page import write_report
from medmcl.evaluation.report.small_counts import as_shown

N = 1100
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 3))
SPLIT = np.repeat(["train", "tuning", "held_out"], [500, 200, 400]).astype(object)
HELD = np.flatnonzero(SPLIT == "held_out")
SEX = RNG.choice(["female", "male"], N).astype(object)
HAS = RNG.choice(["ecg", "ecg + cmr"], N).astype(object)


def task(kind, events=None):
    """A task of X; ``events`` of the held-out people have it, or as many as come."""
    if kind == "survival":
        time = RNG.exponential(8 * np.exp(-0.6 * X[:, 0]))
        last = RNG.uniform(2, 14, N)
        values = np.stack([np.minimum(time, last), time <= last], axis=1)
        return targets_of(kind, values, name="hf", unit="years", horizons_years=(1.0, 5.0))
    y = (RNG.random(N) < 1 / (1 + np.exp(1 - X[:, 0]))).astype(float)
    if events is not None:
        y[HELD] = 0
        y[HELD[:events]] = 1
    return targets_of("binary", y, name="mi", columns=("mi",))


def evaluated(targets, seeds=1):
    rng = np.random.default_rng(1)
    noisy = [X + rng.normal(size=X.shape) for _ in range(seeds)]
    return evaluate_task(
        {"ours": noisy if seeds > 1 else noisy[0], "plain": X[:, 1:]}, targets, SPLIT,
        np.arange(N), bootstrap_draws=120, dear_draws=40, subgroups={"sex": SEX}, patterns=HAS,
        shown=("ours", "plain"), protocol="cox" if targets.kind == "survival" else "linear_probe",
    )  # fmt: skip


def intervals_of(done):
    """Each number with every interval that the evaluation gives it."""
    found = {}

    def note(key, one):
        found.setdefault(key, []).append((one.value, one.low, one.high))

    for row in done.results:
        if not row.versus:
            note((row.target, row.metric, row.method), row)
    for row in done.subgroups:
        if row.attribute == "everyone":
            note((row.target, row.metric, row.method), row)
    for row in done.presence:
        if row.asked == "as they are" and row.n == len(HELD):
            note((row.target, row.metric, row.method), row)
    for one in done.evidence:
        held = one.calibration
        at = f"_at_{one.horizon:g}y" if one.horizon else ""
        note((one.target, f"calibration_slope{at}", one.method), held.slope)
        note((one.target, f"ici{at}", one.method), held.ici)
        if held.intercept is not None:
            note((one.target, "calibration_intercept", one.method), held.intercept)
    return {key: set(each) for key, each in found.items() if len(each) > 1}


@pytest.mark.parametrize(("kind", "seeds"), [("binary", 1), ("binary", 2), ("survival", 1)])
def test_a_number_has_the_same_interval_everywhere(kind, seeds):
    shared = intervals_of(evaluated(task(kind), seeds))
    headline = "auroc" if kind == "binary" else "c_index"
    methods = ("ours", "plain")
    slopes = {key for key in shared if key[1].startswith("calibration_slope")}
    assert {key[2] for key in slopes} == set(methods)  # those with half the draws, too
    assert any(key[1] == headline and key[2] == "ours" for key in shared)
    assert {key: each for key, each in shared.items() if len(each) > 1} == {}


def test_every_page_and_file_shows_the_same_interval(tmp_path):
    done = evaluated(task("binary"))
    data = Evaluation(title="t")
    data.add(done)
    write_report(tmp_path / "report.html", data)
    done = as_shown(data)
    card = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]*>", " ", both_pages(tmp_path)) + card
    rows = [row for row in done.results if not row.versus and row.low is not None]
    values = [f"{row.value:.3f}" for row in rows]
    others = {f"{row.value:.3f}" for row in done.subgroups if row.attribute != "everyone"
              and row.value is not None}  # fmt: skip
    own = [row for row, value in zip(rows, values, strict=True)
           if values.count(value) == 1 and value not in others]  # fmt: skip
    assert {"auroc", "calibration_slope", "ici"} <= {row.metric for row in own}
    for row in own:
        shown = re.findall(rf"(?<![\d.+-]){row.value:.3f} \((-?[\d.]+ to -?[\d.]+)\)", text)
        assert set(shown) == {f"{row.low:.3f} to {row.high:.3f}"}, row.metric
    known = {(row.metric, row.method): (row.value, row.low, row.high) for row in rows}
    table = pd.read_csv(tmp_path / "calibration.csv")
    for measure, metric in (("slope", "calibration_slope"), ("ici", "ici")):
        for line in table[table["measure"] == measure].dropna(subset=["value"]).itertuples():
            assert (line.value, line.low, line.high) == pytest.approx(known[metric, line.method])
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    short = " ".join(told["headline"])
    main = next(row for row in rows if row.metric == "auroc" and row.method == "ours")
    assert f"reaches AUROC {main.shown}" in short
    slope = known["calibration_slope", "ours"]
    assert "mi {:.3f} ({:.3f} to {:.3f})".format(*slope) in short


def test_the_index_is_given_raw_and_corrected():
    done = evaluated(task("binary"))
    rows = {row.metric: row for row in done.results if row.method == "ours" and not row.versus}
    raw, corrected = rows["ici_uncorrected"], rows["ici"]
    (figure,) = [one for one in done.evidence if one.method == "ours"]
    assert raw.value == pytest.approx(figure.calibration.ici_uncorrected, abs=1e-9)
    assert corrected.value <= raw.value
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.6, 150)  # right, so that all of the raw index is noise
    found = calibration(rng.random(150) < p, p, Resampling(draws=60))
    assert found.ici.value < 0.8 * found.ici_uncorrected
    assert corrected.low is not None
    assert raw.low is None
    assert "too large in small samples" in raw.note
    assert "corrected for noise" in corrected.note
    survival = evaluated(task("survival"))
    named = {row.metric for row in survival.results}
    assert {"ici_at_5y", "ici_uncorrected_at_5y"} <= named


@pytest.mark.parametrize(("events", "drawn"), [(9, False), (10, True)])
def test_fewer_than_ten_events_have_no_curve(events, drawn):
    done = evaluated(task("binary", events))
    for one in done.evidence:
        assert isinstance(one.calibration, Calibration) == drawn
        assert isinstance(one.decision, NotEstimable) != drawn
        if not drawn:
            assert one.calibration.reason == ("9 people with the event: a curve needs at least 10")
    slope = next(row for row in done.results if row.metric == "calibration_slope")
    assert ("a curve needs at least 10" in slope.note) != drawn


def test_people_without_the_event_decide_as_well_and_few_are_not_counted_out():
    assert too_few_for_curve(FEWEST_FOR_CURVE, FEWEST_FOR_CURVE) == ""
    assert too_few_for_curve(300, 7) == "7 people without the event: a curve needs at least 10"
    assert too_few_for_curve(3, 300).startswith("<5 people with the event")
    assert too_few_for_curve(0, 300).startswith("0 people with the event")


def test_survival_curves_take_the_last_horizon_that_enough_people_reach():
    full = task("survival")
    time, event = full.values.T
    late = np.flatnonzero((SPLIT == "held_out") & (time > 5))
    values = full.values.copy()
    values[late[9:], 0], values[late[9:], 1] = 4.9, 0  # nine are followed beyond five years
    short = replace(full, values=values.copy())
    assert ((event == 1) & (time <= 1) & (SPLIT == "held_out")).sum() >= FEWEST_FOR_CURVE
    figures = {one.horizon: one for one in evaluated(full).evidence}
    assert set(figures) == {5.0}
    figures = {one.horizon: one for one in evaluated(short).evidence}
    assert set(figures) == {1.0}
    assert isinstance(figures[1.0].calibration, Calibration)
    values[:, 1] = 0
    values[HELD[:4], 1] = 1
    values[SPLIT != "held_out"] = full.values[SPLIT != "held_out"]
    done = evaluated(replace(full, values=values))
    assert {type(one.decision) for one in done.evidence} == {NotEstimable}
    slopes = [row for row in done.results if row.metric.startswith("calibration_slope")]
    assert slopes
    assert all("a curve needs at least 10" in row.note for row in slopes)
