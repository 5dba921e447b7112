"""The rule by which all counts of a report are rounded, and an attacker with all its files."""

import csv

import numpy as np
import pandas as pd
import pytest
from count_audit import Audit, rounded_ends
from made_report import full_report, one_row

from medmcl.core.findings import Finding
from medmcl.core.suppression import Covered, Hidden, Rounding
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import SubgroupRow
from medmcl.evaluation.protocol.results import Result, save_results
from medmcl.evaluation.report.files import write_csv_files
from medmcl.evaluation.report.rounded import Rounded
from medmcl.evaluation.report.small_counts import as_shown
from medmcl.evaluation.report.table_one import Variable, table_one
from medmcl.stages.benchmark.board import CALLED, Row, write_board

FIVE = Rounding(to=5)
NAMES = ("site", "sex", "smoker", "former", "current", "stage", "ecg", "ill", "grade")


def people(seed):
    """A cohort with every structure of which few people could be told: 300 to 400 people.

    Few are former or current smokers of another kind than either; of stage 3, but of no high grade;
    few lack the ECG, the outcome, or both; few are of the tuning split, and of site C.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(300, 400))
    split = np.where(rng.random(n) < 0.6, "train", "held_out").astype(object)
    split[: rng.integers(1, 5)] = "tuning"
    table = pd.DataFrame({"split": split, "sex": rng.choice(["f", "m"], n)})
    table["site"] = rng.choice(["A", "B", "C"], n, p=[0.55, 0.35, 0.1])
    smoker = rng.choice(["never", "former", "current"], n, p=[0.5, 0.3, 0.2])
    table["smoker"] = np.where(smoker == "never", "no", "yes")
    table["former"] = np.where(smoker == "former", "yes", "no")
    table["current"] = np.where(smoker == "current", "yes", "no")
    table["stage"] = rng.choice(["1", "2", "3"], n, p=[0.4, 0.4, 0.2])
    table["grade"] = np.where(table["stage"] == "3", "high", rng.choice(["low", "mid"], n))
    table["ecg"] = np.where(rng.random(n) < 0.1, "no", "yes")
    table["ill"] = rng.choice(["no", "yes"], n).astype(object)
    held = np.flatnonzero(split == "held_out")
    for column, value, of in (
        ("former", "no", (table["former"] == "yes")),
        ("grade", "low", (table["stage"] == "3")),
        ("ill", None, (table["ecg"] == "yes")),
        ("ill", None, (table["ecg"] == "no")),
    ):
        some = held[of.to_numpy()[held]][: rng.integers(1, 5)]
        table.loc[some, column] = value
    return table


def result(task, target, y, **more):
    told = {"kind": "binary", "metric": "auroc", "direction": "higher", "method": "ours",
            "protocol": "linear_probe", "value": 0.8123456789}  # fmt: skip
    counts = {"n": len(y), "subjects": len(y), "events": int(y.sum()),
              "non_events": int((~y).sum())}  # fmt: skip
    return Result(task=task, target=target, **told | counts | more)


def report(folder, table):
    """Write a rounded report of the cohort."""
    held = table[table["split"] == "held_out"]
    scored = held[(held["ecg"] == "yes") & held["ill"].notna()]
    graded = held[held["ecg"] == "yes"]
    base = {"task": "ill", "target": "ill", "method": "ours", "metric": "auroc",
            "direction": "higher", "value": 0.8}  # fmt: skip
    groups = [("everyone", "everyone", scored), *(
        (name, level, own) for name in ("site", "sex") for level, own in scored.groupby(name)
    )]  # fmt: skip
    flow = [("in the table", table), ("with ecg", table[table["ecg"] == "yes"]),
            *((one, table[table["split"] == one])
              for one in ("train", "tuning", "held_out"))]  # fmt: skip
    data = Evaluation(
        folder=folder,
        rounding=FIVE,
        flow=[(name, len(own), len(own)) for name, own in flow],
        missingness=pd.DataFrame({"ecg": table["ecg"] == "yes", "cmr": table["sex"] == "f"}),
        table_one=table_one(
            table.drop(columns="split"), table["split"],
            [Variable(name=name, kind="category", is_outcome=name in ("ill", "grade"))
             for name in NAMES], rule=FIVE,
        ),
        results=[result("ill", "ill", (scored["ill"] == "yes").to_numpy()),
                 *(result("grade", level, (graded["grade"] == level).to_numpy(), kind="multiclass")
                   for level in ("high", "low", "mid"))],
        subgroups=[
            SubgroupRow(**base, attribute=name, group=level, n=len(own), subjects=len(own),
                        events=int((own["ill"] == "yes").sum())) for name, level, own in groups
        ],
    )  # fmt: skip
    shown = as_shown(data)
    write_csv_files(folder, shown)
    save_results(folder / "results.csv", shown.results)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def audit(folder):
    """Read all counts of the files, with every sum that one who knows the cohort can write."""
    found = Audit(500, rounded_ends)
    for line in read(folder / "flow.csv"):
        found.known(f"flow {line['step']}", line["subjects"])
    found.equal("flow in the table", *(f"flow {one}" for one in ("train", "tuning", "held_out")))
    levels = {}
    for line in read(folder / "table_one.csv"):
        name = f"{line['split']} {line['variable']} {line['level']}"
        found.known(
            f"flow {line['split']}" if line["variable"] == "subjects" else name, line["text"]
        )
        levels.setdefault((line["split"], line["variable"]), []).append(name)
    for (split, variable), own in levels.items():
        if variable != "subjects":  # a level that is not named, or that some lack, may be few
            found.equal(f"flow {split}", *own, f"{split} {variable} rest")
            found.known(f"{split} {variable} rest", "<8")
    for line in read(folder / "missingness.csv"):
        name = f"pattern {line['ecg']} {line['cmr']}"
        found.known(name, line["samples"])
    found.equal("flow with ecg", "pattern True True", "pattern True False")
    for line in read(folder / "results.csv"):
        one = line["target"]
        for name in ("subjects", "events", "non_events"):
            found.known(f"{line['task'] if name == 'subjects' else one} {name}", line[name])
        found.equal(f"{line['task']} subjects", f"{one} events", f"{one} non_events")
    found.equal("grade subjects", "high events", "low events", "mid events")
    sums_of_held_out(found)
    sums_of_groups(found, read(folder / "subgroups.csv"))
    found.bounds[found.at["nobody"]] = (0, 0)
    return found


def sums_of_held_out(found):
    held = "held_out"
    found.equal(f"flow {held}", "grade subjects", "lack ecg")  # nobody lacks the grade
    found.equal(f"{held} ecg yes", "grade subjects", "nobody")
    found.equal("grade subjects", "ill subjects", "lack ill, have ecg")
    found.equal("lack ill", "lack ill, have ecg", "lack ill and ecg")
    found.equal(f"flow {held}", f"{held} ill yes", f"{held} ill no", "lack ill")
    found.equal("lack ecg", "lack ill and ecg", "lack ecg only")
    found.equal(f"{held} smoker yes", f"{held} former yes", f"{held} current yes", "other smokers")
    found.equal(f"{held} stage 3", "stage 3, not high", "stage 3, high")
    found.equal("stage 3, high", "high events", "stage 3, high, lack ecg")
    found.equal(f"flow {held}", "ill subjects", "unscored")
    found.equal("unscored", "lack ecg", "lack ill, have ecg")


def sums_of_groups(found, lines):
    held = "held_out"
    for line in lines:
        name = f"{line['attribute']} {line['group']}"
        for one in ("subjects", "events"):
            found.known(f"{one} {name}", line[one])
        if line["attribute"] != "everyone":
            found.equal(f"{held} {name}", f"subjects {name}", f"unscored {name}")
    for one in ("subjects", "events"):
        found.equal(f"ill {one}", f"{one} everyone everyone", "nobody")
        for attribute, own in (("site", "ABC"), ("sex", "fm")):
            found.equal(f"ill {one}", *(f"{one} {attribute} {level}" for level in own))
    for attribute, own in (("site", "ABC"), ("sex", "fm")):
        found.equal("unscored", *(f"unscored {attribute} {level}" for level in own))
    found.equal("unscored, A and B", "unscored site A", "unscored site B")


def truth(table):
    """The counts of 1 to 4 people that the attacker asks for."""
    held = table[table["split"] == "held_out"]
    ecg, ill = held["ecg"] == "yes", held["ill"].notna()
    unscored = held[~(ecg & ill)]
    found = {
        "flow tuning": (table["split"] == "tuning").sum(),
        "lack ill, have ecg": (ecg & ~ill).sum(),
        "lack ill and ecg": (~ecg & ~ill).sum(),
        "lack ecg": (~ecg).sum(),
        "other smokers": ((held["smoker"] == "yes") & (held["former"] == "no")
                          & (held["current"] == "no")).sum(),
        "stage 3, not high": ((held["stage"] == "3") & (held["grade"] != "high")).sum(),
        "unscored, A and B": unscored["site"].isin(["A", "B"]).sum(),
        **{f"unscored site {s}": (unscored["site"] == s).sum() for s in "ABC"},
        **{f"unscored sex {s}": (unscored["sex"] == s).sum() for s in "fm"},
    }  # fmt: skip
    return {name: int(n) for name, n in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_no_count_of_few_follows_from_all_files_of_a_rounded_report(tmp_path, seed):
    table = people(seed)
    report(tmp_path, table)
    found, asked = audit(tmp_path), truth(table)
    assert sum(0 < n < 5 for n in asked.values()) >= 4
    for name, count in asked.items():
        low, high = found.ends_of(name)
        assert low <= count <= high, name  # the attacker knows no wrong thing
        assert low < high or not 0 < low < 5, name


@pytest.mark.parametrize(("to", "fewest"), [(5, 5), (5, 8), (5, 11), (10, 5), (10, 11), (20, 5)])
def test_a_number_that_is_told_has_one_meaning(to, fewest):
    rule, meant = Rounding(to=to, fewest=fewest), {}
    for count in range(300):
        meant.setdefault(str(rule.count(count)), []).append(count)
    hidden = meant.pop(f"<{rule.first}")
    assert hidden == [*range(rule.first)]
    assert max(hidden) >= max(5, fewest - 1)
    for text, counts in [*meant.items()][:-1]:  # the last one is cut off
        assert int(text) % to == 0
        assert len(counts) == to
        assert max(abs(count - int(text)) for count in counts) <= to / 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Stage a: 3,001 samples of 1237 subjects, 900 steps of 64, best at step 412",
         "Stage a: 3,000 samples of 1235 subjects, 900 steps of 65, best at step 412"),
        ("3 rows lack an input; 412 of 1,000 draws left out; 127 rows are of folds",
         "410 of 1,000 draws left out; 125 rows are of folds"),
        ("one subject: rough interval; 95 % intervals", "95 % intervals"),
        ("too few events (7) for a verdict; fewer than 20 subjects", "fewer than 20 subjects"),
        ("at a risk threshold of 0.123456, share of positives", "at a risk threshold, share of "
         "positives"),
        ("median follow-up of 1234.5678 days", "median follow-up of 1.23e+03 days"),
        (Covered("2 of 203 values", "<5 values lie outside; 203 in all"), "205 in all"),
        ("5 x 2 folds, by 3 methods (Austin & Steyerberg 2019)",) * 2,
    ],
)  # fmt: skip
def test_sentences_have_their_counts_rounded_and_lose_parts_that_count_few(text, told):
    assert Rounded(FIVE).sentence(text) == told


def test_scores_that_follow_from_who_has_the_outcome_and_those_of_few_are_left_out():
    made = [one_row(n=123, subjects=123, events=46), one_row(n=123, events=6),
            one_row(n=123, events=117), one_row(n=123, events=46, method="majority"),
            one_row(n=123, events=46, method="majority", metric="brier"),
            one_row(n=123, events=46, metric="brier"),
            one_row(n=123, events=6, kind="survival")]  # fmt: skip
    found = [Rounded(FIVE).row(one) for one in made]
    assert [one.value for one in found] == [0.8, None, None, 0.8, None, 0.8, None]
    assert [str(one.events) for one in found] == ["45", "<8", "115", "45", "45", "45", "<8"]
    assert {one.n for one in found} == {125}
    assert (found[0].rounded_to, found[5].rounded_to) == (0.01, 0.05)


def test_decision_curves_are_made_of_rounded_counts_and_others_end_where_few_are_left():
    data = full_report(n=617)
    data.rounding, data.table_one = FIVE, None
    data.findings = [Finding(code="flat", where="ecg 7", what="is flat", fix="look at it")]
    data.embedding_map = {"points": np.zeros((9, 2))}
    shown = as_shown(data)
    assert not shown.findings
    assert not shown.embedding_map
    curve, exact = shown.evidence[0].decision, data.evidence[0].decision
    known = 0
    for k, at in enumerate(curve.thresholds):
        odds = at / (1 - at)
        if curve.model[k] is not None:
            hits = curve.n * (curve.model[k] + curve.treated[k] * odds) / (1 + odds)
            assert (hits + 1e-6) % 5 < 1e-4
            true = np.interp(at, exact.thresholds, exact.model)
            assert curve.model[k] == pytest.approx(true, abs=(3 + 3 * odds) / 600)
            known += 1
    assert 8 <= known <= 12
    groups = next(one for one in shown.evidence if one.risk_groups).risk_groups
    at_risk = [count for group in groups for count in group.curve.at_risk]
    assert min(at_risk) >= 10
    assert all(count % 5 == 0 for count in at_risk)
    assert len({group.curve.times for group in groups}) == 1


def test_what_nobody_knows_how_to_round_is_left_out_and_that_is_said():
    data = Evaluation(rounding=FIVE, shown={"new": [np.arange(3)], "known": [{"cases": 127}]})
    shown = as_shown(data)
    assert shown.shown == {"known": [{"cases": 125}]}
    assert shown.notes == ["new left out: it shows single people or records"]


def test_a_leaderboard_is_rounded(tmp_path):
    more = {"suite": "s", "cohort": "c", "name": "ours", "condition": "as recorded", "mark": "",
            "left_out": "", "overlap": "not seen", "terms": "", "command": "x",
            "classes": 1}  # fmt: skip
    one = one_row(n=123, subjects=123, events=46, train_subjects=412)
    told = {name: getattr(one, name) for name in vars(one) if name in Row.__dataclass_fields__}
    told |= {ours: getattr(one, theirs) for theirs, ours in CALLED.items()}
    rows = [Row(**told | more | {"kind": "model"}),
            Row(**told | more | {"kind": "model", "task": "rare", "events": 3})]  # fmt: skip
    write_board(tmp_path, "t", rows, ["People of c: 412 train, 123 held_out"], rounding=FIVE)
    first, rare = read(tmp_path / "leaderboard.csv")
    assert (first["people"], first["events"], first["train_people"]) == ("125", "45", "410")
    assert (rare["events"], rare["value"]) == ("<8", "")
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "People of c: 410 train, 125 held_out" in page
    assert "125 people scored" in page
    assert "Counts are rounded to 5: " in page
    assert isinstance(FIVE.count(3), Hidden)
