"""One person gets a prediction: to the last bit what was scored; nobody is dropped."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from changed_files import changed_copy, rewrite
from damaged import damage
from short_runs import unreported
from small_omics import write_omics, write_recipe

import medmcl
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.evaluation.models.cox_model import Baseline
from medmcl.stages.predict.cohort import check_people
from medmcl.stages.predict.predict import PeoplePredicted, predict_people
from medmcl.stages.predict.saved import KeptPrediction, load_prediction
from medmcl.stages.run.store import Store

KEYS = ["subject", "task", "target", "horizon_years"]


@pytest.fixture(scope="module")
def omics(tmp_path_factory):
    """A run over three tables, any of which a person may lack; every kind of task."""
    base = tmp_path_factory.mktemp("predict")
    folder = write_omics(base / "omics", 160)
    settings = {"baselines": ["simple", "majority"], "predictions": True}
    recipe = write_recipe(base / "recipe.yaml", **settings)
    few = {"stages.align.steps": 5}
    run = unreported(folder, recipe=recipe, out=base / "run", overrides=few)
    return folder, run, pd.read_parquet(run.path / "predictions-results.parquet")


def compared(told, scored, method):
    """Both in one order: what was predicted, and what was scored."""
    ours = scored[scored["method"] == method]
    both = told.merge(ours, on=KEYS, how="inner", suffixes=("", "_scored"))
    assert len(both) == len(ours)
    return both["predicted"].to_numpy(), both["predicted_scored"].to_numpy()


def test_whoever_was_scored_gets_what_was_scored_to_the_last_bit(omics):
    folder, run, scored = omics
    told = run.predict(folder, device="cpu")
    assert set(told["task"]) == {"case", "score", "stage", "death"}
    one, other = compared(told, scored, "aligned")
    assert len(one) > 200
    assert (one == other).all()
    assert not np.isnan(one).any()


def only(folder, subjects, out):
    """The cohort with some of its people, and no outcomes or splits in any table."""
    shutil.copytree(folder, out)
    for name in ("people", "rna", "metabolites"):
        rewrite(out / f"{name}.csv", lambda table: table[table["pid"].isin(subjects)])
    rewrite(out / "people.csv", lambda table: table[["pid", "sex"]])
    return out


def test_one_person_alone_without_outcomes_gets_the_same_bits(omics, tmp_path):
    folder, run, scored = omics
    ids = list(dict.fromkeys(scored["subject"]))
    for number, few in enumerate([ids[:1], ids[1:2], ids[2:9]]):
        told = run.predict(only(folder, few, tmp_path / str(number)), device="cpu")
        assert set(told["subject"]) == set(few)
        wanted = scored[scored["subject"].isin(few)]
        one, other = compared(told, wanted, "aligned")
        assert (one == other).all()
    untrained = run.predict(tmp_path / "2", method="untrained", tasks=["death"], device="cpu")
    one, other = compared(untrained, wanted[wanted["task"] == "death"], "untrained")
    assert (one == other).all()


def test_simple_features_of_several_modalities_predict_whoever_comes(omics, tmp_path):
    folder, run, scored = omics
    name = "simple features (rna + proteins + metabolites)"
    ids = list(dict.fromkeys(scored["subject"]))[:7]
    new = only(folder, ids, tmp_path / "few")
    told = run.predict(new, method=name, tasks=["case", "death"], device="cpu")
    wanted = scored[scored["subject"].isin(ids) & scored["task"].isin(["case", "death"])]
    one, other = compared(told, wanted, name)
    assert (one == other).all()

    def without_metabolites(tree):
        del tree["modalities"]["metabolites"]

    rewrite(new / "cohort.yaml", without_metabolites)
    fewer = run.predict(new, method=name, tasks=["case"], device="cpu")
    assert fewer["predicted"].notna().all()
    assert set(fewer["modalities"]) <= {"rna + proteins", "rna", "proteins"}
    older = shutil.copytree(run.path, tmp_path / "older")
    for file in [*(older / "probes").glob("simple_features.*"), older / "files.json"]:
        file.unlink()
    with pytest.raises(ArtefactError, match="predict takes another --method"):
        medmcl.load(older).predict(new, method=name, tasks=["case"], device="cpu")


def test_nobody_is_dropped_and_what_is_missing_is_told(omics):
    folder, run, _ = omics
    told = run.predict(folder, tasks=["case"], device="cpu")
    assert list(told["subject"].value_counts().unique()) == [1]
    assert len(told) == 160
    none = told[told["quality"] != "ok"]
    assert set(none["subject"]) == {f"p{n}" for n in range(155, 160)}
    assert set(none["quality"]) == {"no record of any modality"}
    assert none["predicted"].isna().all()
    assert none["outside"].isna().all()
    some = told.set_index("subject")["modalities"]
    assert some["p001"] == "rna + proteins + metabolites"
    assert some["p000"] == "rna + proteins"
    people = pd.read_csv(folder / "people.csv").set_index("pid")
    learned = told.set_index("subject")["in_training"].dropna().astype(bool)
    held = people["split"].reindex(learned.index) == "held_out"
    assert (learned == ~held).all()


def test_a_cohort_without_one_of_the_modalities_is_predicted_from_the_others(omics, tmp_path):
    """And said to be: on the terminal, and in ``modalities`` of every row."""
    folder, run, _ = omics
    new = only(folder, [f"p{n:03d}" for n in range(20, 30)], tmp_path / "new")

    def without_proteins(tree):
        del tree["modalities"]["proteins"]

    rewrite(new / "cohort.yaml", without_proteins)
    found = predict_people(run, new, device="cpu")
    told = found.table[found.table["predicted"].notna()]
    assert told["subject"].nunique() == 10
    assert not told["modalities"].str.contains("proteins").any()
    assert "  10 of them without proteins, from what else they have" in found.sentences
    whole = predict_people(run, folder, device="cpu")
    lacks = whole.table[~whole.table["modalities"].str.contains("metabolites")]
    count = lacks[lacks["predicted"].notna()]["subject"].nunique()
    assert f"  {count} of them without metabolites, from what else they have" in whole.sentences


def test_check_names_a_modality_of_which_nothing_can_be_used(trained, hearts, tmp_path):
    new = shutil.copytree(hearts, tmp_path / "new")
    files = [one for one in (new / "ecg").iterdir() if one.suffix != ".hea"]
    assert files
    for file in files:
        file.unlink()
    found = check_people(trained, new / "cohort_files.yaml")
    (error,) = [one for one in found if one.level == "error"]
    assert (error.code, error.where) == ("cohort.no_usable", "modalities.ecg")
    assert "predicted without it, or not at all" in error.what


def test_a_cohort_of_people_without_any_record_is_told_person_by_person(omics, tmp_path):
    folder, run, _ = omics
    new = only(folder, ["p155", "p159"], tmp_path / "new")
    rewrite(new / "proteins.parquet", lambda table: table.iloc[:0])
    found = predict_people(run, new, device="cpu")
    told = found.table
    assert set(told["subject"]) == {"p155", "p159"}
    assert told["predicted"].isna().all()
    assert set(told["quality"]) == {"no record of any modality"}
    assert found.sentences[0] == "2 people: 0 predicted, 2 without a prediction"
    assert "limits" not in " ".join(found.sentences)  # the run keeps some; there is nothing to flag


def test_curves_fall_and_pass_through_the_risks(omics):
    folder, run, _ = omics
    curves = run.predict(folder, tasks=["death"], curves=True, device="cpu")
    told = run.predict(folder, tasks=["death"], device="cpu").set_index("subject")
    for subject, curve in list(curves.groupby("subject"))[:5]:
        assert len(curve) == 101
        assert curve["survival"].iloc[0] == 1
        assert (curve["survival"].diff().dropna() <= 0).all()
        at = np.searchsorted(curve["years"], told.loc[subject, "horizon_years"], "right") - 1
        risk = told.loc[subject, "predicted"]
        assert 1 - curve["survival"].iloc[at] <= risk <= 1 - curve["survival"].iloc[at + 1]


def test_slips_are_told_with_what_there_is(omics, tmp_path):
    folder, run, _ = omics
    with pytest.raises(ConfigError, match="did you mean 'case'"):
        run.predict(folder, tasks=["cas"], device="cpu")
    with pytest.raises(ConfigError, match=r"no method 'alined'.*did you mean 'aligned'"):
        run.predict(folder, method="alined", device="cpu")
    bare = tmp_path / "bare"
    shutil.copytree(run.path, bare)
    shutil.rmtree(bare / "probes")
    (bare / "files.json").unlink()
    with pytest.raises(ArtefactError, match="keeps no probe"):
        medmcl.load(bare).predict(folder, device="cpu")


def test_a_method_whose_probe_holds_rows_of_people_is_not_there_and_others_are_named(
    omics, tmp_path
):
    folder, run, _ = omics
    without = tmp_path / "run"  # as after `protocol: knn`
    shutil.copytree(run.path, without)
    for path in (without / "probes").glob("*.json"):
        if json.loads(path.read_text()).get("method") == "aligned":
            path.unlink()
    with pytest.raises(
        ArtefactError, match=r"probes/\S+\.json: there is no such file(.|\n)*--resume"
    ):
        medmcl.load(without).predict(folder, device="cpu")
    (without / "files.json").unlink()
    with pytest.raises(ConfigError, match=r"(?s)no probe of 'aligned' is kept.*hold people's rows"):
        medmcl.load(without).predict(folder, device="cpu")


@pytest.mark.parametrize("how", ["flipped", "missing"])
@pytest.mark.parametrize("name", ["prediction.json", "prediction.safetensors", "files.json"])
def test_what_is_damaged_of_the_kept_prediction_is_written_anew(tmp_path, name, how):
    """Else the hint of the message, `--resume`, would end in the same message."""
    run = Store(tmp_path)
    baseline = Baseline(np.arange(3.0), np.arange(3.0))
    KeptPrediction(competing={"a"}, heads={("a", "x"): baseline}).save(run)
    damage(tmp_path / name, how)
    if name != "files.json":
        with pytest.raises(ArtefactError, match=f"{name}(.|\n)*--resume"):
            load_prediction(run)
    KeptPrediction(competing={"b"}, heads={("b", "x"): baseline}).save(run)
    assert load_prediction(run).competing >= {"b"}
    assert run.tree("files")["files"] == ["prediction.json", "prediction.safetensors"]


def test_inputs_unlike_those_of_training_are_flagged(omics, tmp_path):
    folder, run, _ = omics

    def turned(table):
        columns = [name for name in table if name.startswith("r_")]
        table[columns] = -40 * table[columns] + 300

    odd = changed_copy(folder, tmp_path / "odd", "rna.csv", turned)
    plain = run.predict(folder, tasks=["case"], device="cpu")
    known = plain[(plain["quality"] == "ok") & ~plain["in_training"].fillna(True)]
    assert known["outside"].mean() < 0.15
    told = run.predict(odd, tasks=["case"], device="cpu")
    far = told[told["modalities"].str.contains("rna")]
    assert far["outside"].mean() > 0.9
    assert far["outside_of"].str.contains("rna embedding at").mean() > 0.9


def test_an_impossible_cell_of_a_table_that_an_encoder_reads_is_named(omics, tmp_path):
    folder, run, _ = omics
    table = pd.read_csv(folder / "rna.csv")
    table.loc[0, "r_2"], table.loc[1, "r_0"] = 1e4, 9.0  # r_0 never varied: no width, no claim
    odd = changed_copy(folder, tmp_path / "odd", "rna.csv", lambda _: table)
    told = run.predict(odd, tasks=["case"], device="cpu").set_index("subject")
    who = str(table["pid"].iloc[0])
    assert told.loc[who, "quality"].startswith("implausible: r_2 10000 (train: ")
    assert told.loc[who, "outside"]
    assert told["quality"].str.startswith("implausible").sum() == 1


def test_a_number_beyond_training_in_a_table_that_an_encoder_reads_is_outside(omics, tmp_path):
    """Another unit is rarely impossible, and an embedding need not move for it."""
    folder, run, _ = omics
    table = pd.read_csv(folder / "rna.csv")
    column = table["r_2"]
    beyond = column.max() + 0.8 * (column.max() - column.min())
    table.loc[0, "r_2"], table.loc[1, "r_3"] = beyond, np.nan
    odd = changed_copy(folder, tmp_path / "odd", "rna.csv", lambda _: table)
    told = run.predict(odd, tasks=["case"], device="cpu").set_index("subject")
    first, second = table["pid"].astype(str).iloc[:2]
    assert told.loc[first, "outside"]
    assert "r_2" in told.loc[first, "outside_of"]
    assert not told.loc[first, "quality"].startswith("implausible")
    assert "r_3 missing: the encoder reads a gap" in told.loc[second, "remarks"]


def test_reasons_are_of_people_and_records_beside_others_are_told_apart():
    bad = "wrist: values are missing"
    rows = [("a", "a1", 0.5, "ok"), ("a", "a2", None, bad), ("b", "b1", None, bad),
            ("b", "b2", None, bad), ("c", "c1", None, "no wrist")]  # fmt: skip
    table = pd.DataFrame(rows, columns=["subject", "sample", "predicted", "quality"])
    table = table.assign(outside=False, in_training=False)
    told = PeoplePredicted(table=table, curves=table[:0]).sentences
    assert told[:4] == [
        "3 people: 1 predicted, 2 without a prediction",
        f"  1 x {bad}",
        "  1 x no wrist",
        "  1 sample more without a number, of people who have others; why stands in the column "
        "quality",
    ]
