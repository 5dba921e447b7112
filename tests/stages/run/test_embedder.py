import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from changed_files import changed_copy, rewrite
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import medmcl
from medmcl.core.errors import CohortError, ConfigError, MedmclError
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run import embedder as embedding_cache
from medmcl.stages.run.embedded_rows import find_rows, mean_of, read_rows, reasons_of

SUBJECTS = 40
RECIPE = {
    "schema": "medmcl/recipe@1",
    "inputs": {"cmr": {"mode": "cine_2dt", "frames": 3, "size": 8, "crop": "none"}},
    "towers": {
        "cmr": {
            "encoder": {"name": "small_cnn", "widths": [6, 10]},
            "head": {"hidden": 8, "out": 7},
        }
    },
    "views": {
        "plain": {"modalities": ["cmr"]},
        "noisy": {"modalities": ["cmr"], "augment": {"cmr": {"noise": 0.1}}},
    },
    "stages": [
        {
            "stage": "train",
            "name": "simclr",
            "towers": ["cmr"],
            "objectives": {"in_modal": {"modality": "cmr", "views": ["plain", "noisy"]}},
            "batch_size": 8,
            "steps": 2,
        }
    ],
}


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """Tiny images in one array, a binary outcome that shows in them, and a survival time."""
    folder = tmp_path_factory.mktemp("cohort") / "hearts"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sick = np.arange(SUBJECTS) % 2
    table = pd.DataFrame(
        {
            "subject_id": [f"s{n:02d}" for n in range(SUBJECTS)],
            "split": ["train"] * 24 + ["tuning"] * 8 + ["held_out"] * 8,
            "row": np.arange(SUBJECTS),
            "has_cmr": 1,
            "sick": sick,
            "days": rng.integers(1, 900, SUBJECTS),
            "event": rng.integers(0, 2, SUBJECTS),
        }
    )
    table.to_csv(folder / "people.csv", index=False)
    images = rng.uniform(0, 200, (SUBJECTS, 3, 8, 8)).astype(np.float32)
    images[sick == 1, :, 2:6, 2:6] += 400
    np.save(folder / "cmr.npy", images)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "people.csv", "id": "subject_id", "split": "split"},
        "modalities": {
            "cmr": {
                "kind": "cmr",
                "reader": "npy",
                "path": "cmr.npy",
                "row": "row",
                "axes": "tyx",
                "present": "has_cmr == 1",
            }
        },
        "tasks": {"sick": {"kind": "binary", "column": "sick == 1"}},
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def run(hearts, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    medmcl.pretrain(hearts, recipe=folder / "recipe.yaml", out=folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def people(hearts):
    return pd.read_csv(hearts / "people.csv")


@pytest.fixture
def embedder(run, hearts):
    return medmcl.MedMCLEmbedder(run, cohort=hearts, device="cpu")


def ids_of(people, rows):
    return people.iloc[rows][["subject_id"]]


def test_it_gives_what_the_run_gives_in_the_order_of_the_rows(run, hearts, people, embedder):
    expected = medmcl.load(run).embed(hearts, device="cpu").droplevel("record")
    picked = ids_of(people, [7, 3, 3, 30])
    found = embedder.fit_transform(picked)
    wanted = expected.loc[picked["subject_id"].astype(str)].drop(columns="quality")
    assert found.dtype == np.float32
    assert (found == wanted.to_numpy()).all()
    for same in (picked["subject_id"], picked.to_numpy(), picked["subject_id"].tolist(),
                 picked.assign(age=1).rename(columns={"subject_id": "subject"}),
                 picked.assign(y=0).set_index("subject_id")):  # fmt: skip
        assert (embedder.transform(same) == found).all()


def test_what_is_wrong_with_records_is_asked_once_and_not_of_each(run, hearts, monkeypatch):
    asked, plain = [], Prepared.faults
    monkeypatch.setattr(
        Prepared, "faults", lambda self, name: asked.append(name) or plain(self, name)
    )
    medmcl.load(run).embed(hearts, device="cpu")
    assert asked == ["cmr"]  # else the time of an embedding grows with the square of the records


def test_a_cohort_gives_all_its_records(run, hearts):
    embedder = medmcl.MedMCLEmbedder(run, device="cpu").set_output(transform="pandas")
    expected = medmcl.load(run).embed(hearts, device="cpu")
    for given in (hearts, str(hearts), medmcl.open_cohort(hearts, {"on_bad_record": "exclude"})):
        found = embedder.fit(given).transform(given)
        assert list(found.index) == list(expected.index)
        assert (found.to_numpy() == expected.drop(columns="quality").to_numpy()).all()


def test_names_and_pandas_output_keep_the_index(people, embedder):
    picked = ids_of(people, [9, 4]).set_axis([70, 60])
    found = embedder.set_output(transform="pandas").transform(picked)
    assert list(found.index) == [70, 60]
    assert list(found.columns) == list(embedder.get_feature_names_out())
    assert found.columns[0] == "cmr_e0"


@pytest.mark.parametrize("space", ["features", "pooled"])
def test_the_width_is_known_before_anything_is_embedded(run, hearts, space):
    embedder = medmcl.MedMCLEmbedder(run, cohort=hearts, space=space, device="cpu")
    width = len(embedder.get_feature_names_out())
    assert embedder.transform(hearts).shape[1] == width
    if space == "pooled":
        assert np.linalg.norm(embedder.transform(hearts), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_pipeline_works_in_group_k_fold_and_grid_search(people, embedder, monkeypatch):
    embedding_cache.embedded.cache_clear()
    picked = people[people["sick"].notna()]
    x, y = picked[["subject_id"]], picked["sick"].to_numpy().astype(int)
    pipe = make_pipeline(embedder, medmcl.RiskModel())
    folds = GroupKFold(3)
    scores = cross_val_score(
        pipe, x, y, groups=x["subject_id"], cv=folds, scoring="roc_auc", error_score="raise"
    )
    assert np.isfinite(scores).all()
    chance = cross_val_predict(pipe, x, y, groups=x["subject_id"], cv=folds, method="predict_proba")
    assert chance.shape == (len(x), 2)
    grid = GridSearchCV(
        pipe, {"riskmodel__strength": [1.0, 100.0]}, cv=folds, error_score="raise"
    ).fit(x, y, groups=x["subject_id"])
    assert grid.predict(x).shape == (len(x),)
    assert embedding_cache.embedded.cache_info().misses == 1  # of all those fits and clones


def test_survival_runs_in_a_pipeline_with_names(people, embedder):
    pipe = make_pipeline(embedder, medmcl.RiskModel(kind="survival", strength=100.0))
    pipe.set_output(transform="pandas")
    x, y = (
        people[["subject_id"]],
        people[["event", "days"]].set_axis(["event", "time"], axis=1),
    )
    pipe.fit(x, y)
    assert pipe[-1].feature_names_in_[0] == "cmr_e0"
    curves = pipe[-1].predict_survival_function(pipe[:-1].transform(x), times=[100.0, 1000.0])
    assert list(curves.columns) == [100.0, 1000.0]
    assert (curves.index == x.index).all()


def test_clones_and_pickles_give_the_same(people, embedder):
    picked = ids_of(people, [0, 5])
    found = embedder.transform(picked)
    opened = clone(embedder).set_params(cohort=medmcl.open_cohort(embedder.cohort))
    opened.set_params(run=medmcl.load(embedder.run))
    for other in (clone(embedder), pickle.loads(pickle.dumps(embedder)), clone(opened)):
        assert (other.transform(picked) == found).all()
    assert clone(embedder).get_params()["space"] == "features"


def test_weights_that_change_are_not_taken_from_memory(run, hearts, people, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    embedder = medmcl.MedMCLEmbedder(tmp_path / "run", cohort=hearts, device="cpu")
    embedder.transform(ids_of(people, [0]))
    misses = embedding_cache.embedded.cache_info().misses
    embedder.transform(ids_of(people, [1]))
    assert embedding_cache.embedded.cache_info().misses == misses
    for weights in (tmp_path / "run" / "checkpoint" / "simclr").glob("*/weights.safetensors"):
        weights.touch()
    embedder.transform(ids_of(people, [1]))
    assert embedding_cache.embedded.cache_info().misses == misses + 1


@pytest.fixture(scope="module")
def gaps(hearts, tmp_path_factory):
    """The cohort with one subject without an image and one whose image is broken."""
    folder = tmp_path_factory.mktemp("gaps") / "cohort"
    absent, broken = 0, 1
    changed_copy(hearts, folder, "people.csv", lambda t: t.assign(has_cmr=(t["row"] != absent) + 0))
    images = np.load(folder / "cmr.npy")
    images[broken] = np.nan
    np.save(folder / "cmr.npy", images)
    table = pd.read_csv(folder / "people.csv")
    return folder, table.loc[[absent, broken, 2, 3, 4], ["subject_id"]]


def test_rows_without_an_embedding_are_refused_by_default(run, gaps):
    folder, rows = gaps
    with pytest.raises(CohortError, match="2 of 5 rows have no cmr embedding"):
        medmcl.MedMCLEmbedder(run, cohort=folder, device="cpu").transform(rows)


def test_rows_without_an_embedding_become_nan_or_are_dropped_with_counts(run, gaps):
    folder, rows = gaps
    embedder = medmcl.MedMCLEmbedder(run, cohort=folder, missing="nan", device="cpu")
    with pytest.warns(UserWarning, match="2 of 5 rows have no cmr embedding, NaN: 1 x no cmr rec"):
        found = embedder.transform(rows)
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()
    quality = embedder.quality(rows)
    assert quality.iloc[0] == "no cmr record"
    assert (quality.iloc[2:] == "ok").all()
    assert (quality.index == rows.index).all()
    dropping = clone(embedder).set_params(missing="drop").set_output(transform="pandas")
    with pytest.warns(UserWarning, match="left out"):
        kept = dropping.transform(rows)
    assert list(kept.index) == list(rows.index[2:])
    assert (kept.to_numpy() == found[2:]).all()


def test_missing_embeddings_feed_scikit_learn_with_a_flag(run, gaps):
    folder, rows = gaps
    embedder = medmcl.MedMCLEmbedder(run, cohort=folder, missing="mean", device="cpu")
    with pytest.raises(NotFittedError):
        embedder.transform(rows)
    learned_on = rows.iloc[1:4]  # one broken, two sound
    expected = medmcl.load(run).embed(folder, device="cpu").droplevel("record")
    sound = expected.loc[rows["subject_id"].iloc[[2, 3, 4]], "e0":].to_numpy()
    with pytest.warns(UserWarning, match="2 of 5 rows have no .*, the mean, and flagged"):
        found = embedder.fit(learned_on).transform(rows)
    assert found[:, -1].tolist() == [1, 1, 0, 0, 0]
    assert found[:2, :-1] == pytest.approx(np.tile(sound[:2].mean(axis=0), (2, 1)), rel=1e-6)
    assert (found[2:, :-1] == sound).all()
    names = embedder.get_feature_names_out()
    assert len(names) == found.shape[1]
    assert names[-1] == "cmr_absent"


def test_the_mean_of_a_cohort_is_that_of_its_train_split(run, hearts):
    embedder = medmcl.MedMCLEmbedder(run, cohort=hearts, missing="mean", device="cpu").fit(hearts)
    every = medmcl.load(run).embed(hearts, device="cpu").drop(columns="quality").to_numpy()
    assert embedder.mean_ == pytest.approx(every[:24].mean(axis=0), rel=1e-5)
    with pytest.raises(ConfigError, match="learned from rows"):
        clone(embedder).fit()


@pytest.mark.filterwarnings("ignore:.*rows have no cmr embedding")
def test_a_pipeline_with_absent_records_is_cross_validated(run, gaps):
    folder, _ = gaps
    people = pd.read_csv(folder / "people.csv")
    pipe = make_pipeline(
        medmcl.MedMCLEmbedder(run, cohort=folder, missing="mean", device="cpu"),
        StandardScaler(), LogisticRegression(),
    )  # fmt: skip
    x, y = people[["subject_id"]], people["sick"].to_numpy()
    scores = cross_val_score(pipe, x, y, cv=4, scoring="roc_auc", error_score="raise")
    assert np.isfinite(scores).all()
    pipe.fit(x, y)
    assert pipe.predict_proba(x).shape == (len(x), 2)  # nobody is dropped


def test_the_runs_own_exclusions_hold(hearts, tmp_path):
    table = pd.read_csv(hearts / "people.csv")
    out = table["subject_id"].iloc[2]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    own = {"cohort.subjects.where": f"subject_id != '{out}'"}
    run = medmcl.pretrain(hearts, recipe=tmp_path / "recipe.yaml", out=tmp_path / "run",
                          overrides=own, device="cpu")  # fmt: skip
    embedder = medmcl.MedMCLEmbedder(run, cohort=hearts, device="cpu")
    rows = table[["subject_id"]].iloc[[0, 5]]
    table = run.embed(hearts, device="cpu")
    assert (embedder.transform(rows) == table.loc[rows["subject_id"], "e0":]).all(axis=None)
    assert out not in table.index
    with pytest.raises(CohortError, match=str(out)):  # who is not of the cohort has no vector
        embedder.transform(pd.DataFrame({"subject_id": [out]}))


def test_people_whom_no_stage_has_seen(run, hearts, people, tmp_path):
    held_out = people.loc[people["split"] == "held_out", "subject_id"].tolist()
    assert medmcl.load(run).unseen_subjects(hearts) == held_out
    other = tmp_path / "elsewhere"  # the same images under other names, and some new ones
    shutil.copytree(hearts, other)
    renamed = people.assign(subject_id=[f"n{n}" for n in range(SUBJECTS)], split="held_out")
    renamed.to_csv(other / "people.csv", index=False)
    images = np.load(other / "cmr.npy")
    images[:4] += 1.5
    np.save(other / "cmr.npy", images)
    expected = [f"n{n}" for n in (0, 1, 2, 3, *range(32, 40))]
    assert medmcl.load(run).unseen_subjects(other) == expected


def test_a_table_that_changes_is_read_again(run, gaps, tmp_path):
    shutil.copytree(gaps[0], tmp_path / "cohort")
    embedder = medmcl.MedMCLEmbedder(run, cohort=tmp_path / "cohort", missing="nan", device="cpu")
    with pytest.warns(UserWarning, match="2 of 5"):
        embedder.transform(gaps[1])
    gone = gaps[1]["subject_id"].iloc[2]
    rewrite(
        tmp_path / "cohort" / "people.csv",
        lambda t: t.assign(has_cmr=t["has_cmr"].mask(t["subject_id"] == gone, 0)),
    )
    with pytest.warns(UserWarning, match="3 of 5"):
        embedder.transform(gaps[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": "nowhere"},
        {"stage": "nothing"},
        {"modality": "eeg"},
        {"space": "outer"},
        {"missing": "guess"},
        {"several": "first"},
        {"cohort": None},
        {"cohort": "no_such_cohort"},
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_fit(people, embedder, wrong):
    with pytest.raises(MedmclError):
        clone(embedder).set_params(**wrong).fit(ids_of(people, [0, 1]))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (pd.DataFrame({"subject": ["nobody"]}), "1 subjects are not in the cohort"),
        (pd.DataFrame({"a": [1], "b": [2]}), "which subjects"),
        (pd.DataFrame({"subject": [None]}), "no subject id"),
        (np.zeros((2, 3)), "one column"),
    ],
)
def test_rows_that_name_no_subject_of_the_cohort_are_refused(embedder, rows, words):
    with pytest.raises(MedmclError, match=words):
        embedder.transform(rows)


def two_records():
    index = pd.MultiIndex.from_tuples(
        [("1", "a"), ("1", "b"), ("2", "c"), ("3", "d")], names=["subject", "record"]
    )
    values = [[1.0, 2.0], [3.0, 6.0], [5.0, 5.0], [np.nan, np.nan]]
    table = pd.DataFrame(values, index=index, columns=["e0", "e1"])
    table.insert(0, "quality", ["ok", "ok", "ok", "flat"])
    return table


class People:
    name = "x"
    subjects = pd.DataFrame(index=["1", "2", "3", "4"])


def test_several_records_are_refused_averaged_or_named():
    table = two_records()
    rows = read_rows(pd.DataFrame({"subject": [2, 1.0, 3, 4]}), "id")
    assert rows["subject"].tolist() == ["2", "1", "3", "4"]
    with pytest.raises(CohortError, match="several records"):
        find_rows(rows, table, People(), "raise")
    places = find_rows(rows, table, People(), "mean")
    assert reasons_of(places, table, "cmr").tolist() == ["ok", "ok", "flat", "no cmr record"]
    found = mean_of(places, table[["e0", "e1"]].to_numpy(np.float32))
    assert found[:2].tolist() == [[5.0, 5.0], [2.0, 4.0]]
    assert np.isnan(found[2:]).all()
    named = read_rows(np.array([["1", "b"], ["2", "c"]]), "id")
    places = find_rows(named, table, People(), "raise")
    assert [place.tolist() for place in places] == [[1], [2]]
    with pytest.raises(CohortError, match="1 records"):
        find_rows(read_rows(np.array([["1", "c"]]), "id"), table, People(), "raise")


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_get_params_invariance",
        "check_set_params",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
    ],
)
def test_the_checks_of_scikit_learn_that_apply(embedder, name):
    """The others hand over arrays of numbers, and the input here is subject ids of a cohort."""
    getattr(estimator_checks, name)("MedMCLEmbedder", embedder)


def test_the_suite_of_scikit_learn_passes(embedder):
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):
        check_estimator(embedder)


def test_the_block_of_the_documentation_runs_as_it_stands(
    run, hearts, people, tmp_path, monkeypatch
):
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n((?:(?!```).)*?cross_val_score\(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(run)
    shutil.copytree(hearts, tmp_path / "my_cohort")
    table = people.assign(outcome=people["sick"])
    table.to_csv(tmp_path / "my_cohort" / "participants.tsv", sep="\t", index=False)
    few = 'scoring="roc_auc", cv=4'  # eight people here
    assert 'scoring="roc_auc"' in block
    found: dict = {}
    exec(block.replace('scoring="roc_auc"', few), found)
    assert len(found["people"]) == 8
    assert found["scores"].shape == (4,)
    assert np.isfinite(found["scores"]).all()
