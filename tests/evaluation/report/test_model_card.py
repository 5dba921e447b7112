from __future__ import annotations

import dataclasses
import re

import yaml
from made_report import result_rows

from medmcl.evaluation.aspects.tasks.answers import for_whom
from medmcl.evaluation.aspects.tasks.result_figures import task_forest
from medmcl.evaluation.models.strength import ALIKE
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import FittedOn, SubgroupRow
from medmcl.evaluation.protocol.subgroups import COUNTS_WITHHELD, TOO_SMALL, WITHHELD
from medmcl.evaluation.report.model_card import COMPLETE, model_card
from medmcl.evaluation.report.sections import headline
from medmcl.evaluation.report.study import Study


def section(card, title):
    return next(part for part in card.sections if part.title == title)


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_of_nothing_says_what_is_missing_and_claims_nothing():
    card = model_card(Evaluation(title="t"))
    assert section(card, "Performance").lines == ("Nothing was evaluated.",)
    assert section(card, "Calibration").lines == ("Not assessed.",)
    assert any(COMPLETE in line for line in section(card, "Intended use").lines)
    assert "Source: not stated." in section(card, "Training data").lines
    assert len(section(card, "What is not known").lines) >= 9
    assert front(card.markdown()) == {"library_name": "medmcl"}


def test_a_full_card_holds_the_values_of_the_run(report):
    text = model_card(report).markdown()
    row = next(r for r in report.results if r.task == "mi" and r.method == "ours")
    assert row.shown in text
    found = front(text)
    results = found["model-index"][0]["results"]
    assert results[0]["metrics"][0] == {"type": "auroc", "value": row.value}
    assert [one["task"]["name"] for one in results] == ["mi", "af", "death"]
    assert "a made cohort" in text
    assert "train 200, tuning 100, held_out 100" in text
    slope = str(report.evidence[0].calibration.slope)
    assert slope in text


def test_the_card_is_about_the_highlighted_method(report):
    card = model_card(dataclasses.replace(report, highlight="covariates"))
    assert {row[2] for row in section(card, "Performance").rows} == {"covariates"}


def test_a_model_of_nothing_has_no_number_on_the_card_and_the_doubt_of_page_one(report):
    rows = [
        dataclasses.replace(row, note=ALIKE) if row.task == "mi" and row.method == "ours" else row
        for row in report.results
    ]
    data = dataclasses.replace(report, results=rows)
    card = model_card(data)
    performance = section(card, "Performance")
    (line,) = [one.text for one in headline(data) if ALIKE in one.text]
    assert f"In doubt: {line}" in performance.lines
    value = {row[0]: row[6] for row in performance.rows}
    assert value["mi"] == "not claimed: nearly the same prediction for everyone"
    assert re.match(r"0\.\d", value["af"])
    results = front(card.markdown())["model-index"][0]["results"]
    assert [one["task"]["name"] for one in results] == ["af", "death"]
    assert not section(model_card(report), "Performance").lines


def test_suppressed_groups_hold_no_number(report):
    rows = [r for r in section(model_card(report), "Subgroups").rows if r[3] == "Ålesund"]
    assert rows
    assert all(row[4:] == ("too few subjects to show", "-", "-") for row in rows)
    assert any("Ålesund" in line for line in section(model_card(report), "Limits").lines)


def test_a_group_that_is_withheld_or_shown_without_counts_is_not_called_small(report):
    men = SubgroupRow(task="mi", target="mi", method="ours", metric="auroc", direction="higher",
                      attribute="sex", group="m", value=0.71, note=COUNTS_WITHHELD)  # fmt: skip
    slope = dataclasses.replace(
        men, metric="calibration_slope", value=None, suppressed=True, note=WITHHELD
    )
    women = dataclasses.replace(slope, metric="auroc", group="f", note=TOO_SMALL)
    old = dataclasses.replace(slope, attribute="age", group=">=70")
    card = model_card(dataclasses.replace(report, subgroups=[men, slope, women, old]))
    lines = section(card, "Limits").lines
    why = ", so that a smaller one cannot be told by subtraction"
    assert "Groups too small to show: sex f." in lines
    assert f"Groups withheld{why}: age >=70." in lines
    assert f"Groups shown without counts{why}: sex m." in lines
    assert [row[4:] for row in section(card, "Subgroups").rows] == [
        ("0.710", "-", "-"), ("withheld", "-", "-"), ("too few subjects to show", "-", "-"),
        ("withheld", "-", "-"),
    ]  # fmt: skip
    told = for_whom(dataclasses.replace(report, subgroups=[men, women]))[0].text
    assert "by sex: 1 group too small to show; 1 group shown without counts, so" in told
    counted = dataclasses.replace(men, low=0.6, high=0.82, n=80, events=30, subjects=80)
    few = dataclasses.replace(counted, group="x", value=0.38, events=9)
    told = for_whom(dataclasses.replace(report, subgroups=[counted, few]))[0].text
    why = "1 group not named: fewer than 10 people decide, or there is no interval."
    assert told.endswith(f"by sex: 0.710 (0.600 to 0.820) (sex m, 80 people); {why}")
    high = dataclasses.replace(few, value=0.9, events=70)
    told = for_whom(dataclasses.replace(report, subgroups=[counted, high]))[0].text
    assert " to 0.900 (0.600 to 0.820) (sex x, 80 people)." in told


def test_card_and_page_say_the_same_of_events_of_several_targets(report):
    whole, *own = result_rows(["rhythm"], ["ours"], "multilabel", ("auroc",),
                              targets=("macro", "lbbb", "avb"))  # fmt: skip
    rare = dataclasses.replace(own[1], events=38)
    rows = [dataclasses.replace(whole, events=98), own[0], rare]
    data = dataclasses.replace(report, results=rows, subgroups=[], evidence=[])
    card = model_card(data)
    assert [row[-1] for row in section(card, "Performance").rows] == ["98 over targets"]
    assert "Fewer than 100 decide: rhythm (38 events of avb)." in section(card, "Limits").lines
    assert "98 over targets" in task_forest(rows).rows[0]
    assert "Few people decide: rhythm (38 events of avb)." in " ".join(map(str, headline(data)))


def test_a_peek_at_held_out_is_a_limit(report):
    peek = FittedOn(what="threshold", splits=("tuning", "held_out"))
    peeked = dataclasses.replace(report, fitted=[peek])
    line = "Something was fitted on held_out: its results are no test."
    assert line in section(model_card(peeked), "Limits").lines
    assert line not in section(model_card(report), "Limits").lines


def test_few_events_and_one_cohort_are_limits(report):
    lines = " ".join(section(model_card(report), "Limits").lines)
    assert "Fewer than 100 decide: mi (60 events)" in lines
    assert "not elsewhere" in lines
    elsewhere = dataclasses.replace(report, study=Study(external=True))
    assert "not elsewhere" not in " ".join(section(model_card(elsewhere), "Limits").lines)


def test_limits_say_that_folds_scored_everybody_out_of_fold(report):
    rows = [dataclasses.replace(row, split="cross-validation") for row in report.results]
    lines = " ".join(section(model_card(dataclasses.replace(report, results=rows)), "Limits").lines)
    assert "Scored out of fold, each by a fit without them, in the cohort" in lines
    assert "held-out" not in lines
    parts = model_card(dataclasses.replace(report, results=rows, table_one=None))
    assert "How the splits compare." not in section(parts, "What is not known").lines


def test_the_card_of_another_cohort_keeps_training_and_scored_data_apart(report):
    facts = {**report.provenance, "scored cohort": "there"}
    study = dataclasses.replace(report.study, external=True)
    card = model_card(dataclasses.replace(report, provenance=facts, study=study))
    results = front(card.markdown())["model-index"][0]["results"]
    assert {one["dataset"]["name"] for one in results} == {"there"}
    trained = " ".join(section(card, "Training data").lines)
    assert "Cohort: demo (fingerprint cb3de9c0a8fff9d5)." in trained
    assert "held_out" not in trained
    assert "a made cohort" not in trained
    scored = section(card, "Evaluation data").lines
    assert "Cohort: there." in scored
    assert "Subjects: train 200, tuning 100, held_out 100." in scored
    assert (
        "When the records it was trained on were made." in section(card, "What is not known").lines
    )
    assert "Evaluation data" not in {part.title for part in model_card(report).sections}


def test_text_of_users_does_not_become_markdown_or_html():
    evil = "# head\n| a | <b>x</b> [l](u) `c`"
    text = model_card(Evaluation(title=evil, study=Study(about=evil))).markdown()
    assert "\n# head" not in text.split("---\n")[2].replace("# Model card", "", 1)
    assert "<b>" not in text.replace("\\<b", "")
    assert "\\| a \\|" in text
