from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from made_report import (
    binary_evidence,
    result_rows,
    subgroup_rows,
    survival_evidence,
)
from read_pages import page_text

from medmcl.data.tables.spreadsheet import csv_text
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.gridded import gridded
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import risk_groups
from medmcl.evaluation.report import patterns
from medmcl.evaluation.report.files import as_json, report_rows
from medmcl.evaluation.report.page import pages, write_report
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.evaluation.report.training.embedding_figures import KNOWN


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    write_report(out / "report.html", report)
    return out


def test_every_part_has_a_file_and_the_page_is_small(folder):
    names = {path.name for path in folder.iterdir()}
    assert {
        "report.html", "appendix.html", "report.json", "results.csv", "model_card.md",
        "table_one.csv",
        "calibration.csv", "calibration_curve.csv", "decision_curve.csv", "risk_groups.csv",
        "d_calibration.csv", "subgroups.csv", "fitted_on.csv", "flow.csv", "missingness.csv",
        "findings.csv", "checklist.csv",
    } <= names  # fmt: skip
    assert not any(name.endswith(".part") for name in names)
    assert (folder / "report.html").stat().st_size < 5_000_000


def test_calibration_files_hold_what_the_plot_draws(report, folder):
    one = as_shown(report).evidence[0]
    rows = [r for r in read(folder / "calibration_curve.csv")
            if (r["task"], r["method"]) == (one.task, one.method)]  # fmt: skip
    smooth = [r for r in rows if r["part"] == "smooth"]
    curve = one.calibration.curve
    for name in ("predicted", "observed", "low", "high"):
        assert [float(r[name]) for r in smooth] == list(getattr(curve, name))
    groups = [r for r in rows if r["part"] == "group"]
    assert [float(r["observed"]) for r in groups] == [g.observed for g in one.calibration.groups]
    bars = [r for r in rows if r["part"] == "histogram"]
    assert sum(int(r["n"]) for r in bars if r["n"].isdigit()) <= 300
    assert [float(r["low"]) for r in bars] == list(one.histogram.edges[:-1])
    measures = {r["measure"]: r for r in read(folder / "calibration.csv")
                if (r["task"], r["method"]) == (one.task, one.method)}  # fmt: skip
    assert float(measures["slope"]["value"]) == one.calibration.slope.value
    assert float(measures["slope"]["low"]) == one.calibration.slope.low
    assert float(measures["ici"]["value"]) == one.calibration.ici.value


def test_decision_and_survival_files_hold_what_the_figures_draw(report, folder):
    one = next(t for t in as_shown(report).evidence if t.kind == "survival")
    rows = [r for r in read(folder / "decision_curve.csv")
            if (r["task"], r["method"]) == (one.task, one.method)]  # fmt: skip
    assert [float(r["threshold"]) for r in rows] == list(one.decision.thresholds)
    drawn = [None if r["model"] == "" else float(r["model"]) for r in rows]
    assert drawn == list(one.decision.model)
    groups = read(folder / "risk_groups.csv")
    first = [r for r in groups
             if (r["method"], r["group"]) == (one.method, one.risk_groups[0].name)]  # fmt: skip
    times = np.array([float(r["time"]) for r in first])
    curve = gridded(one.risk_groups[0].curve, times)
    for row, value, count in zip(first, curve.values, curve.at_risk, strict=True):
        assert (row["survival"] == "") == math.isnan(value)
        if row["survival"]:
            assert float(row["survival"]) == value
        assert row["at_risk"] == ("<5" if 0 < count < 5 else f"{count:,.0f}")


def test_results_and_table_one_are_whole(report, folder):
    rows = read(folder / "results.csv")
    assert len(rows) == len(report.results)
    assert [float(r["value"]) for r in rows] == [r.value for r in report.results]
    age = next(r for r in read(folder / "table_one.csv")
               if (r["variable"], r["statistic"], r["split"]) == ("age (years)", "mean (SD)",
                                                                  "train"))  # fmt: skip
    cell = next(r for r in report.table_one.rows if r.statistic == "mean (SD)").cells[0]
    assert (float(age["mean"]), float(age["sd"])) == (cell.mean, cell.sd)
    checklist = read(folder / "checklist.csv")
    assert len(checklist) == 52
    assert {row["filled"] for row in checklist} == {"True", "False"}


def test_no_file_holds_nan_or_infinity(folder):
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            text = page_text(text)
        assert not re.search(r"(?<![\w-])(nan|inf|infinity)(?![\w-])", text, re.IGNORECASE), path
    json.loads((folder / "report.json").read_text(encoding="utf-8"),
               parse_constant=lambda name: pytest.fail(name))  # fmt: skip


def test_json_holds_every_part_of_the_files(report):
    found = as_json(report)
    for name, rows in report_rows(report).items():
        assert len(found[name]) == len(rows)
    assert found["checklist_count"].startswith("10 of 27")


def test_suppressed_groups_hold_no_number_anywhere(report, both):
    html, parts = page_text(both), report_rows(report)
    line = next(r for r in re.findall(r"<tr>.*?</tr>", html) if "Ålesund" in r)
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line)
    assert cells[7:11] == ["too few subjects to show", "-", "-", "-"]
    hidden = [row for row in parts["subgroups"] if row["group"] == "Ålesund"]
    assert hidden
    for row in hidden:
        numbers = ("value", "low", "high", "n", "events", "subjects")
        assert all(row[name] is None for name in numbers)
    alts = re.findall(r'alt="([^"]*)"', html)
    assert all(not re.search(r"Ålesund: [\d-]", alt) for alt in alts)


def test_a_risk_group_of_few_subjects_shows_no_curve_and_no_number():
    rng = np.random.default_rng(0)
    event, time = rng.random(40) < 0.5, rng.exponential(1000, 40)
    risk = np.r_[np.zeros(37), 7.25, 7.25, 7.25]
    one = dataclasses.replace(survival_evidence("death", "ours"),
                              risk_groups=risk_groups(event, time, risk))  # fmt: skip
    assert one.risk_groups[-1].n == 3
    data = Evaluation(title="t", evidence=[one])
    rows = [r for r in report_rows(data)["risk_groups"] if r["group"] == one.risk_groups[-1].name]
    assert rows == [{**rows[0], "n": "<5", "events": None, "lowest_risk": None,
                     "highest_risk": None, "note": "too few subjects to show"}]  # fmt: skip
    assert "7.25" not in json.dumps(as_json(data))
    assert "7.25" not in page_text("".join(pages(data)))


def test_small_steps_of_the_flow_and_rare_patterns_are_not_counted_out():
    patterns = pd.DataFrame(
        {"ecg": [True] * 90 + [False] * 3, "cmr": [True] * 60 + [False] * 30 + [True] * 3}
    )
    data = Evaluation(title="t", flow=[("all", 93, 93), ("held_out", 3, 4)], missingness=patterns)
    parts = report_rows(data)
    assert parts["flow"][1] == {"step": "held_out", "subjects": "<5", "samples": "<5"}
    assert [row["samples"] for row in parts["missingness"]] == [60, "withheld", "<5"]
    assert as_json(data)["headline"][0] == "Who: <5 subjects with <5 samples (held_out)."
    html = page_text("".join(pages(data)))
    assert "&lt;5" in html
    assert "30" not in re.findall(r"<td[^>]*>(\d+)</td>", html)


def test_training_and_maps_are_in_files():
    data = Evaluation(
        title="t",
        curves={"a": [{"step": 1, "split": "train", "loss": 2.0, "terms": {"x": 1.0}},
                      {"step": 2, "split": "train", "loss": math.nan}]},
        embedding_map={"points": np.eye(5), "modality": "ecg",
                       "colours": {"mi": [1, 0, None, 1, 0]}},
        shown={"maps": [(np.zeros((2, 4, 4)), np.array([[[0.5, 0.1]], [[0.2, 0.2]]]))]},
        compared={"other": {"seed": 3}},
    )  # fmt: skip
    parts = report_rows(data)
    assert parts["training"][0] == {
        "stage": "a", "step": 1, "split": "train", "loss": 2.0, "terms/x": 1.0
    }  # fmt: skip
    assert parts["training"][1]["loss"] is None
    assert parts["embedding_map"] == [{"task": "mi", "samples shown": 5, KNOWN: 0}]
    assert parts["cosine_maps"][0]["highest cosine"] == 0.5
    assert parts["compared_runs"] == [{"run": "other", "seed": 3}]


@pytest.mark.parametrize("people", range(125, 130))
def test_a_map_does_not_tell_how_many_have_a_vector(people):
    cloud = {"points": np.eye(people)[:, :2], "modality": "ecg", "colours": {"mi": [1] * people}}
    (line,) = report_rows(Evaluation(title="t", embedding_map=cloud))["embedding_map"]
    assert line == {"task": "mi", "samples shown": 125, KNOWN: 125}


def test_files_of_an_earlier_report_do_not_stay(tmp_path, folder):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert (tmp_path / "subgroups.csv").exists()
    (tmp_path / "mine.csv").write_text("a", encoding="utf-8")
    write_report(tmp_path / "report.html", Evaluation(title="t"))
    left = {path.name for path in tmp_path.glob("*.csv")}
    assert left == {"results.csv", "checklist.csv", "mine.csv"}


def test_csv_text_survives_what_users_write():
    text = csv_text([{"name": 'a,"b"\n心', "value": None}, {"name": "c", "more": 1.5}])
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"name": 'a,"b"\n心', "value": "", "more": ""},
        {"name": "c", "value": "", "more": "1.5"},
    ]


def test_what_is_not_estimable_is_a_line_with_its_reason():
    one = dataclasses.replace(
        binary_evidence("mi", "ours"), calibration=NotEstimable("one class"),
        decision=NotEstimable("one class"), histogram=None,
    )  # fmt: skip
    parts = report_rows(Evaluation(title="t", evidence=[one]))
    assert [row["note"] for row in parts["calibration"]] == ["one class"]
    assert [row["note"] for row in parts["decision_curve"]] == ["one class"]


def test_a_report_of_many_targets_stays_small(tmp_path):
    tasks = [f"phe{k}" for k in range(30)]
    one = binary_evidence("phe", "ours")
    evidence = [dataclasses.replace(one, task=task, target=task) for task in tasks]
    groups = [row for task in tasks for row in subgroup_rows(task, "ours")]
    methods = [f"method number {k}" for k in range(5)]
    results = [
        *result_rows(tasks, ["ours", *methods], metrics=("auroc", "auprc", "brier", "ici", "mae")),
        *result_rows(["phe"], methods, "multilabel", targets=[f"p{k}" for k in range(200)]),
    ]
    data = Evaluation(
        title="many",
        evidence=evidence,
        subgroups=groups,
        results=results,
    )
    path = write_report(tmp_path / "report.html", data)
    assert path.stat().st_size < 5_000_000
    assert len(read(tmp_path / "subgroups.csv")) == len(groups)
    assert len(read(tmp_path / "results.csv")) == len(results)
    appendix = (tmp_path / "appendix.html").read_text(encoding="utf-8")
    assert "more rows are in the CSV files" in appendix


def test_patterns_of_many_are_counted_as_those_of_few_in_the_same_order(monkeypatch):
    has = np.random.default_rng(0).random((400, 3)) < 0.5
    table = pd.DataFrame(has, columns=["ecg", "cmr", "labs"])
    table = pd.concat([table, ~table])  # counts that tie
    whole = patterns.counted_patterns(table)
    sizes = []
    real = pd.DataFrame.groupby
    monkeypatch.setattr(patterns, "_AT_ONCE", 64)
    monkeypatch.setattr(
        pd.DataFrame, "groupby", lambda one, *a, **k: sizes.append(len(one)) or real(one, *a, **k)
    )
    pd.testing.assert_frame_equal(patterns.counted_patterns(table), whole)
    assert whole["samples"].sum() == 800
    assert max(sizes) <= 13 * 8
