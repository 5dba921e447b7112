from __future__ import annotations

import csv
import dataclasses
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from changed_files import rewrite
from read_pages import both_pages, check_pages
from small_omics import write_omics, write_recipe

import medmcl
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.evaluation.aspects.maps.aspect import MapSpec
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.report.cards import SINGLE_PEOPLE
from medmcl.stages.poison.command import poison
from medmcl.stages.run.report import write_evaluation_report, write_run_report
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import stage_sentence, study_of
from medmcl.stages.run.subjects_table import MOST_OUTCOMES, describe_subjects
from medmcl.stages.select.spec import SelectSpec

CLOUD = "Embeddings in the plane coloured by outcome"
PIXELS = r'<img[^>]*src="data:image/(?!svg)[^>]*alt="([^"]*)"'


@pytest.fixture
def clinic(tmp_path):
    """Tables only: several dated visits a subject, sites, and outcomes of each kind."""
    rng = np.random.default_rng(0)
    n = 90
    people = pd.DataFrame({
        "id": [f"p{k}" for k in range(n)],
        "Age": rng.normal(60, 8, n).round(1),
        "gender": rng.choice(["F", "M"], n),
        "centre": rng.choice(["Ålesund", "Łódź"], n),
        "fold": np.repeat(["train", "tuning", "held_out"], 30),
        "consent": [0] * 3 + [1] * (n - 3),
        "mi": rng.integers(0, 2, n),
        "days": rng.integers(10, 900, n), "dead": rng.integers(0, 2, n),
        "ef": rng.normal(55, 6, n), "grade": rng.choice(["low", "mid", "high"], n),
        "a": rng.integers(0, 2, n), "b": rng.integers(0, 2, n),
    })  # fmt: skip
    people.loc[10:16, "Age"] = np.nan
    people.to_csv(tmp_path / "people.csv", index=False)
    visits = pd.DataFrame({
        "id": np.repeat(people["id"], 2), "visit": [f"v{k}" for k in range(2 * n)],
        "when": pd.date_range("2011-03-05", periods=2 * n, freq="D").strftime("%Y-%m-%d"),
        "bmi": np.tile([25.0, 99.0], n), "smoker": np.tile(["yes", "no"], n),
    })  # fmt: skip
    visits.to_csv(tmp_path / "visits.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1", "about": "two clinics",
        "subjects": {"table": "people.csv", "id": "id", "split": "fold", "group": "centre",
                     "where": "consent == 1"},
        "modalities": {"labs": {"reader": "table", "table": "visits.csv", "record": "visit",
                                "date": "when",
                                "columns": {"bmi": {"kind": "number", "unit": "kg/m2"},
                                            "smoker": "category"}}},
        "tasks": {"mi": {"kind": "binary", "column": "mi == 1", "about": "by code"},
                  "death": {"kind": "survival", "time": "days", "event": "dead",
                            "horizons_years": [1]},
                  "ef": {"kind": "regression", "columns": {"EF": "ef"}, "unit": "%"},
                  "grade": {"kind": "multiclass", "column": "grade"},
                  "labels": {"kind": "multilabel", "columns": ["a", "b"]}},
    }  # fmt: skip
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return open_cohort(tmp_path)


def prepared_of(cohort, tmp_path, splits="all"):
    return prepare(cohort, {"labs": {}}, cache=tmp_path / "cache", splits=splits)


def lines(table, variable):
    return {row.level or row.statistic: row for row in table.rows if row.variable == variable}


def test_table_one_reads_the_cohorts_own_columns(clinic, tmp_path):
    tasks = list(clinic.spec.tasks)
    table = describe_subjects(prepared_of(clinic, tmp_path), tasks)
    assert table.splits == ("train", "tuning", "held_out")
    names = list(dict.fromkeys(row.variable for row in table.rows))
    assert names == [
        "subjects", "Age", "gender", "bmi (kg/m2)", "smoker", "site", "mi", "death: time (days)",
        "death: event", "ef (%)", "grade", "labels: a", "labels: b",
    ]  # fmt: skip
    assert [cell.count for cell in table.rows[0].cells] == [27, 30, 30]
    people = pd.read_csv(clinic.root / "people.csv").iloc[3:]
    train = people[people["fold"] == "train"]
    age = lines(table, "Age")
    assert age["mean (SD)"].cells[0].mean == pytest.approx(train["Age"].mean(), abs=0.051)
    assert age["missing"].cells[0].count == 7
    assert lines(table, "gender")["F"].cells[0].count == (train["gender"] == "F").sum()
    assert lines(table, "mi")["yes"].cells[2].count == people[60 - 3 :]["mi"].sum()
    assert lines(table, "site")["Łódź"].cells[1].count == (
        people[people["fold"] == "tuning"]["centre"] == "Łódź"
    ).sum()  # fmt: skip


def test_who_lacks_an_event_is_said_to_be_missing_in_both(clinic, tmp_path, monkeypatch):
    prepared = prepared_of(clinic, tmp_path)
    said = "Who lacks the time or the event of an outcome counts as missing in both."
    task = prepared.tasks("death")
    assert (said in describe_subjects(prepared, ["death"]).notes) == (not task.known.all())
    known = task.known.copy()
    known[:8] = False
    lacking = dataclasses.replace(task, known=known, values=np.where(known, task.values, 0.0))
    monkeypatch.setattr(type(prepared), "tasks", lambda self, name: lacking)
    assert said in describe_subjects(prepared, ["death"]).notes


def test_who_has_an_event_at_any_visit_is_counted_with_it(clinic, tmp_path, monkeypatch):
    prepared = prepared_of(clinic, tmp_path)
    task = prepared.tasks("death")
    event, values = task.columns.index("event"), task.values.copy()
    values[:, event] = np.arange(len(values)) % 4 == 3  # of every other person, at the second visit
    later = dataclasses.replace(task, values=values)
    monkeypatch.setattr(type(prepared), "tasks", lambda self, name: later)
    row = lines(describe_subjects(prepared, ["death"]), "death: event")["yes"]
    held = prepared.splits == "held_out"
    assert row.cells[2].count == len(set(prepared.subjects[held & (values[:, event] > 0)])) == 15


def renamed(clinic, tmp_path, columns):
    """The clinic with more columns in its table of visits, each twice."""
    twice = {name: np.repeat(values, 2) for name, values in columns.items()}
    rewrite(tmp_path / "visits.csv", lambda visits: visits.assign(**twice))
    kinds = {"AGE_AT_SCAN": "number", "Gender": "category"}
    more = {name: kinds[name] for name in columns}
    rewrite(tmp_path / "cohort.yaml", lambda t: t["modalities"]["labs"]["columns"].update(more))
    return describe_subjects(prepared_of(open_cohort(tmp_path), tmp_path), [])


def test_what_two_tables_tell_alike_stands_once_with_a_count(clinic, tmp_path):
    people = pd.read_csv(tmp_path / "people.csv")
    same = {"AGE_AT_SCAN": people["Age"].to_numpy(), "Gender": people["gender"].to_numpy()}
    table = renamed(clinic, tmp_path, same)
    names = list(dict.fromkeys(row.variable for row in table.rows))
    assert names == ["subjects", "Gender", "bmi (kg/m2)", "smoker", "AGE_AT_SCAN", "site"]
    assert "Age of subjects equals AGE_AT_SCAN of labs in all 87 subjects: shown once." in (
        table.notes
    )
    assert "gender of subjects equals Gender of labs in all 87 subjects: shown once." in table.notes


def test_what_two_tables_tell_otherwise_stands_twice_with_their_names(clinic, tmp_path):
    people = pd.read_csv(tmp_path / "people.csv")
    coded = people["gender"].map({"F": "1", "M": "2"}).to_numpy()
    older = (people["Age"] + 1).to_numpy()
    table = renamed(clinic, tmp_path, {"Gender": coded, "AGE_AT_SCAN": older})
    names = list(dict.fromkeys(row.variable for row in table.rows))
    assert names == [
        "subjects", "Age", "gender, subjects", "Gender, labs", "bmi (kg/m2)", "smoker",
        "AGE_AT_SCAN", "site",
    ]  # fmt: skip
    assert not any("shown once" in note for note in table.notes)


def test_a_subject_with_several_samples_counts_once_by_its_first(clinic, tmp_path):
    prepared = prepared_of(clinic, tmp_path)
    assert len(prepared.samples) == 174
    table = describe_subjects(prepared, [])
    assert lines(table, "bmi (kg/m2)")["mean (SD)"].cells[0].mean == 25
    assert lines(table, "smoker")["yes"].cells[0].count == 27
    assert any(one.startswith("Subjects with several samples") for one in table.notes)


def test_table_one_leaves_held_out_shut_where_it_is_shut(clinic, tmp_path):
    table = describe_subjects(prepared_of(clinic, tmp_path, ("train", "tuning")), ["mi"])
    assert table.splits == ("train", "tuning")


def test_many_outcomes_are_described_in_part_with_a_count(clinic, tmp_path):
    prepared = prepared_of(clinic, tmp_path)
    table = describe_subjects(prepared, ["labels"] * 20)
    assert f"{40 - MOST_OUTCOMES} more outcome columns are not described." in table.notes


def test_the_study_is_what_the_files_state(clinic, trained):
    study = study_of(trained, clinic, ["mi", "death", "labels"])
    assert study.about == "two clinics"
    assert (study.first_date, study.last_date) == ("2011-03", "2011-08")
    assert study.sites == 2
    assert study.eligibility == ("subjects for whom consent == 1",)
    assert study.split_rule == "by subject, as the column fold says"
    assert study.external
    assert study.predictors == ()  # the run reads nothing that this cohort has
    shown = [outcome.shown for outcome in study.outcomes]
    assert shown[0] == "mi (binary) from mi == 1"
    assert shown[1] == "death (survival, in days, judged at 1 years) from time days, event dead"
    assert shown[2] == "labels (multilabel) from a, b"


def test_the_study_of_a_run_names_its_parts(hearts, trained):
    cohort = open_cohort(hearts)
    study = study_of(trained, cohort, ["lvef"])
    assert not study.external
    ecg = next(one for one in study.predictors if one.name == "ecg")
    assert "rate_hz 100" in ecg.source
    assert "seconds 5" in ecg.preparation
    assert study.towers["ecg"].startswith("ecg_vit (patch 25")
    assert study.training[0].startswith("Stage mdm:")
    assert study.training[-1] == "2 stages fine-tuned with labels."
    assert study.outcomes[0].definition == "LVEF = lv_ef"


def test_a_random_split_says_its_shares(hearts, trained):
    split = {"random": {"seed": 3, "tuning": 0.2, "held_out": 0.3}}
    cohort = open_cohort(hearts, {"subjects.split": split})
    assert study_of(trained, cohort, []).split_rule == (
        "by subject, at random (20% tuning, 30% held_out, seed 3)"
    )


def test_a_stage_sentence_says_what_was_left_out():
    fact = {
        "stage": "s", "rows": 10, "subjects": 9, "steps": 5, "batch_size": 4, "best_step": 3,
        "best_tuning_loss": 1.0, "skipped_steps": 2, "tuning_left_out": 1, "parameters": 2e6,
        "seconds": 1.0,
    }  # fmt: skip
    said = stage_sentence(fact)
    assert "(1 of the tuning split left out of its batches)" in said
    assert "2 steps skipped" in said
    assert said.endswith("2.00 M parameters; 1 s, 0% of them waiting for rows.")
    waited = stage_sentence({**fact, "data_wait_seconds": 0.25})
    assert waited.endswith("; 1 s, 25% of them waiting for rows.")
    assert "no tuning loss" in stage_sentence({**fact, "best_tuning_loss": None})
    early = {**fact, "steps": 600, "best_step": 10, "best_tuning_loss": 2.0}
    for last, is_told in ((2.1, False), (3.5, True), (None, False)):
        told = stage_sentence({**early, "last_tuning_loss": last})
        line = "Tuning loss was best at step 10 of 600 (2) and 3.5 at the end: the stage overfits"
        assert (line in told) is is_told
        assert ("overfits" in told) is is_told
    late = {**early, "best_step": 400, "last_tuning_loss": 3.5}
    assert "overfits" not in stage_sentence(late)


def test_pixels_of_participants_are_shown_where_they_are_asked_for(trained, hearts, tmp_path):
    pages = {}
    for asked in (False, True):
        out = tmp_path / f"{asked}"
        medmcl.evaluate(
            trained.path, hearts, tasks=["infarct"], out=out, device="cpu",
            overrides={"evaluate.maps.pixels": asked},
        )  # fmt: skip
        pages[asked] = both_pages(out)
        assert (out / "cosine_maps.csv").exists() is asked

    def rasters(page):
        """What pictures of pixels show, in words; figures of numbers are drawn as lines."""
        return {alt.split(".")[0].split(":")[0] for alt in re.findall(PIXELS, page)}

    for page in (both_pages(trained.path), pages[False]):
        assert rasters(page) == {CLOUD}
        assert SINGLE_PEOPLE not in page
    assert rasters(pages[True]) == {CLOUD, "Images with cosine maps"}
    assert SINGLE_PEOPLE in pages[True]


def test_the_report_of_a_run_holds_study_table_and_files(trained):
    first, html = check_pages(trained.path)
    found = json.loads((trained.path / "report.json").read_text(encoding="utf-8"))
    assert "The subjects of each split" in first + html
    assert "maps left out: they show images of single people" in html
    assert not (trained.path / "cosine_maps.csv").exists()
    assert found["study"]["about"].startswith("simulated hearts")
    assert {row["variable"] for row in found["table_one"]} >= {"age (years)", "sex", "site"}
    flow = {row["step"]: row["subjects"] for row in found["flow"]}
    totals = {r["split"]: r["count"] for r in found["table_one"] if r["variable"] == "subjects"}
    assert totals == {name: flow[name] for name in ("train", "tuning", "held_out")}
    cited = {row["item"]: row["from_this_run"] for row in found["checklist"]}
    assert "simulated hearts" in cited["5a"]
    assert found["provenance"]["config_hash"] in cited["22"]
    for name in ("results", "table_one", "flow", "missingness", "training", "checklist"):
        assert (trained.path / f"{name}.csv").is_file()
    assert (trained.path / "model_card.md").read_text(encoding="utf-8").startswith("---\n")


def test_compared_runs_are_named_with_their_hashes(trained, hearts, tmp_path):
    evaluation = medmcl.evaluate(
        trained, hearts, tasks=["lvef"], label_fractions=[1.0], compare=[trained.path],
        out=tmp_path / "scored", device="cpu",
    )  # fmt: skip
    assert [*evaluation.compared] == [trained.path.name]
    with (tmp_path / "scored" / "compared_runs.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    provenance = json.loads((trained.path / "provenance.json").read_text(encoding="utf-8"))
    assert row["config_hash"] == provenance["config_hash"]
    html = both_pages(tmp_path / "scored")
    assert "Runs set beside this one" in html


def test_evidence_of_several_evaluations_is_joined(trained, hearts, tmp_path):
    cohort = open_cohort(hearts)
    prepared = Run(trained.path).prepare(cohort, ("ecg",))
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "provenance.json", "preprocessing.json", "tasks.json"):
        (folder / name).write_bytes((trained.path / name).read_bytes())
    lines_ = [FittedOn(what=name, splits=("train",)) for name in ("first", "second")]
    made = [Evaluation(folder=folder, prepared=prepared, fitted=[line])
            for line in lines_]  # fmt: skip
    write_run_report(Run(folder), cohort, prepared, [], made)
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [row["what"] for row in found["fitted_on"]] == ["first", "second"]


def test_a_run_without_evaluation_or_outcomes_still_has_a_report(trained, hearts, tmp_path):
    cohort = open_cohort(hearts, {f"tasks.{name}": None for name in open_cohort(hearts).spec.tasks})
    prepared = dataclasses.replace(
        Run(trained.path).prepare(cohort, ("ecg",)), opened=("train", "tuning")
    )
    evaluation = Evaluation(folder=tmp_path, prepared=prepared)
    write_evaluation_report(trained, cohort, evaluation)
    html = re.sub(r"base64,[^\"]*", "", both_pages(tmp_path))
    assert 'id="results"' not in html
    assert "<td" in html
    assert not re.search(r">(nan|None)<", html)


def test_the_report_says_what_training_and_evaluation_took(trained, hearts, tmp_path):
    done = [json.loads(path.read_text()) for path in trained.path.rglob("done.json")]
    assert done
    found = json.loads((trained.path / "report.json").read_text(encoding="utf-8"))
    seconds = found["study"]["seconds"]
    assert seconds["training"] == pytest.approx(sum(one["seconds"] for one in done), abs=1e-3)
    assert seconds["evaluation"] > 0
    assert 0 < seconds["data_wait"] < seconds["training"]
    said = re.compile(r"Training took [\d.]+ s, the stages added up,[^;]*; evaluation [\d.]+ s")
    assert sum(bool(said.match(note)) for note in found["notes"]) == 1
    assert said.search(both_pages(trained.path))
    cohort = open_cohort(hearts)
    empty = Evaluation(folder=tmp_path, prepared=Run(trained.path).prepare(cohort, ("ecg",)))
    write_evaluation_report(trained, cohort, empty)
    notes = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["notes"]
    assert not any(said.match(note) for note in notes)


def test_a_stage_that_overfits_says_so_when_it_ends(tmp_path, caplog, monkeypatch):
    """What makes it so is tried above; here that it is asked, and told on the terminal."""
    asked = []
    told = "Tuning loss was best at step 1 of 2: the stage overfits."
    monkeypatch.setattr(
        "medmcl.stages.run.study.overfitting", lambda fact: asked.append(dict(fact)) or told
    )
    with caplog.at_level("INFO"):
        medmcl.pretrain(
            write_omics(tmp_path / "omics", 60), recipe=write_recipe(tmp_path / "recipe.yaml"),
            out=tmp_path / "run", device="cpu",
            overrides={"stages.align.steps": 2, "stages.align.keep": "last"},
        )  # fmt: skip
    assert f"warning: align: {told} The last step is kept." in caplog.text
    assert asked[0]["steps"] == 2
    assert {"best_step", "best_tuning_loss", "last_tuning_loss"} <= set(asked[0])


def test_a_run_that_loses_cases_to_excluded_records_says_so_by_outcome(tmp_path, caplog):
    folder = write_omics(tmp_path / "omics", 120)
    people = pd.read_csv(folder / "people.csv")
    learned = people[people["split"] != "held_out"]
    lost = learned[learned["case"] == 1]["pid"].iloc[5:23]

    def spoil(table):
        table.loc[table["pid"].isin(lost), "r_2"] = "12;4"

    rewrite(folder / "rna.csv", spoil, dtype=object)
    recipe = write_recipe(tmp_path / "recipe.yaml", tasks=["case"], baselines=["majority"])
    overrides = {"cohort.on_bad_record": "exclude", "stages.align.steps": 1}
    with caplog.at_level("INFO", "medmcl"):
        run = medmcl.pretrain(
            folder, recipe=recipe, out=tmp_path / "run", overrides=overrides, device="cpu"
        )
    had = learned[learned["pid"].isin(pd.read_csv(folder / "rna.csv")["pid"])]["case"]
    counts = f"{len(lost)} of {had.sum()} with case, 0 of {(had == 0).sum()} without"
    first, warned = (line for line in caplog.messages if counts in line)
    assert first.startswith(f"people whose rna was excluded: {counts}; ")
    assert warned.startswith("warning: who lost every rna record")
    found = json.loads((run.path / "report.json").read_text(encoding="utf-8"))["findings"]
    (one,) = [one for one in found if (one["code"], one["task"]) == ("task.lost_cases", "case")]
    assert one["level"] == "warning"
    assert f"{len(lost)} of " in one["what"]


def test_no_record_of_a_person_is_on_a_page_that_nobody_asked_for_it(trained, hearts):
    """Neither pixels nor traces nor cells nor words; what shows some says whom it asks."""
    html = both_pages(trained.path)
    for shown in ('class="photo', 'class="trace', '<p class="words">', 'class="card-of'):
        assert shown not in html
    table = pd.read_csv(hearts / "participants.tsv", sep="\t")
    html = re.sub(r"base64,[^\"]*", "", html)
    assert not [text for text in set(table["report"]) if text in html]
    home = Path(medmcl.__file__).parent
    draws = {
        path.relative_to(home).as_posix()
        for path in home.rglob("*.py")
        if re.search(
            r"(?<!class )\bCard\(|\b(image|signal)_src\(|map_picture\(", path.read_text("utf-8")
        )
    }
    assert draws == {
        "evaluation/report/cards.py",
        "evaluation/aspects/maps/figures.py",
        "stages/select/report.py", "stages/poison/command.py", "stages/screen/screen.py",
    }  # fmt: skip
    assert not MapSpec.model_fields["pixels"].default
    assert SelectSpec.model_fields["shown"].default == 0
    assert inspect.signature(poison).parameters["shown"].default == 0
