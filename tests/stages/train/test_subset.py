"""A stage that is confined to some subjects: who they are, and what it trains on."""

import re

import numpy as np
import pandas as pd
import pytest
from changed_files import changed_copy
from short_runs import unreported
from small_squares import SMALL, write_squares

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.data.loading.prepare import prepare
from medmcl.stages.recipe.on_cohort import faults_with
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.subset_spec import SubsetSpec
from medmcl.stages.train.train_filter import in_subset, list_of, refuse_another_list

STEPS = {
    **SMALL,
    "stages.contrast.steps": 4,
    "stages.contrast.epochs": None,
    "stages.contrast.batch_size": 4,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder = write_squares(tmp_path_factory.mktemp("squares") / "cohort")
    table = pd.read_csv(folder / "pictures.csv")
    table["reviewed"] = np.where(np.arange(len(table)) % 7 == 0, "yes", "no")
    table.loc[3, "reviewed"] = None
    table.to_csv(folder / "pictures.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def prepared(squares, tmp_path_factory):
    inputs = {"caption": {"max_tokens": 16}}
    cache = tmp_path_factory.mktemp("cache")
    return prepare(medmcl.open_cohort(squares), inputs, cache=cache, splits="all")


def people(prepared, rows):
    return set(prepared.subjects[rows].tolist())


def trained_on(subset):
    objectives = {"cross_modal": {"kind": "cross_modal"}}
    return TrainSpec(stage="train", name="a", towers=["image", "caption"], epochs=1,
                     objectives=objectives, subset=subset)  # fmt: skip


def test_a_share_is_of_train_subjects_and_nested_and_of_the_seed(prepared):
    rows = prepared.rows("train")
    found = {share: people(prepared, in_subset(rows, SubsetSpec(share=share), prepared, 3, ""))
             for share in (0.001, 0.1, 0.5)}  # fmt: skip
    everyone = len(people(prepared, rows))
    assert [len(one) for one in found.values()] == [1, round(0.1 * everyone), round(0.5 * everyone)]
    assert found[0.001] < found[0.1] < found[0.5]
    half = SubsetSpec(share=0.5)
    assert people(prepared, in_subset(rows, half, prepared, 4, "")) != found[0.5]
    some = rows[::3]
    again = in_subset(some, half, prepared, 3, "")
    assert people(prepared, again) == found[0.5] & people(prepared, some)


def test_a_share_is_the_same_in_another_order_and_without_others(prepared, squares, tmp_path):
    """Of ids alone: neither rows of the table nor people outside train matter."""
    changed_copy(
        squares, tmp_path / "c", "pictures.csv",
        lambda t: t[t["split"].ne("held_out") | (t.index % 2 == 0)].sample(frac=1, random_state=1),
    )  # fmt: skip
    other = prepare(medmcl.open_cohort(tmp_path / "c"), {"caption": {"max_tokens": 16}},
                    cache=tmp_path / "cache", splits="all")  # fmt: skip
    named = []
    for one in (prepared, other):
        rows = in_subset(one.rows("train"), SubsetSpec(share=0.25), one, 3, "")
        named.append(set(one.samples["subject"].to_numpy()[rows]))
    assert named[0] == named[1]


def test_every_subject_is_drawn_alike(prepared):
    rows = prepared.rows("train")
    drawn = np.zeros(len(prepared.subjects))
    for seed in range(200):
        drawn[in_subset(rows, SubsetSpec(share=0.25), prepared, seed, "")] += 1
    assert abs(drawn[rows] / 200 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 200)


def test_a_column_picks_out_samples(prepared, squares):
    table = pd.read_csv(squares / "pictures.csv").set_index("subject_id")["reviewed"]
    rows = prepared.rows("train")
    spec = SubsetSpec(column="reviewed", values=["yes"])
    found = in_subset(rows, spec, prepared, 0, "")
    subject = prepared.samples["subject"].to_numpy()
    assert set(subject[found]) == {one for one in subject[rows] if table[one] == "yes"}
    assert 0 < len(found) < len(rows) / 4


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"column": "revieved", "values": ["yes"]}, "reviewed"),
        ({"column": "reviewed", "values": ["Yes"]}, "expected: (.*)no, (.*)yes"),
        ({"column": "reviewed", "values": [True]}, "in quotes"),
    ],
)
def test_what_is_not_there_is_refused(prepared, spec, told):
    with pytest.raises(ConfigError, match=told):
        in_subset(prepared.rows("train"), SubsetSpec(**spec), prepared, 0, "stage a")
    (fault,) = faults_with(prepared.cohort, [trained_on(spec)])
    assert re.search(told, str(fault))
    assert not faults_with(prepared.cohort, [trained_on({"share": 0.5})])
    held_out = prepared.rows("held_out")
    with pytest.raises(ConfigError, match="none of the rows"):
        in_subset(held_out, SubsetSpec(share=0.5), prepared, 0, "stage a")


def test_values_are_written_as_cells_are():
    given = [1.0, 2, 0.5, True, "yes"]
    said = SubsetSpec(column="a", values=given).values
    assert said == ("1", "2", "0.5", "True", "yes")
    assert SubsetSpec(column="a", values="yes").values == ("yes",)


@pytest.mark.parametrize(
    "given",
    [{}, {"share": 0}, {"share": 1}, {"share": 0.1, "column": "a", "values": ["b"]},
     {"column": "a"}, {"values": ["a"]}, {"share": 0.1, "values": ["a"]}],
)  # fmt: skip
def test_a_subset_is_said_one_way(given):
    with pytest.raises((MedmclError, ValueError), match=r"share|subset"):
        SubsetSpec(**given)


def test_a_list_names_samples_or_subjects(prepared, tmp_path):
    rows = prepared.rows("train")
    samples = prepared.samples["sample"].astype(str).to_numpy()
    subjects = prepared.samples["subject"].astype(str).to_numpy()
    path = tmp_path / "reviewed.txt"
    path.write_text(f"{samples[rows[0]]}\n\n {subjects[rows[3]]} \n{samples[rows[0]]}\n")
    spec = SubsetSpec(file=str(path))
    assert in_subset(rows, spec, prepared, 0, "").tolist() == [rows[0], rows[3]]
    first = list_of(spec)
    path.write_text(f"{subjects[rows[3]]}\n{samples[rows[0]]}\n")
    assert list_of(spec) == first  # in any order
    refuse_another_list(spec, first, "stage a")
    path.write_text(f"{samples[rows[0]]}\n")
    with pytest.raises(ArtefactError, match="not the list that the stage was trained on"):
        refuse_another_list(spec, first, "stage a")
    path.write_text("nobody\n")
    with pytest.raises(ArtefactError, match=r"1 ids are unknown(.|\n)*nobody"):
        in_subset(rows, spec, prepared, 0, "")
    assert len(faults_with(prepared.cohort, [trained_on({"file": str(path)})])) == 1
    path.unlink()
    refuse_another_list(spec, first, "stage a")  # gone, and no other
    with pytest.raises(ArtefactError, match="cannot be read"):
        in_subset(rows, spec, prepared, 0, "")


def test_a_list_may_be_written_later_and_must_not_change(squares, tmp_path, monkeypatch):
    monkeypatch.setattr("medmcl.stages.evaluate.stage.run_evaluate", lambda *_, **__: None)
    table = pd.read_csv(squares / "pictures.csv")
    names = table.loc[table["split"] == "train", "subject_id"].tolist()
    path = tmp_path / "reviewed.txt"
    path.write_text("\n".join(names[:9]))
    sets = {**STEPS, "stages.contrast.subset.file": str(path)}
    told = {"recipe": "clip_toy", "overrides": sets}
    run = unreported(squares, out=tmp_path / "run", **told)
    done = run.facts("contrast")
    assert (done["rows"], done["subset"]) == (9, "…/reviewed.txt")
    path.write_text("\n".join(names[:8]))
    for more in ({"out": tmp_path / "run", "resume": True}, {"out": tmp_path / "b", "reuse": run}):
        with pytest.raises(ArtefactError, match="not the list that the stage was trained on"):
            unreported(squares, **told, **more)


def test_a_stage_trains_on_its_subset_alone(squares, tmp_path, monkeypatch):
    seen = []
    loaded = medmcl.data.loading.prepare.Prepared.batch

    def watched(self, rows, *args, **more):
        seen.append(np.asarray(rows))
        return loaded(self, rows, *args, **more)

    monkeypatch.setattr(medmcl.data.loading.prepare.Prepared, "batch", watched)
    sets = {**STEPS, "stages.contrast.subset": {"column": "reviewed", "values": ["yes"]}}
    run = unreported(squares, recipe="clip_toy", out=tmp_path / "run", overrides=sets)
    done = run.facts("contrast")
    table = pd.read_csv(squares / "pictures.csv")
    able = table[(table["split"] == "train") & (table["reviewed"] == "yes")]
    assert done["rows"] == len(able)
    assert done["not_selected"] == (table["split"] == "train").sum() - len(able)
    samples = medmcl.open_cohort(squares).samples
    trained = {row for rows in seen if len(rows) == 4 for row in rows.tolist()}
    sides = medmcl.open_cohort(squares).subjects["split"]
    subjects = {samples["subject"][row] for row in trained}
    assert {one for one in subjects if sides[one] == "train"} <= set(able["subject_id"])
