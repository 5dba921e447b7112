from __future__ import annotations

import dataclasses
import re

import pytest

from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.study import Study
from medmcl.evaluation.report.tripod import CITE, PARTS, TO_COMPLETE, checklist

LETTERS = {
    3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc",
    23: "ab", 27: "abc",
}  # fmt: skip
CODES = [f"{item}{letter}" for item in range(1, 28) for letter in LETTERS.get(item, " ")]
CODES = [code.strip() for code in CODES]

# part to values of the full report that its text must hold
VALUES = {
    "5a": ["a made cohort", "cb3de9c0a8fff9d5"],
    "5b": ["2014-05-02", "2019-11-30", "the date of the ecg"],
    "6a": ["4 sites"],
    "6b": ["age >= 40"],
    "7": ["500 Hz, 10 s", "128 px", "1 finding of"],
    "8a": ["column mi", "death_days", "1, 5 years"],
    "9b": ["wfdb, 12 leads", "nifti, xyzt"],
    "11": ["few", "train mean and a flag"],
    "12a": ["by subject, at random", "train 200", "tuning 100", "held_out 100"],
    "12b": ["standardisation of ecg on train"],
    "12c": ["vit, 12 layers", "900 steps of 64"],
    "12d": ["4 sites"],
    "12e": ["AUROC", "C-index", "paired"],
    "12g": ["linear probe"],
    "14": ["sex", "age", "site", "modalities"],
    "15": ["mi: a probability, among the scored from 0.0", "death: a risk by 1000 days"],
    "16": ["train"],
    "18f": ["medmcl 0.1.0"],
    "20a": ["in the table 450", "held_out 100"],
    "20b": ["age (years)", "smoking"],
    "20c": ["train"],
    "21": ["mi 290 (300 records) with 60 events", "probe on 200 subjects"],
    "22": ["f27fee411ce096a0"],
    "23a": ["mi: AUROC 0.", "death: C-index 0.", " to "],
    "23b": ["over 4 sites"],
}


def test_all_27_items_are_listed_with_every_part_in_order():
    assert [part.code for part in PARTS] == CODES
    assert list(dict.fromkeys(part.item for part in PARTS)) == list(range(1, 28))
    assert len(checklist(Evaluation(title="t")).items) == 27


def test_an_empty_report_fills_nothing():
    found = checklist(Evaluation(title="t"))
    assert [one for one in found.cited if one.value is not None] == []
    assert (found.filled, found.begun) == (0, 0)
    assert {one.shown for one in found.cited} == {TO_COMPLETE}


def test_every_filled_part_cites_values_of_the_run(report):
    filled = {one.part.code: one.value for one in checklist(report).cited if one.value is not None}
    assert filled.keys() == VALUES.keys() == CITE.keys()
    for code, values in VALUES.items():
        for value in values:
            assert value in filled[code], code


def test_an_item_counts_only_if_every_part_cites_a_value(report):
    found = checklist(report)
    for number, parts in found.items.items():
        whole = all(one.part.code in VALUES for one in parts)
        assert whole == all(one.value is not None for one in parts), number
    whole = [n for n, p in found.items.items() if all(one.part.code in VALUES for one in p)]
    assert found.filled == len(whole)
    assert 18 not in whole  # funding and conflicts are nothing a run knows
    assert f"{found.filled} of 27 items" in found.count


@pytest.mark.parametrize("code", sorted(VALUES))
def test_a_part_empties_with_what_it_cites(report, code):
    """No sentence stands without the value it is about."""
    lost = {
        "study": Study(), "provenance": {}, "flow": [], "table_one": None, "results": [],
        "evidence": [], "subgroups": [], "fitted": [], "missingness": report.missingness.iloc[:0],
    }  # fmt: skip
    assert not CITE[code](dataclasses.replace(report, **lost))
    assert any(not CITE[code](dataclasses.replace(report, **{name: lost[name]})) for name in lost)


def test_what_remains_to_be_said_stands_beside_the_value(report):
    shown = {one.part.code: one.shown for one in checklist(report).cited}
    assert shown["5a"].endswith("Still to say: why this source, and how representative it is.")
    assert shown["18a"] == TO_COMPLETE


def test_no_value_of_a_suppressed_group_is_cited(report):
    assert not any("Ålesund" in (one.value or "") for one in checklist(report).cited)


def test_groups_that_are_all_held_back_fill_nothing(report):
    """What is said of everyone is not said of groups."""
    rows = [
        row if row.attribute == "everyone" else dataclasses.replace(
            row, value=None, low=None, high=None, n=None, events=None, subjects=None,
            suppressed=True,
        )
        for row in report.subgroups
    ]  # fmt: skip
    assert any(row.value is not None for row in rows)
    assert not CITE["14"](dataclasses.replace(report, subgroups=rows))
    assert "everyone" not in CITE["14"](report)


def test_missing_data_say_what_was_done_in_this_run(report):
    assert "not imputed" not in CITE["11"](report)
    without = dataclasses.replace(report.study, gaps=())
    assert not CITE["11"](dataclasses.replace(report, study=without))


def test_outputs_are_cited_with_the_range_that_was_predicted(report):
    risk = [one.histogram for one in report.evidence if (one.task, one.method) == ("af", "ours")]
    held = [k for k, count in enumerate(risk[0].counts) if count]
    assert f"to {risk[0].edges[held[-1] + 1]:.2f}" in CITE["15"](report).split("; ")[1]


def test_numbers_cited_are_those_of_the_rows(report):
    cited = next(one.value for one in checklist(report).cited if one.part.code == "23a")
    row = next(r for r in report.results if r.task == "mi" and r.method == "ours")
    assert row.shown in cited
    assert not re.search(
        r"nan|None|inf\b", " ".join(c.value or "" for c in checklist(report).cited)
    )
