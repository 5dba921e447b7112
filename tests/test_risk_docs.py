"""The commands of docs/risk_from_a_table.md, as they stand there, one after the other."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typed import typed

from medmcl.stages.recipe.inspect import check

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "risk_from_a_table.md").read_text("utf-8")
FEW = {
    "pretrain": ["--set", "stages.results.bootstrap_draws=100", "--device", "cpu"],
    "evaluate": ["--set", "evaluate.bootstrap_draws=100", "--device", "cpu"],
}
OUTCOMES = ["days", "died"]


def commands():
    """Every command of the page: words after ``medmcl``."""
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    lines = [line for language, text in fence.findall(PAGE) if not language
             for line in text.splitlines()]  # fmt: skip
    lines += re.findall(r"`(medmcl [^`]*--[^`]+)`", fence.sub("", PAGE))
    return [shlex.split(line, comments=True)[1:] for line in lines]


def vectors(table, seed):
    """An encoder of somebody's: a number that knows the age, beside noise."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"id": table["id"], "e0": table["age"] + rng.normal(0, 5, len(table)),
                         "e1": rng.normal(size=len(table))})  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The cohorts and files that the page names, made as it makes its own; its commands are run."""
    folder = tmp_path_factory.mktemp("page")
    (block,) = re.findall(r"```python\n(from pathlib.*?)^study = ", PAGE, re.MULTILINE | re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MEDMCL_CACHE", str(folder / "cache"))
        made = {"__name__": "__docs__"}
        exec(block, made)
        study, there = made["patients"](200, "a"), made["patients"](120, "b")
        made["cohort"]("study", study)
        made["cohort"]("another_hospital", there)
        made["cohort"]("new_patients", made["patients"](6, "c").drop(columns=OUTCOMES))
        vectors(study, 0).to_parquet("ecg_model.parquet")
        vectors(study, 1).to_csv("other_model.csv", index=False)
        vectors(there, 2).to_parquet("there.parquet")
        vectors(there, 3).to_csv("other_there.csv", index=False)
        said = {" ".join(words): typed(*words, *FEW.get(words[0], ())) for words in commands()}
    return folder, said


def test_every_command_of_the_page_does_what_it_says(place):
    folder, said = place
    assert len(said) >= 8
    assert set(said.values()) == {0}, said
    assert {"fractions", "stratified", "runs", "risks.csv", "risks.curves.csv"} <= {
        one.name for one in folder.iterdir()
    }
    assert pd.read_csv(folder / "risks.csv")["quality"].eq("ok").all()


def test_the_report_warns_of_what_check_warned_of(place):
    folder, _ = place
    warned = {one.code for one in check(folder / "study", recipe="risk_table")}
    assert "cohort.few_held_out" in warned
    told = json.loads((folder / "runs" / "risk" / "report.json").read_text("utf-8"))
    assert {one["code"] for one in told["findings"]} == warned
    assert "cohort.few_held_out: 1" in (folder / "runs" / "risk" / "report.html").read_text("utf-8")
    beside = (
        folder / "runs" / "risk" / "evaluation-another_hospital"
    )  # no split: all 120 are scored
    told = json.loads((beside / "report.json").read_text("utf-8"))
    assert "few_held_out" not in {one["code"] for one in told["findings"]}


def test_several_files_of_vectors_are_paired_differences(place):
    folder, _ = place
    rows = pd.read_csv(folder / "runs" / "vectors" / "results.csv")
    rows = rows[rows["metric"] == "c_index"]
    alone = rows[rows["versus"].isna()].set_index("method")["value"]
    (between,) = rows[(rows["method"] == "other_model") & (rows["versus"] == "ecg_model")].to_dict(
        "records"
    )
    assert between["value"] == pytest.approx(alone["other_model"] - alone["ecg_model"])
    assert between["low"] < between["value"] < between["high"]


def test_one_file_of_vectors_is_scored_alone(place, monkeypatch, capsys):
    folder, _ = place
    monkeypatch.chdir(folder)
    words = ["--embeddings", "ecg_model.parquet", "--cohort", "study", "--out", "runs/one"]
    assert not typed("evaluate", *words, *FEW["evaluate"])
    assert "of 200 people have a vector of 'ecg_model'" in capsys.readouterr().out
    rows = pd.read_csv("runs/one/results.csv")
    assert {"ecg_model", "covariates", "Kaplan-Meier"} <= set(rows["method"])
    both = pd.read_csv("runs/vectors/results.csv")
    keys = ["method", "metric", "label_fraction"]
    ours, theirs = (
        one[(one["method"] == "ecg_model") & one["versus"].isna()].set_index(keys)["value"]
        for one in (rows, both)
    )
    pd.testing.assert_series_equal(ours, theirs.reindex(ours.index))


def test_check_says_what_people_without_outcomes_are_fit_for(place, monkeypatch, capsys):
    folder, _ = place
    monkeypatch.chdir(folder)
    assert typed("check", "--cohort", "new_patients") == 2
    assert "only outcomes are at fault, and `medmcl predict RUN` reads none" in (
        capsys.readouterr().out
    )
    assert not typed("check", "--cohort", "new_patients", "--predict", "runs/risk")
    told = capsys.readouterr().out
    assert "clinic records       6\n" in told
    assert told.endswith("0 errors, 0 warnings\n")
    table = pd.read_csv(folder / "new_patients" / "patients.csv")
    (folder / "recoded").mkdir()
    text = (folder / "new_patients" / "cohort.yaml").read_text("utf-8")
    (folder / "recoded" / "cohort.yaml").write_text(text, "utf-8")
    for sex, code in ((table["sex"].str.upper(), 2), (table["sex"].where(table.index > 0, "x"), 0)):
        table.assign(sex=sex).to_csv(folder / "recoded" / "patients.csv", index=False)
        assert typed("check", "--cohort", "recoded", "--predict", "runs/risk") == code
        told = capsys.readouterr().out
        assert "have a category that training had not" in told
        assert "to fix: recode sex as in training ('f', 'm')" in told
    assert typed("evaluate", "runs/risk", "--cohort", "new_patients", "--out", "none") == 2
    assert "people without outcomes are predicted: medmcl predict RUN" in capsys.readouterr().err
    assert typed("check", "--cohort", "recoded", "--predict", "runs/risk", "--top", "3") == 2
    assert "means nothing without --screen" in capsys.readouterr().err
    for beside in ("--recipe", "--screen"):
        words = ("--cohort", "recoded", "--predict", "runs/risk", beside, "risk_table")
        assert typed("check", *words) == 2
        assert "means nothing with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("label_fraction=[0.5]", "'evaluate.label_fractions=[0.5]'"),
     ("resample=sites", "evaluate.resample=site")],
)  # fmt: skip
def test_a_slip_in_a_setting_names_the_nearest(place, monkeypatch, capsys, slip, meant):
    monkeypatch.chdir(place[0])
    words = ["runs/risk", "--cohort", "study", "--out", "slips", "--set", f"evaluate.{slip}"]
    assert typed("evaluate", *words) == 2
    assert f"to fix:   write --set {meant}" in capsys.readouterr().err
