"""An attacker with all files of a report: which counts of few people follow from their numbers."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from count_audit import Audit, ends

from medmcl.core.suppression import Covered, step_of, to_step
from medmcl.evaluation.metrics.calibration_curve import calibration
from medmcl.evaluation.metrics.decision_curve import net_benefit
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import (
    SubgroupRow,
    TaskEvidence,
    risk_histogram,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import Result, save_results
from medmcl.evaluation.protocol.subgroups import held_back
from medmcl.evaluation.report.files import json_text, write_csv_files
from medmcl.evaluation.report.model_card import model_card
from medmcl.evaluation.report.page import write_report
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.evaluation.report.table_one import Variable, table_one
from medmcl.stages.benchmark.board import CALLED, Row, write_board

LEVELS = ("A", "B", "C")


def cohort(seed):
    """Site and outcome (NaN = not known) of 60 to 110 people, few of whom are not scored."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 110))
    site = rng.choice(LEVELS, n, p=[0.4, 0.35, 0.25])
    y = rng.binomial(1, 0.45, n).astype(float)
    y[rng.permutation(n)[: rng.choice([0, 1, 2, 3, 4, 7, 10])]] = np.nan
    return site, y


def row(y, method, metric, value, kind="binary", **more):
    told = {"task": "ill", "target": "ill", "kind": kind, "metric": metric, "direction": "higher",
            "method": method, "protocol": "linear_probe", "value": value, "n": len(y),
            "subjects": len(y), "events": int(y.sum()),
            "non_events": int((1 - y).sum())}  # fmt: skip
    return Result(**{**told, **more})


def report(folder, seed):
    """Write a small report of a good model and of the majority."""
    site, y = cohort(seed)
    scored = ~np.isnan(y)
    true, share, rng = y[scored], 0.4, np.random.default_rng(seed)
    risk = np.clip(0.25 + 0.4 * true + rng.normal(0, 0.15, len(true)), 0.02, 0.98)
    outcome = pd.Series(y).map({0.0: "no", 1.0: "yes"})
    table = table_one(
        pd.DataFrame({"site": site, "ill": outcome}), ["held_out"] * len(y),
        [Variable(name="site", kind="category"),
         Variable(name="ill", kind="category", is_outcome=True)],
    )  # fmt: skip
    base = {"task": "ill", "target": "ill", "method": "ours", "metric": "auroc",
            "direction": "higher", "value": 0.8}  # fmt: skip
    groups = [
        ("everyone", "everyone", scored),
        *(("site", s, scored & (site == s)) for s in LEVELS),
    ]
    evidence = {"task": "ill", "target": "ill", "kind": "binary", "protocol": "linear_probe"}
    both = (("ours", risk), ("majority", np.full(len(true), share)))
    data = Evaluation(
        folder=folder,
        flow=[("held_out", len(y), len(y))],
        table_one=table,
        results=[row(true, "ours", "auroc", 0.8123456, p_value=0.0123456789),
                 row(true, "majority", "brier", float(((true - share) ** 2).mean())),
                 row(true, "majority", "auprc", float(true.mean()))],
        subgroups=[
            SubgroupRow(**base, attribute=a, group=g, n=int(w.sum()), subjects=int(w.sum()),
                        events=int(y[w].sum()))
            for a, g, w in groups
        ],
        evidence=[
            TaskEvidence(**evidence, method=name, calibration=calibration(true, p, fewest=5),
                         decision=net_benefit(true, p, sensible_thresholds(float(true.mean()))),
                         histogram=risk_histogram(p))
            for name, p in both
        ],
    )  # fmt: skip
    write_report(folder / "report.html", data)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def audit(folder):
    """Read every count of the files."""
    whole = int(read(folder / "flow.csv")[0]["subjects"])
    found = Audit(whole)
    for name in ("n", "events", "others", "missing"):
        found.known(name)
    for line in read(folder / "table_one.csv"):
        name = {"no": "others", "yes": "events"}.get(line["level"], line["level"] or "whole")
        found.known(name, line["text"])
    if not any(line["level"] == "missing" for line in read(folder / "table_one.csv")):
        found.known("missing", "0")
    for line in read(folder / "results.csv"):
        found.known("n", line["subjects"])
        found.known("events", line["events"])
        found.known("others", line["non_events"])
    for file in ("calibration.csv", "decision_curve.csv"):
        for line in read(folder / file) if (folder / file).exists() else []:
            found.known("n", line["n"])
            found.known("events", line["events"])
    groups = []
    for line in read(folder / "subgroups.csv")[1:]:
        g = line["group"]
        found.known(f"scored {g}", line["subjects"])
        found.known(f"events {g}", line["events"])
        found.known(f"unscored {g}")
        found.equal(g, f"scored {g}", f"unscored {g}")
        groups.append(g)
    found.equal("n", *(f"scored {g}" for g in groups))
    found.equal("events", *(f"events {g}" for g in groups))
    found.equal("n", "events", "others")
    found.equal("whole", "n", "missing")
    lines = read(folder / "calibration_curve.csv")
    bars = [line["n"] for line in lines if line["part"] == "histogram" and line["method"] == "ours"]
    for k, text in enumerate(bars):
        found.known(f"bar {k}", text)
    found.equal("n", *(f"bar {k}" for k in range(len(bars))))
    return found


def same_as(lines, share, step):
    """Whether treating all reads as that of a share."""
    for line in lines:
        at = float(line["threshold"])
        if (
            abs(to_step(share - (1 - share) * at / (1 - at), step) - float(line["treat_all"]))
            > 1e-6
        ):
            return False
    return True


def told(folder):
    """Counts of 1 to 4 people that the files leave no choice of."""
    found = audit(folder)
    told = {name: pair[0] for name in found.at
            if not name.startswith("bar") and (pair := found.ends_of(name)) is not None
            and pair[0] == pair[1] and 0 < pair[0] < 5}  # fmt: skip
    low, high = found.ends_of("n")
    for line in read(folder / "results.csv"):
        if line["method"] == "majority" and line["value"] and low < high:
            told[f"{line['metric']} of the majority"] = line["value"]
    could = []
    path = folder / "decision_curve.csv"
    lines = [line for line in (read(path) if path.exists() else []) if line["treat_all"]]
    events = found.ends_of("events")
    shown = ends(lines[0]["n"], found.whole) if lines else (low, high)
    share = to_step(events[0] / (sum(shown) / 2), step_of(shown[0]))
    if events[0] == events[1] and low < high and same_as(lines, share, step_of(shown[0])):
        return told  # made of counts as they are shown: nothing of n is in it
    for n in range(low, high + 1):
        pair = found.ends_of("events", n=n)
        if pair is not None and any(
            same_as(lines, e / n, step_of(n)) for e in range(pair[0], pair[1] + 1)
        ):
            could.append(n)
    if len(could) == 1 and 0 < found.whole - could[0] < 5:
        told["missing, by shares"] = found.whole - could[0]
    return told


@pytest.mark.parametrize("seed", range(5))
def test_no_count_of_few_people_follows_from_all_files_together(tmp_path, seed):
    report(tmp_path, seed)
    assert not told(tmp_path)


TASKS = ("ill", "other", "rare")


def rich_report(folder, seed):
    """Write a report of binary tasks, one rare, of classes, one rare, and of nested attributes."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(90, 160))
    site = rng.choice(LEVELS, n, p=[0.45, 0.3, 0.25])
    attributes = {"site": site, "north": np.where(site == "C", "no", "yes"),
                  "sex": rng.choice(["f", "m"], n)}  # fmt: skip
    outcome = {
        name: rng.binomial(1, share, n).astype(float)
        for name, share in zip(TASKS, (0.45, 0.4, rng.uniform(0.01, 0.05)), strict=True)
    }
    gone = rng.permutation(n)
    outcome["ill"][gone[: rng.choice([0, 0, 2, 4])]] = np.nan
    outcome["other"][gone[: rng.choice([0, 3, 9, 12])]] = np.nan
    grade = rng.choice(["high", "low", "mid"], n, p=[0.03, 0.45, 0.52])
    grade[:2] = "high"
    data = Evaluation(
        folder=folder,
        flow=[("in the table", n + 2, n + 2), ("held_out", n, n)],
        notes=["2 subjects have a record that the run learned from: not scored"],
        table_one=table_one(
            pd.DataFrame({"site": site, **{name: pd.Series(y).map({0.0: "no", 1.0: "yes"})
                                           for name, y in outcome.items()}}),
            ["held_out"] * n,
            [Variable(name=name, kind="category", is_outcome=name in TASKS)
             for name in ("site", *TASKS)],
        ),
    )  # fmt: skip
    for name, y in outcome.items():
        known = ~np.isnan(y)
        told = {"task": name, "target": name, "value": rng.random()}
        lost = int((~known).sum())
        note = f"{lost} labelled rows lack an input and are left out" if lost else ""
        data.results.append(row(y[known], "ours", "auroc", **told | {"note": note}))
        parts = {"everyone": np.full(n, "everyone"), **attributes}
        for attribute, groups in parts.items():
            levels = sorted(set(groups))
            rows = [known & (groups == level) for level in levels]
            least = [int(min(y[r].sum(), (1 - y[r]).sum())) for r in rows]
            held = held_back([int(r.sum()) for r in rows], least)
            for level, r, why in zip(levels, rows, held, strict=True):
                base = {"task": name, "target": name, "method": "ours", "metric": "auroc",
                        "direction": "higher", "attribute": attribute, "group": level}  # fmt: skip
                counts = {"n": int(r.sum()), "subjects": int(r.sum()), "events": int(y[r].sum())}
                told = {"suppressed": True, "note": why} if why else {"value": 0.8, **counts}
                if attribute != "everyone" or not why:
                    data.subgroups.append(SubgroupRow(**base, **told))
    train = dict(zip(("high", "low", "mid"), (3, 139, 158), strict=True))
    for name in train:
        y = (grade == name).astype(float)
        data.results.append(row(y, "ours", "auroc", 0.8, "multiclass", task="grade", target=name,
                                train_subjects=300, train_events=train[name]))  # fmt: skip
        risk = np.clip(0.4 * y + rng.uniform(0.05, 0.5, n), 0, 1)
        data.evidence.append(
            TaskEvidence(task="grade", target=name, kind="multiclass", method="ours",
                         protocol="linear_probe", calibration=calibration(y, risk, fewest=5),
                         decision=net_benefit(y, risk, sensible_thresholds(float(y.mean()))),
                         histogram=risk_histogram(risk))
        )  # fmt: skip
    shown = as_shown(data)  # as `write_report` does, without figures
    write_csv_files(folder, shown)
    save_results(folder / "results.csv", shown.results)
    (folder / "report.json").write_text(json_text(shown), encoding="utf-8")
    (folder / "model_card.md").write_text(model_card(shown).markdown(), encoding="utf-8")
    return n


def read_of_groups(found, lines, task):
    """Take in the groups of a task, all of which add up to its people, its events and its gaps."""
    own: dict[str, list[str]] = {}
    for line in lines:
        g = f"{line['attribute']} {line['group']}"
        own.setdefault(line["attribute"], []).append(g)
        for name in ("subjects", "events", "others", "unscored"):
            found.known(f"{task} {name} {g}", line.get(name, ""))
        found.known(f"size {g}")
        found.equal(f"{task} subjects {g}", f"{task} events {g}", f"{task} others {g}")
        found.equal(f"size {g}", f"{task} subjects {g}", f"{task} unscored {g}")
    for each in own.values():
        for name in ("subjects", "events"):
            found.equal(f"{task} {name}", *(f"{task} {name} {g}" for g in each))
        found.equal(f"{task} missing", *(f"{task} unscored {g}" for g in each))
    for name in ("subjects", "events"):
        parts = (f"{task} {name} site {s}" for s in ("A", "B"))
        found.equal(f"{task} {name} north yes", *parts)


def read_of_results(found, folder):
    """Take in people and events of the rows of results, and of curves."""
    for line in read(folder / "results.csv"):
        one = line["task"] + (f" {line['target']}" if line["task"] == "grade" else "")
        for name in ("subjects", "events", "non_events"):
            found.known(f"{one} {name}", line[name])
        found.equal(f"{one} subjects", f"{one} events", f"{one} non_events")
        if line["train_events"]:
            found.known(f"train {line['target']}", line["train_events"])
    for file in ("calibration.csv", "decision_curve.csv"):
        for line in read(folder / file):
            if line["n"]:
                found.known(f"grade {line['target']} events", line["events"])


def audit_of_all(folder, n):
    """Read every count of the files of a rich report."""
    found = Audit(1000)
    for name, count in (("all", n), ("all train", 300)):
        found.known(name, str(count))
    levels = read(folder / "table_one.csv")
    for line in levels:
        found.known(f"{line['variable']} {line['level']}", line["text"])
    read_of_results(found, folder)
    found.equal("all", *(f"grade {one} events" for one in ("high", "low", "mid")))
    found.equal("all train", "train high", "train low", "train mid")
    groups = [line for line in read(folder / "subgroups.csv") if line["attribute"] != "everyone"]
    for task in TASKS:
        has_gaps = any(line["level"] == "missing" for line in levels if line["variable"] == task)
        for level, text in (("no", ""), ("yes", ""), ("missing", "" if has_gaps else "0")):
            found.known(f"{task} {level}", text)
        found.equal(f"{task} yes", f"{task} events")
        found.equal(f"{task} no", f"{task} non_events")
        found.equal("all", f"{task} subjects", f"{task} missing")
        read_of_groups(found, [line for line in groups if line["task"] == task], task)
    for s in LEVELS:
        found.equal(f"size site {s}", f"site {s}")
    return found


PEOPLE = re.compile(
    r"(?<![\w.,<-])(\d+)(?: of \d+)? (?:[a-z]+ )?"
    r"(?:people|persons?|subjects?|rows?|records?|samples?|events?)\b"
)


@pytest.mark.parametrize("seed", range(3))
def test_no_count_follows_where_tasks_classes_and_nested_groups_meet(tmp_path, seed):
    n = rich_report(tmp_path, seed)
    found = audit_of_all(tmp_path, n)
    for name, (low, high) in zip(found.at, found.bounds, strict=True):
        if low < high or 0 < low < 5:
            low, high = found.ends_of(name)
            assert low < high or not 0 < low < 5, (name, low)
    for name in ("report.json", "model_card.md", "results.csv"):
        for count in PEOPLE.findall((tmp_path / name).read_text(encoding="utf-8")):
            assert int(count) not in {*range(1, 5), *range(n - 4, n)}, name


def test_a_sentence_reads_otherwise_where_it_leaves(tmp_path):
    line = Covered("age: 2 of 203 values lie far outside", "age: <5 values lie far outside")
    write_report(tmp_path / "report.html", Evaluation(folder=tmp_path, strange=[line]))
    for file in tmp_path.iterdir():
        assert "2 of 203" not in file.read_text(encoding="utf-8"), file.name
    assert "<5 values lie far" in (tmp_path / "report.json").read_text(encoding="utf-8")


SIDES = {"ill": ("no", "yes"), "grade": ("high", "low", "mid"), "c1": ("no", "yes"),
         "c2": ("no", "yes"), "c3": ("no", "yes")}  # fmt: skip
SIGNS = ("c1", "c2", "c3")


def outcomes_with_gaps(seed):
    """Outcomes of 300 train people and about a hundred held out: one rare, and unknown of some."""
    rng, found = np.random.default_rng(seed), {}
    for split, n in (("train", 300), ("held_out", int(rng.integers(90, 130)))):
        table = pd.DataFrame(index=range(n))
        for name, sides in SIDES.items():
            rare = int(rng.integers(1, 5)) if name in ("ill", "grade", "c1") else 40
            kinds = [sides[-1]] * rare if len(sides) == 2 else ["high"] * rare
            rest = ["no"] if len(sides) == 2 else ["low", "mid"]
            values = np.array([*kinds, *rng.choice(rest, n - rare)], dtype=object)
            values[rng.permutation(np.arange(rare, n))[: rng.choice([0, 2, 8, 15])]] = None
            table[name] = rng.permutation(values)
        found[split] = table
    return found


def rows_with_gaps(tables):
    """Rows of results: all tasks, two sums over signs, one without the rare one, and of classes."""
    train, held_out = tables.values()
    rows = []
    for name, sides in SIDES.items():
        task = "signs" if name in SIGNS else name
        kind = {"ill": "binary", "grade": "multiclass"}.get(task, "multilabel")
        for side in sides if name == "grade" else ("yes",):
            y = (held_out[name].dropna() == side).to_numpy(float)
            known = train[name].dropna()
            target = side if name == "grade" else name
            trained = {"train_subjects": len(known), "train_events": int((known == side).sum())}
            rows.append(row(y, "ours", "auroc", 0.8, kind, task=task, target=target, **trained))
    for task, metric, but in (
        ("signs", "auroc", ""),
        ("signs", "ici", "c1"),
        ("grade", "ici", "high"),
    ):
        own = [one for one in rows if one.task == task and one.target not in (but, "macro")]
        first = max(own, key=lambda one: one.subjects)
        rows.append(replace(first, target="macro", metric=metric, non_events=None,
                            events=sum(one.events for one in own), train_events=None))  # fmt: skip
    return rows


def board_rows(rows):
    """The same for a leaderboard."""
    more = {"suite": "s", "cohort": "c", "name": "ours", "condition": "as recorded", "mark": "",
            "left_out": "", "overlap": "not seen", "terms": "", "command": "x"}  # fmt: skip
    for one in rows:
        own = {name: getattr(one, name) for name in vars(one) if name in Row.__dataclass_fields__}
        told = {ours: getattr(one, theirs) for theirs, ours in CALLED.items()}
        yield Row(**own | told | more | {"kind": "model", "classes": 3})


def audit_of_gaps(folder, sizes, *, is_board):
    """Read results and Table 1, or a leaderboard, whose page tells how many the splits are."""
    found = Audit(400)
    for split, n in zip(("train", "held_out"), sizes, strict=True):
        found.known(split, str(n))
        for name, sides in SIDES.items():
            parts = [f"{split} {name} {side}" for side in sides]
            for part in (*parts, f"{split} {name} known", f"{split} {name} missing"):
                found.known(part)
            found.equal(f"{split} {name} known", *parts)
            found.equal(split, f"{split} {name} known", f"{split} {name} missing")
    for line in () if is_board else read(folder / "table_one.csv"):
        if line["variable"] != "subjects":
            name = line["variable"].removeprefix("signs: ")
            found.known(f"{line['split']} {name} {line['level']}", line["text"])
    called = CALLED if is_board else {}
    for line in read(folder / ("leaderboard.csv" if is_board else "results.csv")):
        task, target = line["task"], line["target"]
        if target == "macro":
            whole = f"{task} {line['metric']}"
            found.known(whole, line["events"])
            but = {"c1", "high"} if line["metric"] == "ici" else set()
            parts = [(one, "yes") for one in SIGNS]
            parts = parts if task == "signs" else [("grade", side) for side in SIDES["grade"]]
            found.equal(whole, *(f"held_out {one} {side}" for one, side in parts
                                 if not but & {one, side}))  # fmt: skip
            continue
        name, side = ("grade", target) if task == "grade" else (target, "yes")
        found.known(f"held_out {name} known", line[called.get("subjects", "subjects")])
        found.known(f"held_out {name} {side}", line["events"])
        found.known(f"train {name} known", line[called.get("train_subjects", "train_subjects")])
        if not is_board:
            found.known(f"train {name} {side}", line["train_events"])
        if not is_board and side == "yes":
            found.known(f"held_out {name} no", line["non_events"])
    return found


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_no_count_follows_where_rare_outcomes_are_unknown_of_some(tmp_path, seed):
    tables = outcomes_with_gaps(seed)
    rows = rows_with_gaps(tables)
    table = table_one(
        pd.concat(tables.values(), ignore_index=True),
        [split for split, one in tables.items() for _ in range(len(one))],
        [Variable(name=name, kind="category", is_outcome=True,
                  about=f"signs: {name}" if name in SIGNS else "") for name in SIDES],
    )  # fmt: skip
    sizes = [len(one) for one in tables.values()]
    flow = [(split, n, n) for split, n in zip(tables, sizes, strict=True)]
    shown = as_shown(Evaluation(folder=tmp_path, table_one=table, results=rows, flow=flow))
    write_csv_files(tmp_path, shown)
    save_results(tmp_path / "results.csv", shown.results)
    write_board(tmp_path, "t", list(board_rows(rows)), [], [(sizes[0], 0, sizes[1])])
    for is_board in (False, True):
        found = audit_of_gaps(tmp_path, sizes, is_board=is_board)
        for name in found.at:
            pair = found.ends_of(name)
            assert pair is not None, (is_board, name)
            assert pair[0] < pair[1] or not 0 < pair[0] < 5, (is_board, name, pair)
