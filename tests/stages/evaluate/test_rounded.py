"""A report whose counts are rounded: nothing that leaves tells an exact count."""

import base64
import itertools
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from small_tables import WHAS, whas, write_cohort

import medmcl
from medmcl.core.suppression import Rounding
from medmcl.evaluation.report.rounded import KEPT
from medmcl.evaluation.report.table_one import TableOne
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.subjects_table import beside_training

PEOPLE = 1237
TASKS = {
    "death": {"kind": "survival", "time": "lenfol", "event": "fstat", "unit": "days",
              "horizons_years": [1, 3]},
    "shock": {"kind": "binary", "column": "shock"},
    "grade": {"kind": "multiclass", "column": "grade"},
}  # fmt: skip
COLUMNS = ["site", "shock", "grade", "gender", "fstat"]
MODELS = ("coefficients.csv", "baseline.csv")  # of the run; no part of its report


def cohort(folder):
    """Unusual counts of everything: gaps, a rare class, several sites."""
    table, risk = whas(PEOPLE)
    rng = np.random.default_rng(1)
    table["site"] = rng.choice(["north", "south", "east"], PEOPLE, p=[0.5, 0.3, 0.2])
    ill = rng.random(PEOPLE) < 1 / (1 + np.exp(-risk - rng.normal(0, 1, PEOPLE)))
    table["shock"] = np.where(rng.random(PEOPLE) < 0.07, "", ill.astype(int).astype(str))
    table["grade"] = rng.choice(["low", "mid", "high"], PEOPLE, p=[0.55, 0.44, 0.01])
    table.loc[rng.random(PEOPLE) < 0.03, "bmi"] = np.nan
    subjects = {"table": "table.csv", "id": "id", "group": "site"}
    clinic = {"reader": "table", "columns": list(WHAS)}
    return table, write_cohort(
        folder, table, subjects=subjects, tasks=TASKS, recipe="risk_table_toy",
        modalities={"clinic": clinic}, about=f"a registry of {PEOPLE:,} people",
    )  # fmt: skip


def exact_counts(table, splits):
    """Counts over 100, of all and of each split: who has a value of a column, or of two.

    Smaller ones stand in a report as numbers of other things; the next test looks at those.
    """
    parts = [np.ones(PEOPLE, bool), *(splits == one for one in ("train", "tuning", "held_out"))]
    found = set()
    for part in (*parts, parts[1] | parts[2]):
        own = table[part]
        found |= {len(own), int(own["bmi"].notna().sum())}
        for some in (own, own[own["shock"] != ""]):
            found |= {len(some), PEOPLE - len(some)}
            for pair in itertools.product(COLUMNS, COLUMNS):
                found |= {*map(int, some.groupby([*{*pair}]).size())}
    return {n for n in found if n > 100 and n % 5}


def text_of(path):
    """Text of a file as a person, or a program, reads it; of its pictures, too."""
    text = path.read_text(encoding="utf-8")
    drawn = [base64.b64decode(one).decode() for one in re.findall(r'svg\+xml;base64,([^"]*)', text)]
    labels = [label for one in drawn for label in re.findall(r"<!--(.*?)-->", one)]
    assert not drawn or labels
    page = re.sub(r"<style>.*?</style>|base64,[^\"]*|<[^>]*>", " ", text, flags=re.DOTALL)
    alt = re.findall(r'alt="([^"]*)"', text)
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", " ".join([page, *alt, *labels]))


@pytest.fixture(scope="module", autouse=True)
def images():
    """Figures are drawn here, as in tests of evaluation: their labels are read."""


@pytest.fixture(scope="module")
def rounded(tmp_path_factory, cache):
    """A run whose report is rounded, its cohort, and exact counts of that."""
    place = tmp_path_factory.mktemp("rounded")
    table, folder = cohort(place / "cohort")
    asked = {"stages.results.round_to": 5, "stages.results.bootstrap_draws": 100}
    run = medmcl.pretrain(folder, out=place / "run", device="cpu", overrides=asked)
    splits = medmcl.open_cohort(folder).subjects["split"].to_numpy()
    return run, folder, exact_counts(table, splits)


def test_no_file_of_a_rounded_report_holds_an_exact_count(rounded):
    run, _, exact = rounded
    assert len(exact) > 100
    assert PEOPLE in exact
    files = {file.name: text_of(file)
             for form in ("*.html", "*.csv", "*.md", "report.json", "table_one.json")
             for file in run.path.glob(form) if file.name not in MODELS}  # fmt: skip
    assert {"appendix.html", "model_card.md", "risk_groups.csv", "table_one.json"} <= {*files}
    for name, text in files.items():
        numbers = {int(n) for n in re.findall(r"(?<![\w.#-])\d+(?![\w.%])", text)}
        assert not numbers & exact, (name, numbers & exact)
    assert files["report.html"].count("Counts are rounded to 5: ") == 1
    assert "findings of the checks are not shown" in files["report.html"]
    assert "registry of 1235 people" in files["model_card.md"]


def test_every_whole_number_of_its_json_and_every_count_of_its_csv_files_is_a_multiple(rounded):
    run, *_ = rounded
    told = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    seen = set()

    def walk(value, name=""):
        if isinstance(value, dict):
            for key, one in value.items():
                if key not in KEPT:
                    walk(one, key)
        elif isinstance(value, list):
            for one in value:
                walk(one, name)
        elif isinstance(value, int) and not isinstance(value, bool):
            seen.add(name)
            assert value % 5 == 0, (name, value)

    walk(told)
    assert not told["findings"]
    assert {"n", "subjects", "events", "train_subjects", "count", "samples"} <= seen
    for file in run.path.glob("*.csv"):
        table = pd.read_csv(file, dtype=str)
        for name in {*seen, "rows", "at_risk"} & {*table}:
            odd = [one for one in table[name].dropna() if one != "<8" and float(one) % 5]
            assert not odd, (file.name, name)


def test_training_people_stand_beside_others_only_if_their_counts_are_rounded(rounded, tmp_path):
    run, *_ = rounded
    kept = run.tree("table_one")
    here = replace(TableOne.read(kept), splits=("scored",))
    kept["rows"][0]["cells"][0]["count"] = 891
    other = SimpleNamespace(path=tmp_path, tree=lambda *_: kept)
    assert beside_training(run, here, Rounding(to=5)).splits == ("training", "scored")
    alone = beside_training(other, here, Rounding(to=5))
    assert alone.splits == ("scored",)
    assert "no rounded table" in alone.notes[-1]
    assert beside_training(other, here, None).splits == ("training", "scored")


@pytest.mark.parametrize(
    ("given", "said"),
    [({"round_to": 3}, "round_to"), ({"fewest": 11}, "fewest"), ({"round_to": 0}, "round_to")],
)
def test_a_rule_that_hides_nobody_is_refused_by_name(given, said):
    with pytest.raises(ValidationError, match=said):
        EvaluateSpec(stage="evaluate", covariates="clinic", **given)
