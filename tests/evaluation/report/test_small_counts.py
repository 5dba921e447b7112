"""What a report tells of few people: nothing that their count follows from."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from medmcl.core.suppression import Hidden, placeless, read_count, shown_count, step_of, to_step
from medmcl.evaluation.metrics.calibration_curve import calibration
from medmcl.evaluation.metrics.decision_curve import net_benefit
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import (
    FittedOn,
    TaskEvidence,
    risk_histogram,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import Result, load_results
from medmcl.evaluation.report.page import write_report
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.stages.benchmark.board import Row, read_board, write_board


def row(task, n, events, value=0.587301587, **more):
    told = {"target": task, "kind": "binary", "metric": "auroc", "direction": "higher",
            "method": "ours", "protocol": "linear_probe", "low": 0.2345678901, "high": 0.8991596639,
            "non_events": None if events is None else n - events}  # fmt: skip
    told |= more
    return Result(task=task, n=n, subjects=n, events=events, value=value, **told)


def made(tmp_path, results, **more):
    flow = [("in a split", 400, 400), ("train", 220, 220), ("tuning", 60, 60),
            ("held_out", 120, 120)]  # fmt: skip
    return Evaluation(results=results, flow=flow, folder=tmp_path, **more)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def texts(folder):
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_few_events_are_in_no_file_and_their_numbers_are_withheld(tmp_path):
    rows = [row("rare", 120, 3), row("often", 120, 118), row("plenty", 120, 62)]
    data = made(tmp_path, rows, fitted=[FittedOn(what="x", splits=("train",), subjects=218)])
    write_report(tmp_path / "report.html", data)
    rare, often, plenty = read(tmp_path / "results.csv")
    assert (rare["events"], rare["value"], rare["low"]) == ("<5", "", "")
    assert rare["non_events"] == "116 to 119"
    assert (often["non_events"], often["value"]) == ("<5", "")
    assert not often["events"].isdigit()
    assert (plenty["n"], plenty["events"], float(plenty["value"])) == ("120", "62", 0.587301587)
    told = json.loads((tmp_path / "report.json").read_text())["results"]
    assert [one["events"] for one in told] == ["<5", "116 to 119", 62]
    assert read(tmp_path / "fitted_on.csv")[0]["subjects"] == "216 to 219"
    for name, text in texts(tmp_path).items():
        assert not re.search(r"\b(117|118|218)\b", re.sub(r"[\d.]+(?:px|em|pt)|#\w+", "", text)), (
            name
        )
    assert rows[0].events == data.results[0].events == 3  # in memory all is as it was
    assert rows[0].value is not None
    assert [one.events for one in load_results(tmp_path / "results.csv")] == [4, 116, 62]


def test_those_without_an_outcome_do_not_follow_from_who_is_scored(tmp_path):
    (one,) = as_shown(made(tmp_path, [row("ill", 117, 62)])).results
    assert (str(one.n), str(one.subjects), one.events) == ("116 to 119", "116 to 119", 62)
    assert isinstance(one.non_events, Hidden)
    same = {
        n for n in range(116, 120)
        if any(to_step(k / (62 * (n - 62)), step_of(n)) == one.value for k in range(4000))
    }  # fmt: skip
    assert same == {116, 117, 118, 119}
    assert one.deciding == (55, "without the event")  # verdicts are what they were


def test_few_people_show_no_number_and_a_mean_does_not_give_a_class_away(tmp_path):
    three = as_shown(made(tmp_path, [row("ill", 3, 2, value=1.0, p_value=0.04)])).results[0]
    assert (str(three.n), str(three.events), three.value, three.p_value) == ("<5", "<5", None, None)
    assert three.shown == "too few subjects to show"
    classes = [row("t", 120, e, target=name) for name, e in (("a", 3), ("b", 50), ("c", 67))]
    mean = row("t", 120, 120, value=0.6543217, target="macro", non_events=None)
    found = as_shown(made(tmp_path, [mean, *classes])).results
    assert [one.value for one in found] == [0.65, None, 0.587301587, 0.587301587]


@pytest.fixture(scope="module")
def evidence():
    rng = np.random.default_rng(3)
    risk = rng.beta(2, 2, 117)
    y = rng.random(117) < risk
    return risk, TaskEvidence(
        task="ill", target="ill", kind="binary", method="ours", protocol="linear_probe",
        calibration=calibration(y, risk),
        decision=net_benefit(y, risk, sensible_thresholds(float(y.mean()))),
        histogram=risk_histogram(risk),
    )  # fmt: skip


def test_groups_and_bars_of_few_are_joined_or_hidden(tmp_path, evidence):
    risk, one = evidence
    shown = as_shown(made(tmp_path, [], evidence=[one])).evidence[0]
    groups = shown.calibration.groups
    assert any(0 < g.events < 5 or 0 < g.n - g.events < 5 for g in one.calibration.groups)
    assert len(groups) > 2
    assert not any(0 < g.events < 5 or 0 < g.n - g.events < 5 for g in groups)
    assert sum(g.n for g in groups) == 117
    assert sum(g.events for g in groups) == one.calibration.events
    (hidden,) = (g for g in groups if isinstance(g.n, Hidden))  # else all together tell 117
    assert hidden.n == min(g.n for g in groups)
    assert np.isnan([hidden.observed, hidden.low, hidden.high]).all()
    others = sum(g.n * g.observed for g in groups if g is not hidden)
    assert others == pytest.approx(one.calibration.events - hidden.events)
    assert not {f"{x:.9f}" for x in shown.calibration.curve.predicted} & {f"{x:.9f}" for x in risk}
    assert not any(0 < count < 5 for count in shown.histogram.counts if type(count) is int)
    assert str(shown.calibration.n) == str(shown.decision.n) == "116 to 119"
    assert any(str(count) == "withheld" for count in shown.histogram.counts)


def test_no_point_of_a_decision_curve_places_a_single_risk(tmp_path, evidence):
    _, one = evidence
    curve = as_shown(made(tmp_path, [], evidence=[one])).evidence[0].decision
    assert sum(treated is not None for treated in curve.treated) > 30
    for at, treated in zip(curve.thresholds, curve.treated, strict=True):
        k = np.interp(at, one.decision.thresholds, one.decision.treated) * 117
        few = 0.5 < k < 4.5 or 0.5 < 117 - k < 4.5
        assert treated is None or not few
        assert treated is None or treated * 20 == pytest.approx(round(treated * 20))  # of 5 %
    was = np.interp(curve.thresholds, one.decision.thresholds, one.decision.model)
    pairs = zip(curve.model, was, curve.treated, strict=True)
    assert max(abs(a - b) for a, b, share in pairs if a is not None and share < 1) <= 0.00501
    # of the middle of what is shown, 116 to 119; thresholds and treating all follow from it alone
    assert curve.prevalence == to_step(one.decision.events / 117.5, 0.01)
    assert abs(curve.prevalence - one.decision.prevalence) < 0.01  # no other number than it is
    assert curve.thresholds == sensible_thresholds(curve.prevalence)


def board_row(**changes):
    told = {
        "suite": "s", "cohort": "c", "task": "ill", "target": "ill", "name": "ours",
        "kind": "model",
        "protocol": "linear_probe", "label_fraction": 1.0, "condition": "as recorded",
        "metric": "auroc", "value": 1 / 3, "low": 0.1, "high": 0.9, "people": 4, "records": 4,
        "events": 1, "classes": 1, "left_out": "", "train_people": 90, "seeds": 1,
        "seed_spread": None, "versus": "", "overlap": "not seen", "mark": "", "terms": "",
        "note": "", "command": "medmcl benchmark s",
    }  # fmt: skip
    return Row(**told | changes)


def test_a_leaderboard_tells_nothing_of_few_people(tmp_path):
    rows = [board_row(), board_row(task="big", people=90, records=90, events=40)]
    write_board(tmp_path, "t", rows, [])
    few, big = read(tmp_path / "leaderboard.csv")
    assert (few["people"], few["records"], few["events"], few["value"]) == ("<5", "<5", "<5", "")
    assert (big["people"], float(big["value"])) == ("90", 1 / 3)
    page = (tmp_path / "leaderboard.md").read_text()
    assert "\\<5 people scored" in page or "<5 people scored (<5 records, <5 positive" in page
    again = read_board(tmp_path / "leaderboard.json")
    assert (str(again[0].people), again[0].value, again[1].people) == ("<5", None, 90)


def test_text_of_users_is_escaped_in_a_leaderboard(tmp_path):
    evil = "<script>alert(1)</script> [x](http://evil)|y"
    rows = [board_row(people=90, events=40, task=evil, name=evil, scored_on=evil, mark=evil,
                      terms=evil, left_out=evil, command=f"medmcl `{evil}`")]  # fmt: skip
    write_board(tmp_path, evil, rows, [evil])
    page = (tmp_path / "leaderboard.md").read_text()
    code = re.sub(r"`[^`\n]*`", "", page)
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[x|(?<!\\)\|y", code)


def test_a_hidden_count_reads_as_its_text_everywhere():
    few, near = shown_count(3, 120), shown_count(117, 400, 120)
    assert (str(few), f"{few:,}", f"{near:>4}") == ("<5", "<5", "116 to 119")
    assert json.dumps(placeless({"n": [few, near]})) == '{"n": ["<5", "116 to 119"]}'
    assert (few, near) == (3, 117)
    assert type(shown_count(0, 120)) is int  # none is not few
    assert type(shown_count(120, 120, 400)) is int
    assert [read_count(one) for one in ("<5", "1,996 to 1,999", "withheld", "12")] == [
        4,
        1996,
        0,
        12,
    ]
    with pytest.raises(ValueError, match="x"):
        read_count("x")


@pytest.mark.parametrize(("people", "step"), [(1, 1), (117, 0.01), (100, 0.01), (99, 0.02),
                                              (2158, 0.0005), (40, 0.05)])  # fmt: skip
def test_the_step_is_no_finer_than_a_person(people, step):
    assert step_of(people) == pytest.approx(step)
