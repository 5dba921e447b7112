"""What a report tells of few people: nothing that their count follows from."""

from __future__ import annotations

import copy
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medmcl.core.suppression import (
    Hidden,
    few,
    placeless,
    read_count,
    shown_count,
    step_of,
    to_step,
)
from medmcl.evaluation.aspects.tasks.answers import who
from medmcl.evaluation.aspects.tasks.decision_figures import decision_curves
from medmcl.evaluation.aspects.tasks.survival_figures import risk_rows
from medmcl.evaluation.aspects.tasks.tables import d_rows
from medmcl.evaluation.metrics.calibration_curve import calibration
from medmcl.evaluation.metrics.decision_curve import net_benefit
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.d_calibration import d_calibration
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import (
    FittedOn,
    PresenceRow,
    SubgroupRow,
    TaskEvidence,
    risk_groups,
    risk_histogram,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import Result, flipped, load_results, save_results
from medmcl.evaluation.protocol.subgroups import TOO_SMALL
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.evaluation.report.table_one import Variable, table_one
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


def test_who_lacks_an_input_does_not_follow_from_the_outcome_in_table_one(tmp_path):
    ill = ["yes"] * 50 + ["no"] * 60 + [None] * 10
    columns = {"ill": ill, "signs: af": ill, "ef": [60.0] * 110 + [None] * 10}
    variables = [
        Variable(name="ill", kind="category", is_outcome=True),
        Variable(name="signs: af", kind="category", is_outcome=True),
        Variable(name="ef", kind="number", unit="%"),
    ]
    table = table_one(pd.DataFrame(columns), ["held_out"] * 120, variables)
    rows = [row("ill", 107, 50), row("signs", 107, 50, target="af"),  # 3 lack an input
            row("ef", 107, None, kind="regression"), row("other", 107, 50)]  # fmt: skip
    *hidden, other = as_shown(made(tmp_path, rows, table_one=table)).results
    assert [(str(one.n), one.value) for one in hidden] == [("106 to 109", 0.59)] * 3
    assert [one.events for one in hidden] == [50, 50, None]
    assert isinstance(hidden[0].non_events, Hidden)
    assert (other.n, other.events, other.value) == (107, 50, 0.587301587)


@pytest.mark.parametrize("more", [0, 1, 4, 5])
def test_who_with_an_outcome_lacks_an_input_does_not_follow_from_table_one(more, tmp_path):
    sides = {"train": ["no"] * 100 + ["yes"] * (50 + more) + [None] * 10,
             "held_out": ["no"] * 60 + ["yes"] * (40 + more)}  # fmt: skip
    columns = {name: [*sides["train"], *sides["held_out"]] for name in ("ill", "f: event")}
    splits = ["train"] * len(sides["train"]) + ["held_out"] * len(sides["held_out"])
    variables = [Variable(name=name, kind="category", is_outcome=True) for name in columns]
    table = table_one(pd.DataFrame(columns), splits, variables)
    of_train = {"train_subjects": 150, "train_events": 50}
    rows = [row("ill", 95, 40, **of_train), row("f", 95, 40, kind="survival", **of_train),
            row("f", 95, 39, kind="survival", metric="auroc_at_1y")]  # fmt: skip
    shown = as_shown(made(tmp_path, rows, table_one=table))
    told = {line.level: [str(cell.text) for cell in line.cells] for line in shown.table_one.rows
            if line.variable in columns}  # fmt: skip
    assert (told["yes"] == ["withheld"] * 2) == (told["no"] == ["withheld"] * 2) == (more in (1, 4))
    trained = str(shown.results[0].train_subjects)
    assert (trained == f"{146 + more} to {149 + more}") == (more in (1, 4))


def test_who_lacks_an_outcome_does_not_follow_from_another_task(tmp_path):
    ill = ["yes"] * 50 + ["no"] * 60
    columns = {"ill": ill, "grave": ["yes", "no"] * 24 + [None] * 62,  # of 48 of the ill
               "some": ["yes", "no", None] + ["no"] * 105 + [None] * 2}  # fmt: skip
    variables = [Variable(name=name, kind="category", is_outcome=True) for name in columns]
    table = table_one(pd.DataFrame(columns), ["held_out"] * 110, variables)
    rows = [row("ill", 104, 50), row("grave", 48, 24), row("some", 102, 40)]
    found = as_shown(replace(made(tmp_path, rows, table_one=table), flow=[])).results
    assert [str(one.n) for one in found] == ["104", "46 to 49", "100 to 103"]
    both = table_one(pd.concat([pd.DataFrame(columns)] * 2, ignore_index=True),
                     ["train"] * 110 + ["held_out"] * 110, variables)  # fmt: skip
    trained = [replace(one, train_subjects=one.n, train_events=one.events) for one in rows]
    found = as_shown(replace(made(tmp_path, trained, table_one=both), flow=[])).results
    assert [str(one.train_subjects) for one in found[:2]] == ["104", "46 to 49"]


@pytest.mark.parametrize(("n", "shown"), [(102, "102 to 105"), (101, "101")])
def test_two_few_that_add_up_to_all_they_can_be_are_hidden(n, shown, tmp_path):
    ill = ["yes"] * 50 + ["no"] * 56 + [None] * 4  # "<5" lack it, and "<5" of the others an input
    table = table_one(pd.DataFrame({"ill": ill}), ["held_out"] * 110,
                      [Variable(name="ill", kind="category", is_outcome=True)])  # fmt: skip
    data = replace(made(tmp_path, [row("ill", n, 45)], table_one=table), flow=[])
    assert str(as_shown(data).results[0].n) == shown


def test_a_split_of_nearly_as_many_other_people_hides_nothing(tmp_path):
    flow = [("in a split", 504, 504), ("train", 300, 300), ("tuning", 104, 104),
            ("held_out", 100, 100)]  # fmt: skip
    ill = pd.DataFrame({"ill": ["yes", "no"] * 252})
    sides = ["train"] * 300 + ["tuning"] * 104 + ["held_out"] * 100
    table = table_one(ill, sides, [Variable(name="ill", kind="category")])
    line = FittedOn(what="x", splits=("train", "tuning"), subjects=402)
    for rows in ([row("ill", 100, 50)], [row("ill", 98, 49)]):
        data = replace(made(tmp_path, rows, table_one=table, fitted=[line]), flow=flow)
        shown = as_shown(data)
        assert (shown.results == rows) == (rows[0].n == 100)
        assert str(shown.fitted[0].subjects) == "400 to 403"  # of 404


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
        calibration=calibration(y, risk, fewest=5),
        decision=net_benefit(y, risk, sensible_thresholds(float(y.mean()))),
        histogram=risk_histogram(risk),
    )  # fmt: skip


def test_groups_and_bars_of_few_are_joined_or_hidden(tmp_path, evidence):
    risk, one = evidence
    data = made(tmp_path, [], evidence=[one])
    hidden = as_shown(data).evidence[0]
    assert hidden.calibration.groups == ()  # of 117 of 120: their sizes would tell
    assert str(hidden.calibration.n) == str(hidden.decision.n) == "116 to 119"
    assert any(str(count) == "withheld" for count in hidden.histogram.counts)
    assert not any(0 < count < 5 for count in hidden.histogram.counts if type(count) is int)
    curve = hidden.calibration.curve
    assert not {f"{x:.9f}" for x in curve.predicted} & {f"{x:.9f}" for x in risk}
    shown = as_shown(replace(data, flow=[("held_out", 117, 117)])).evidence[0].calibration
    tenths = calibration(risk > 0.5, risk)
    assert any(group.has_few(5) for group in tenths.groups)
    by_hand = replace(one, calibration=tenths)
    data = made(tmp_path, [], evidence=[by_hand])
    found = as_shown(replace(data, flow=[("held_out", 117, 117)])).evidence[0]
    assert found.calibration.groups == ()
    assert len(shown.groups) > 2
    assert not any(0 < g.events < 5 or 0 < g.n - g.events < 5 for g in shown.groups)
    assert sum(g.n for g in shown.groups) == shown.n == 117
    assert sum(g.events for g in shown.groups) == one.calibration.events


@pytest.mark.parametrize(
    ("events", "competing", "shown"),
    [(30, 40, "40"), (30, 3, "<5"), (30, 84, "withheld"), (30, 87, "87"), (3, 112, "withheld")],
)
def test_the_competing_event_is_told_unless_few_have_it_or_few_have_neither(
    tmp_path, evidence, events, competing, shown
):
    one = replace(evidence[1], kind="survival", calibration=None, decision=None, histogram=None,
                  followed=(117, 117, events), competing=competing)  # fmt: skip
    rows = [replace(row("ill", 117, events), kind="survival", metric="c_index")]
    data = made(tmp_path, rows, evidence=[one])
    data = as_shown(replace(data, flow=[("held_out", 117, 117)]))
    assert f"{few(events)} events, {shown} people with the competing event)" in str(who(data)[0])


@pytest.mark.parametrize(("later", "hides"), [(0, False), (3, True), (5, False)])
def test_few_events_after_the_horizon_do_not_follow_from_those_by_it(
    tmp_path, evidence, later, hides
):
    one = evidence[1]
    by_then, everyone = one.calibration.events, one.calibration.subjects
    one = replace(one, kind="survival", histogram=None,
                  followed=(everyone, everyone, by_then + later))  # fmt: skip
    rows = [replace(row("ill", everyone, by_then + later), kind="survival", metric="c_index")]
    data = made(tmp_path, rows, evidence=[one])
    (shown,) = as_shown(replace(data, flow=[("held_out", everyone, everyone)])).evidence
    assert str(shown.calibration.events) == ("withheld" if hides else str(by_then))
    assert str(shown.decision.events) == ("withheld" if hides else str(by_then))
    assert bool(shown.calibration.groups) != hides


def test_a_rare_class_does_not_follow_from_the_others(tmp_path, evidence):
    _, one = evidence
    more = {"kind": "multiclass", "train_subjects": 300}
    rows = [row("grade", 120, e, target=name, train_events=f, **more)
            for name, e, f in (("high", 4, 3), ("low", 56, 139), ("mid", 60, 158))]  # fmt: skip
    constant = {"method": "majority", "metric": "accuracy", "target": "all classes", **more}
    whole = row("grade", 120, None, 0.5, **constant)
    found = replace(one.calibration, n=120, subjects=120, events=56)
    one = replace(one, task="grade", target="low", kind="multiclass", calibration=found)
    shown = as_shown(made(tmp_path, [*rows, whole], evidence=[one]))
    texts = [(str(r.events), str(r.non_events), str(r.train_events)) for r in shown.results[:3]]
    assert texts == [("<5", "116 to 119", "<5"), ("withheld",) * 3, ("60", "60", "158")]
    assert shown.results[3].value is not None or shown.results[3].note  # of mid it would tell
    assert "withheld" in shown.evidence[0].calibration.reason
    alone = row("kind", 117, None, 0.5, **constant)  # a share of people who are hidden
    assert as_shown(made(tmp_path, [alone])).results[0].value is None


def test_survival_of_hidden_people_shows_no_groups(tmp_path):
    rng = np.random.default_rng(0)
    risk, n = rng.normal(size=118), 118
    time, event = rng.exponential(np.exp(-risk)) + 0.01, rng.random(n) < 0.6
    test = d_calibration(event, time, np.exp(-time * np.exp(risk)))
    one = TaskEvidence(task="death", target="death", kind="survival", method="m", protocol="cox",
                       risk_groups=risk_groups(event, time, risk), d_calibration=test,
                       followed=(n, n, int(event.sum())))  # fmt: skip
    note = f"p of the test, chi-square {test.statistic:.3g}: no interval"
    kind = {"kind": "survival", "metric": "d_calibration_p", "note": note}
    said = replace(row("death", n, None, test.p_value, **kind), subjects=0)
    data = as_shown(made(tmp_path, [said], evidence=[one]))
    (shown,), (p_value,) = data.evidence, data.results
    assert str(shown.followed[1]) == "116 to 119"
    assert (shown.d_calibration.statistic, shown.d_calibration.shares) == (None, ())
    assert p_value.value == shown.d_calibration.p_value == float(f"{test.p_value:.2g}")
    assert p_value.note == "p of the test: no interval"
    lines = risk_rows(shown)
    assert len(lines) == 3
    assert not any(line.get("at_risk") or str(line["n"]).isdigit() for line in lines)
    assert d_rows(shown)[0]["statistic"] is None


def test_notes_tell_no_count_that_is_hidden(tmp_path):
    lost = "3 labelled rows lack an input and are left out"
    few = "8 people without the event: a curve needs at least 10"
    rows = [row("ill", 117, 109, note=f"{lost}; {few}; 30 draws"), row("all", 120, 60, note=few)]
    notes = ["4 of 120 subjects have ids of people", "117 samples were read", "12 subjects lack x"]
    curve = TaskEvidence(task="ill", target="ill", kind="binary", method="m", protocol="p",
                         calibration=NotEstimable(few), decision=NotEstimable(few))  # fmt: skip
    data = as_shown(made(tmp_path, rows, notes=notes, gaps=["1 row lacks y"], evidence=[curve]))
    hidden = "some people without the event: a curve needs at least 10"
    assert data.results[0].note == f"<{lost.replace('3', '5')}; {hidden}; 30 draws"
    assert data.results[1].note == few  # nobody is hidden
    assert data.evidence[0].decision.reason == hidden
    assert data.notes == ["<5 of 120 subjects have ids of people", "116 to 119 samples were read",
                          "12 subjects lack x"]  # fmt: skip
    assert data.gaps == ["<5 rows lack y"]  # nor does a word tell of how many


def test_neither_verdicts_nor_folds_nor_the_share_in_train_tell_a_hidden_count(tmp_path):
    gain = "too few without the event (8) for a verdict"
    lost = "folds: 1 of 5 hold nobody with the event; folds: 3 of 20 hold a single person"
    at = "at a risk threshold of 0.391534, the share of positives in train"
    rows = [row("ill", 117, 109, note=f"{gain}; {lost}"), row("all", 120, 112, note=gain),
            row("b", 120, 60, train_subjects=217, train_events=85, note=at)]  # fmt: skip
    hidden, open_, share = (one.note for one in as_shown(made(tmp_path, rows)).results)
    assert hidden == (f"{gain.replace('8', '<10')}; folds: some of 5 hold nobody with the event; "
                      "folds: some of 20 hold a single person")  # fmt: skip
    assert open_ == gain
    assert "0.39" not in share
    lost = "vec: 9 samples without a vector (6 of train, 3 of held_out): neither fitted on"
    spare = "vec: 20 of 374 vectors are of nobody in the cohort"
    assert as_shown(made(tmp_path, rows, notes=[lost, spare])).notes == [
        "vec: some samples without a vector: neither fitted on",
        "vec: some of 374 vectors are of nobody in the cohort",
    ]


@pytest.mark.parametrize("events", [1, 2, 3, 4, 30])
def test_neither_draws_nor_a_threshold_tell_how_many_have_the_event(events, tmp_path):
    left_out = round(1000 * (1 - events / 85) ** 85)
    rows = [
        row("ill", 85, events, note=f"{left_out} of 1000 draws were not estimable, left out"),
        row("ill", 85, events, metric="net_benefit", train_subjects=160, train_events=events,
            note=f"at a risk threshold of {events / 160:g}, the share of positives in train"),
    ]  # fmt: skip
    left, at = (one.note for one in as_shown(made(tmp_path, rows)).results)
    assert "some of 1000 draws were not estimable" in left
    assert ("threshold that few people decide, the share" in at) == (events < 5)
    assert (f"{events / 160:g}" in at) == (events >= 5)


def test_a_mean_over_classes_hides_those_without_an_event_as_those_with_it(tmp_path):
    classes = [row("grade", 85, e, target=name, kind="multiclass")
               for name, e in (("low", 49), ("mid", 33), ("high", 3))]  # fmt: skip
    mean = row("grade", 85, 82, target="macro", kind="multiclass", non_events=3)
    found = as_shown(made(tmp_path, [*classes, mean])).results[-1]
    assert [str(one) for one in (found.events, found.non_events)] == ["withheld", "withheld"]


def test_steps_of_the_flow_and_folds_are_not_fewer_by_few(tmp_path):
    flow = [("in the table", 403, 403), ("in a split", 400, 400), ("with labs", 397, 397),
            ("train", 300, 300), ("tuning", 100, 100), ("held_out", 0, 0)]  # fmt: skip
    sex = pd.DataFrame({"sex": ["f"] * 200 + ["m"] * 197})
    table = table_one(sex, ["scored out of fold"] * 397, [Variable(name="sex", kind="category")],
                      splits=["scored out of fold"])  # fmt: skip
    folds = row("af", 397, 181, split="cross-validation", train_subjects=319)
    line = FittedOn(what="x", splits=("train", "tuning"), subjects=397, use="out_of_fold")
    data = replace(made(tmp_path, [folds], table_one=table, fitted=[line]), flow=flow)
    shown = as_shown(data)
    steps = [str(subjects) for _, subjects, _ in shown.flow]
    assert steps == ["401 to 404", "400", "396 to 399", "300", "100", "0"]
    assert str(shown.fitted[0].subjects) == "396 to 399"
    assert str(shown.results[0].train_subjects) == "withheld"  # four fifths of 397
    cells = [line.cells[0] for line in shown.table_one.rows]
    assert [cell.text for cell in cells] == ["396 to 399", "withheld", "197"]
    assert [cell.count for cell in cells] == [None, None, 197]


def group(attribute, name, n, events, **more):
    told = {"task": "ill", "target": "ill", "method": "m", "metric": "auroc", "value": 0.81234567,
            "direction": "higher", "attribute": attribute, "group": name}  # fmt: skip
    return SubgroupRow(**told | {"n": n, "subjects": n, "events": events} | more)


def test_groups_are_in_fives_where_one_is_held_back_and_do_not_add_up_to_it(tmp_path):
    held = {"value": None, "suppressed": True, "note": TOO_SMALL}
    rows = [group("everyone", "everyone", 121, 60), group("sex", "f", 64, 32),
            group("sex", "m", 57, 28)]  # fmt: skip
    data = replace(made(tmp_path, [], subgroups=rows), flow=[("held_out", 121, 121)])
    assert as_shown(data).subgroups == rows
    bands = [group("age", "<50", 100, 50), group("age", ">=65", 20, 9),
             group("age", "50 to <65", None, None, **held)]  # fmt: skip
    found = as_shown(replace(data, subgroups=[*rows, *bands])).subgroups
    assert [str(one.n) for one in found] == ["121", "60 to 64", "55 to 59", "100 to 104",
                                             "None", "None"]  # fmt: skip
    assert [str(one.events) for one in found[1:4]] == ["30 to 34", "25 to 29", "50 to 54"]
    assert [one.value for one in found[:2]] == [0.81234567, 0.82]
    two = [rows[0], rows[1], rows[2], replace(rows[0], task="b", n=100, subjects=100),
           replace(rows[1], task="b", n=62, subjects=62),
           replace(rows[2], task="b", n=38, subjects=38)]  # fmt: skip
    found = as_shown(replace(data, subgroups=two)).subgroups  # who lacks the outcome of one task
    assert [str(one.n) for one in found[1:3]] == ["60 to 64", "55 to 59"]
    assert [str(one.n) for one in found[4:]] == ["None"] * 2


def test_groups_that_table_one_counts_are_counted_where_everybody_is_scored(tmp_path):
    rows = [group("everyone", "everyone", 121, 60), group("sex", "f", 64, 32),
            group("sex", "m", 57, 28), group("age", "<50", 101, 50),
            group("age", ">=65", None, None, value=None, suppressed=True, note=TOO_SMALL),
            group("age", "50 to <65", None, None, value=None, suppressed=True, note=TOO_SMALL),
    ]  # fmt: skip
    table = table_one(pd.DataFrame({"sex": ["f"] * 64 + ["m"] * 57}), ["held_out"] * 121,
                      [Variable(name="sex", kind="category")])  # fmt: skip
    data = replace(made(tmp_path, [row("ill", 121, 60)], subgroups=rows, table_one=table),
                   flow=[("held_out", 121, 121)])  # fmt: skip
    found = as_shown(data).subgroups
    assert [str(one.n) for one in found[:4]] == ["121", "64", "57", "100 to 104"]
    assert [str(one.events) for one in found[1:3]] == ["30 to 34", "25 to 29"]
    assert found[1].value == to_step(rows[1].value, 0.02)
    fewer = [replace(rows[0], n=111, subjects=111), replace(rows[1], n=54, subjects=54), *rows[2:]]
    found = as_shown(replace(data, subgroups=fewer)).subgroups  # ten are not scored
    assert [str(one.n) for one in found[1:3]] == ["50 to 54", "55 to 59"]


def test_groups_of_tasks_neither_of_which_holds_the_other_are_counted(tmp_path):
    def shown(*sizes):
        names = (("everyone", "everyone"), ("sex", "f"), ("sex", "m"))
        rows = [group(*name, n, n // 2, task=task, target=task)
                for task, each in zip("ab", sizes, strict=True)
                for name, n in zip(names, each, strict=True)]  # fmt: skip
        data = replace(made(tmp_path, [], subgroups=rows), flow=[("held_out", 121, 121)])
        return rows, as_shown(data).subgroups

    rows, found = shown((100, 62, 38), (101, 60, 41))  # 2 more of f, 3 fewer of m
    assert found == rows
    _, found = shown((100, 62, 38), (97, 60, 37))  # all of b may be of a
    assert [one.n for one in found[3:]] == [97, None, None]


def test_who_of_a_group_is_not_scored_follows_from_no_table(tmp_path):
    levels = {"sex": ["f"] * 64 + ["m"] * 57, "ill": ["yes", *["yes", "no"] * 60]}
    variables = [Variable(name=name, kind="category") for name in levels]
    table = table_one(pd.DataFrame(levels), ["held_out"] * 121, variables)
    rows = [group("everyone", "everyone", 101, 60), group("gender", "f", 62, 32),
            group("gender", "m", 39, 28)]  # fmt: skip
    flags = [rows[0], group("old", "yes", 59, 32), group("old", "no", 42, 28)]  # not those of ill
    data = replace(made(tmp_path, [row("ill", 101, 60)], table_one=table), flow=[])
    sexes = [rows[0], group("sex", "f", 64, 32), group("sex", "m", 57, 28)]
    other = pd.DataFrame({**levels, "parent": ["f"] * 66 + ["m"] * 55})  # no size of a sex
    named = [*variables, Variable(name="parent", kind="category")]
    beside = replace(made(tmp_path, [row("ill", 101, 60)]), flow=[], subgroups=sexes,
                     table_one=table_one(other, ["held_out"] * 121, named))  # fmt: skip
    assert as_shown(beside).subgroups == sexes
    for given, shown in ((rows, ["101", "None", "None"]), (flags, ["101", "59", "42"])):
        found = as_shown(replace(data, subgroups=given)).subgroups
        assert [str(one.n) for one in found] == shown
    assert found == flags


def test_as_if_does_not_tell_a_pattern_that_is_held_back(tmp_path):
    base = {"task": "ill", "target": "ill", "method": "m", "metric": "auroc", "value": 0.8,
            "direction": "higher"}  # fmt: skip
    rows = [PresenceRow(**base, asked=asked, modalities=name, n=n, subjects=n, events=n // 2)
            for asked, name, n in (("as they are", "everyone", 120), ("as they are", "abc", 60),
                                   ("as they are", "b", 51), ("as if", "a", 63))]  # fmt: skip
    few = {"value": None, "suppressed": True, "note": TOO_SMALL}
    rows.append(PresenceRow(**base | few, asked="as they are", modalities="ac"))
    shown = as_shown(made(tmp_path, [], presence=rows)).presence
    assert [str(one.n) for one in shown] == ["120", "60 to 64", "50 to 54", "60 to 64", "None"]


def test_a_report_of_which_nothing_is_few_is_as_it_was(tmp_path):
    table = table_one(pd.DataFrame({"sex": ["f"] * 60 + ["m"] * 60}), ["held_out"] * 120,
                      [Variable(name="sex", kind="category")])  # fmt: skip
    classes = [row("grade", 120, e, target=name, kind="multiclass", train_events=e)
               for name, e in (("a", 60), ("b", 60))]  # fmt: skip
    data = made(
        tmp_path,
        [row("ill", 120, 62, train_subjects=220, train_events=90, note="8 people"), *classes],
        subgroups=[group("everyone", "everyone", 120, 62), group("sex", "f", 60, 30),
                   group("sex", "m", 60, 32)],
        notes=["12 subjects lack x; 3 sites: rough interval"], table_one=table,
        fitted=[FittedOn(what="x", splits=("train",), subjects=220, rows=220)],
    )  # fmt: skip
    shown = as_shown(data)
    for name in ("results", "subgroups", "notes", "fitted", "flow", "table_one"):
        assert repr(getattr(shown, name)) == repr(getattr(data, name)), name
    bands = [group("age", "<50", 64, 32), group("age", ">=50", 56, 30)]
    page = pages(replace(shown, subgroups=[*shown.subgroups, *bands]))[0]
    assert "For your own use" not in page
    assert "1 to 4" not in page
    few = as_shown(replace(data, subgroups=[*data.subgroups, group("age", ">=50", None, None,
                   value=None, suppressed=True, note=TOO_SMALL)]))  # fmt: skip
    page = pages(few)[0]
    assert page.count("For your own use") == page.count("Ranges and withheld counts") == 1
    assert "--predictions FILE" in page


def test_no_point_of_a_decision_curve_places_a_single_risk(tmp_path, evidence):
    _, one = evidence
    told = as_shown(made(tmp_path, [], evidence=[one])).evidence
    curve = told[0].decision
    for found, has_gaps in ((told, None in curve.model), ([one], False)):
        assert ("may have gaps" in decision_curves(found, "").aid) == has_gaps
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
    assert "<5 people scored, <5 of them with a positive label (<5 records)" in page
    assert "90 people scored, 40 of them with a positive label (90 records)" in page
    again = read_board(tmp_path / "leaderboard.json")
    assert (str(again[0].people), again[0].value, again[1].people) == ("<5", None, 90)


def test_who_was_trained_on_is_not_counted_in_a_leaderboard(tmp_path):
    seen = "pretrained on 2 of 120 people scored, list.csv (12 entries): 2 by id"
    write_board(tmp_path, "t", [replace(board_row(), mark=seen)], [])
    for file in tmp_path.iterdir():
        text = file.read_text(encoding="utf-8").replace("\\<", "<").replace("&lt;", "<")
        assert "<5 of 120 people scored, list.csv (12 entries): <5 by id" in text, file.name


def test_text_of_users_is_escaped_in_a_leaderboard(tmp_path):
    evil = "<script>alert(1)</script> [x](http://evil)|y"
    rows = [board_row(people=90, events=40, task=evil, name=evil, scored_on=evil, mark=evil,
                      terms=evil, left_out=evil, command=f"medmcl `{evil}`")]  # fmt: skip
    write_board(tmp_path, evil, rows, [evil])
    page = (tmp_path / "leaderboard.md").read_text()
    code = re.sub(r"`[^`\n]*`", "", page)
    assert not re.search(r"(?<!\\)<script|(?<!\\)\[x|(?<!\\)\|y", code)


def test_a_rounded_number_is_written_no_finer_than_its_step(tmp_path):
    lesser = row("ill", 28, 15, value=0.004, low=0.001, high=0.5401)
    part = made(tmp_path, [lesser, replace(lesser, low=-0.3), replace(lesser, versus="other")])
    shown = as_shown(replace(part, flow=[("held_out", 30, 30)])).results
    assert [one.shown for one in shown] == [
        "<0.05 (<0.05 to 0.55)", "about 0.00 (-0.30 to 0.55)", "about +0.00 (+0.00 to +0.55)",
    ]  # fmt: skip
    assert flipped(shown[2]).shown == "about +0.00 (-0.55 to +0.00)"
    save_results(tmp_path / "results.csv", [*shown, row("ill", 28, 15)])
    assert [one.rounded_to for one in load_results(tmp_path / "results.csv")] == [*[0.05] * 3, None]
    one = to_step(1.0004, 0.1)
    assert (f"{one:.3f}", f"{one:.1%}", f"{one:.4g}", str(one)) == ("1.0", "100%", "1", "1.0")
    assert f"{to_step(1.0004, 0.0001):.3f}" == "1.000"
    assert json.dumps(copy.deepcopy(shown[0].high)) == "0.55"
    assert f"{copy.deepcopy(shown[0].low):.3f}" == "<0.05"


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
