"""Vectors from elsewhere: laid over samples by their ids, and scored as a run's own are."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from changed_files import rewrite
from short_runs import unreported
from small_tables import whas, write_cohort, write_whas

import medmcl
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.evaluation.models.probe import linear_probe
from medmcl.stages.evaluate.saved_probes import load_probes
from medmcl.stages.factorise.given_vectors import lay_vectors
from medmcl.stages.factorise.named_vectors import vectors_by_name
from medmcl.stages.predict.plan import plan_tasks

QUICK = {"evaluate.bootstrap_draws": 100}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A cohort, and the log hazard of each of its people."""
    table, risk = whas(600)
    folder = write_whas(tmp_path_factory.mktemp("people") / "cohort", table)
    return folder, table["id"].tolist(), risk


def made(ids, risk, noise, seed=0, width=6):
    """Vectors of which the first number tells the risk, but for noise; by subject."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(len(ids), width))
    values[:, 0] = risk + noise * generator.normal(size=len(ids))
    columns = [f"e{number}" for number in range(width)]
    return pd.DataFrame(values, columns=columns, index=pd.Index(list(ids), name="subject"))


@pytest.fixture(scope="module")
def scored(people, tmp_path_factory, cache):
    """An evaluation of two sets of vectors, one of which tells more."""
    folder, ids, risk = people
    out = tmp_path_factory.mktemp("scored")
    made(ids, risk, 0.3).reset_index().to_csv(out / "sharp.csv", index=False)
    made(ids, risk, 3.0, seed=1).to_parquet(out / "dull.parquet")
    files = [out / "sharp.csv", out / "dull.parquet"]
    return evaluate(embeddings=files, cohort=folder, out=out / "run"), out


def evaluate(run=None, cohort=None, out=None, overrides=QUICK, **more):
    return medmcl.evaluate(run, cohort, out=out, overrides=overrides, device="cpu", **more)


def row_of(done, method, metric="c_index", versus=""):
    (row,) = [
        one for one in done.results
        if (one.method, one.metric, one.versus) == (method, metric, versus)
    ]  # fmt: skip
    return row


def test_the_report_is_a_runs_with_baselines_and_paired_differences(scored):
    done, out = scored
    assert [row.method for row in done.results if row.metric == "c_index" and not row.versus] == [
        "sharp", "dull", "covariates", "covariates + embedding", "Kaplan-Meier",
    ]  # fmt: skip
    assert row_of(done, "sharp").split == "held_out"
    difference = row_of(done, "dull", versus="sharp")
    assert difference.high < 0
    assert difference.value == pytest.approx(
        row_of(done, "dull").value - row_of(done, "sharp").value
    )
    told = json.loads((out / "run" / "report.json").read_text(encoding="utf-8"))
    unknown = "whether the encoder saw these people, or their outcomes, is unknown"
    assert f"Vectors from elsewhere (sharp, dull): {unknown}." in " ".join(told["headline"])
    lines = [line for line in told["fitted_on"] if line["note"] == unknown]
    assert [line["method"] for line in lines] == ["sharp", "dull"]
    for part in ("calibration", "decision_curve", "subgroups", "table_one", "checklist"):
        assert told[part], part
    assert {probe.method for probe in load_probes(medmcl.load(out / "run"))} >= {"sharp", "dull"}


def test_the_probe_is_fitted_on_train_chosen_on_tuning_and_scores_held_out(scored, people):
    done, _ = scored
    folder, ids, risk = people
    cohort = medmcl.open_cohort(folder)
    side = cohort.samples["split"].to_numpy()
    targets = cohort.targets("death")
    train, tuning, held = (np.flatnonzero(side == s) for s in ("train", "tuning", "held_out"))
    x = made(ids, risk, 0.3).to_numpy()
    eta = linear_probe(x, targets, train, tuning).predict(x[held])[:, 0]
    time, event = targets.values[held].T
    right = pairs = 0.0
    for i in range(len(held)):
        for j in range(len(held)):
            if event[i] and time[i] < time[j]:
                pairs += 1
                right += (eta[i] > eta[j]) + 0.5 * (eta[i] == eta[j])
    assert row_of(done, "sharp").value == pytest.approx(right / pairs, abs=1e-9)
    assert row_of(done, "sharp").n == len(held)


def test_other_people_are_scored_by_the_kept_probe_on_their_own_vectors(
    scored, tmp_path, caplog, monkeypatch
):
    _, out = scored
    table, risk = whas(200, seed=8)  # other people of the same ids
    there = write_whas(tmp_path / "there", table, split={"everyone": "held_out"})
    with pytest.raises(ConfigError, match="those of this cohort are not given") as caught:
        evaluate(out / "run", there, tmp_path / "x", overrides={})
    assert caught.value.fix == "--embeddings sharp=FILE --embeddings dull=FILE"
    frames = {"sharp": made(table["id"], risk, 0.3, 5), "dull": made(table["id"], risk, 3.0, 6)}
    few = {**frames, "dull": frames["dull"].iloc[:150]}
    with pytest.raises(ConfigError, match="nothing is fitted") as caught:
        evaluate(out / "run", there, tmp_path / "x", {}, embeddings=few, label_fractions=[0.1, 1])
    assert caught.value.where == "--label-fraction 0.1,1"
    assert "--probe refit" in str(caught.value.fix)
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")
    done = evaluate(out / "run", there, tmp_path / "y", embeddings=few)
    assert "150 of 200 people have a vector of 'dull' (ids in column 'subject'; 6" in caplog.text
    said = "only people with a vector in every file are fitted on and scored"
    assert caplog.text.count(f"warning: {said}: 150 of 200 held out; dull lacks 50") == 1
    page = "".join(one.read_text(encoding="utf-8") for one in (tmp_path / "y").rglob("*.html"))
    assert "encoder of the vectors" in page
    assert " on ." not in page
    assert f"{said}: some have none in dull." in page
    assert "dull lacks" not in page
    row = row_of(done, "sharp")
    assert (row.protocol, row.n) == ("cox, frozen", 150)  # whom all methods can score
    assert row.low > 0.6


def undeclared(subjects):
    return {key: value for key, value in subjects.items() if key != "split"}


def test_everybody_is_scored_elsewhere_where_no_split_is_declared(scored, people, tmp_path):
    """One that is only drawn for want of a declared one would leave four of five unscored."""
    _, out = scored
    table, risk = whas(120, seed=8)
    table["id"] = [f"other-{one}" for one in table["id"]]
    there = write_whas(tmp_path / "there", table)
    rewrite(there / "cohort.yaml", lambda tree: {**tree, "subjects": undeclared(tree["subjects"])})
    frames = {"sharp": made(table["id"], risk, 0.3, 5), "dull": made(table["id"], risk, 3.0, 6)}

    def on(name, split=None, **more):
        told = {**QUICK, **({} if split is None else {"cohort.subjects.split": split})}
        return evaluate(out / "run", there, tmp_path / name, told, embeddings=frames, **more)

    done = on("x")
    assert row_of(done, "sharp").n == 120
    assert any("declares no split" in note for note in done.notes)
    drawn = int((done.prepared.splits == "held_out").sum())
    declared = on("y", {"random": {"tuning": 0.1, "held_out": 0.2}})
    assert row_of(declared, "sharp").n == drawn < 60
    assert not any("declares no split" in note for note in declared.notes)
    last = {name: json.loads((tmp_path / name / "report.json").read_text("utf-8"))["flow"][-1]
            for name in ("x", "y")}  # fmt: skip
    assert (last["x"]["step"], last["x"]["subjects"]) == ("no split declared", 120)
    assert (last["y"]["step"], last["y"]["subjects"]) == ("held_out", drawn)
    fitted = on("z", probe="refit")  # its train people are fitted on
    assert row_of(fitted, "sharp").n == drawn
    assert "no split is declared: this one is drawn" in str(medmcl.check(there).overview)
    home = str(medmcl.check(people[0]).overview)
    assert ("is drawn" in home) is ("split:" not in (people[0] / "cohort.yaml").read_text())


@pytest.mark.usefixtures("unpainted")
def test_settings_of_the_stage_are_changed_without_training_and_slips_are_told(
    scored, people, tmp_path
):
    _, out = scored
    folder, _, _ = people
    changes = {"covariates": None, "label_fractions": [0.5, 1], "draws": 2, "level": 0.8}
    told = {**QUICK, **{f"evaluate.{key}": value for key, value in changes.items()}}
    done = evaluate(out / "run", folder, tmp_path / "x", told)
    assert "covariates" not in {row.method for row in done.results}
    assert {row.label_fraction for row in done.results if row.method == "sharp"} == {0.5, 1.0}
    assert done.level == 0.8
    for key, meant in (
        ("evaluate.drwas", "did you mean 'draws'"),
        ("draws", "did you mean 'evaluate.draws'"),
        ("stages.results.draws", "did you mean 'evaluate.draws'"),
        ("recipe.name", "this command reads none"),
    ):
        with pytest.raises(ConfigError, match=meant):
            evaluate(out / "run", folder, tmp_path / "z", {key: 3})
    table, risk = whas(60, seed=8)
    there = write_whas(tmp_path / "there", table, split={"everyone": "held_out"})
    frames = {"sharp": made(table["id"], risk, 0.3), "dull": made(table["id"], risk, 3.0)}
    with pytest.raises(ConfigError, match="nothing is fitted, so this would not be read"):
        evaluate(out / "run", there, tmp_path / "w", {"evaluate.draws": 3}, embeddings=frames)


def test_a_typo_in_a_task_is_told_before_the_report_that_is_there(scored, people):
    with pytest.raises(MedmclError, match="there is no task 'deth'"):
        evaluate(scored[1] / "run", people[0], out=scored[1] / "run", tasks=["deth"])


def test_a_run_made_before_folds_were_k_by_r_is_read(scored, tmp_path):
    _, out = scored
    text = (out / "run" / "config.yaml").read_text(encoding="utf-8")
    assert "folds: null" in text
    old = text.replace("folds: null", "folds: auto").partition("\nseal:")[0]
    (tmp_path / "config.yaml").write_text(old)
    assert medmcl.load(tmp_path).recipe.stages[0].folds is None


@pytest.fixture(scope="module")
def table_run(people, tmp_path_factory, cache):
    """A run of the columns of the same people."""
    out, few = tmp_path_factory.mktemp("table") / "run", {"stages.results.bootstrap_draws": 100}
    return unreported(people[0], recipe="risk_table_toy", out=out, overrides=few)


@pytest.mark.usefixtures("unpainted")
def test_vectors_stand_beside_the_models_of_a_run(people, table_run, tmp_path):
    folder, ids, risk = people
    done = evaluate(table_run, folder, tmp_path / "x", embeddings=made(ids, risk, 0.3))
    assert row_of(done, "embeddings").low > 0.6
    assert row_of(done, "covariates", versus="embeddings").n == row_of(done, "embeddings").n


@pytest.mark.usefixtures("unpainted")
def test_runs_without_an_encoder_are_set_beside_each_other_on_the_same_people(
    scored, people, table_run, tmp_path
):
    _, out = scored
    folder, ids, risk = people
    rival = shutil.copytree(table_run.path, tmp_path / "rival")
    mine = {"mine": made(ids, risk, 0.3)}
    done = evaluate(table_run, folder, tmp_path / "x", embeddings=mine, compare=[rival])
    gain = row_of(done, "rival", versus="mine")
    assert gain.value == pytest.approx(row_of(done, "rival").value - row_of(done, "mine").value)
    assert gain.n == row_of(done, "mine").n == row_of(done, "rival").n
    done = evaluate(table_run, folder, tmp_path / "y", compare=[rival])
    gain = row_of(done, "rival", versus="covariates")
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)  # the same columns
    with pytest.raises(ConfigError, match="scored vectors made elsewhere") as told:
        evaluate(table_run, folder, tmp_path / "z", compare=[out / "run"])
    assert "--embeddings sharp=FILE" in told.value.fix
    table, _ = whas(60, seed=8)
    there = write_whas(tmp_path / "there", table, split={"everyone": "held_out"})
    with pytest.raises(ConfigError, match="nothing is fitted, so other runs"):
        evaluate(table_run, there, tmp_path / "w", compare=[rival])


def test_a_cohort_of_outcomes_alone_will_do(people, tmp_path, cache):
    _, ids, risk = people
    table, _ = whas(600)
    table["old"] = (table["age"] > 75).astype(int)
    folder = write_cohort(
        tmp_path / "c", table[["id", "old"]], subjects={"table": "table.csv", "id": "id"},
        tasks={"old": {"kind": "binary", "column": "old"}},
    )  # fmt: skip
    done = evaluate(embeddings={"v": made(ids, risk, 0.3)}, cohort=folder, out=tmp_path / "x")
    assert row_of(done, "v", "auroc").low > 0.5
    assert {row.method for row in done.results} == {"v", "majority"}


UNKNOWN = "whether the encoder saw these people, or their outcomes, is unknown"


@pytest.mark.parametrize(
    ("dataset", "made_by", "said"),
    [
        ("ptbxl", {}, UNKNOWN),
        (None, {"seen": {}}, f"{UNKNOWN}: the cohort does not say which data set it is"),
        ("acdc", {"seen": {"ukb": ""}}, f"{UNKNOWN}: nothing is said of acdc"),
        ("ukb", {"seen": {"ukb": "all"}}, "that it may have seen these people: trained on ukb"),
        ("acdc", {"seen": {"ukb": ""}, "clean": ["acdc"]},
         "that it did not see these people: trained on ukb"),
        ("ukb:part 2", {"seen": {"ukb": "part 1"}, "clean": ["ukb:part 2"]},
         "did not see who is scored, but others of these data: trained on ukb: part 1"),
    ],
)  # fmt: skip
def test_whom_an_encoder_saw_is_said_as_its_card_says_it(people, tmp_path, dataset, made_by, said):
    folder, ids, risk = people
    frame = made(ids, risk, 1.0)
    frame.attrs["medmcl"] = {"made_by": made_by}
    frame.to_parquet(tmp_path / "v.parquet")
    cohort = medmcl.open_cohort(folder, {} if dataset is None else {"cohort.dataset": dataset})
    line = lay_vectors("v", tmp_path / "v.parquet", cohort).fitted
    assert said in line.note
    assert (UNKNOWN in line.note) == said.startswith(UNKNOWN)


def laid(frame, folder, suffix=".csv", **written):
    """Lay a table of vectors over the samples of a cohort."""
    path = folder.parent / f"vectors{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, **written)
    else:
        frame.to_parquet(path, **written)
    return lay_vectors("v", path, medmcl.open_cohort(folder))


def test_ids_are_text_and_each_vector_finds_its_person(people):
    folder, ids, risk = people
    frame = made(ids, risk, 0.0)
    shuffled = frame.iloc[np.random.default_rng(0).permutation(len(ids))]
    found = laid(shuffled, folder)
    assert found.present.all()
    assert found.values == pytest.approx(frame.to_numpy())
    assert laid(shuffled.rename_axis(None), folder).values == pytest.approx(frame.to_numpy())
    named = laid(shuffled.rename_axis("id"), folder, ".parquet")
    assert named.values == pytest.approx(frame.to_numpy())
    archive = folder.parent / "vectors.npz"
    np.savez(archive, ids=np.array(ids), vectors=frame.to_numpy())
    found = lay_vectors("v", archive, medmcl.open_cohort(folder))
    assert found.values == pytest.approx(frame.to_numpy())


def test_what_has_no_vector_or_no_person_is_counted(people):
    folder, ids, risk = people
    frame = made(ids, risk, 0.0)
    frame.insert(0, "quality", "ok")
    frame.iloc[3, 0] = "signal.flat"
    frame.iloc[5, 1:] = np.nan
    frame["e5"] = 1.0
    frame.loc[ids[5], "e5"] = np.nan
    frame = frame.iloc[:-10]
    strangers = made(["x1", "x2"], [0, 0], 1.0)
    strangers["e5"] = 1.0
    found = laid(pd.concat([frame, strangers.assign(quality="ok")]), folder)
    assert found.present.sum() == len(ids) - 12
    assert not found.present[[3, 5]].any()
    said = " ".join(found.notes)
    for part in ("1 row of quality other than ok left out", "1 row without a number left out",
                 "2 of 590 vectors are of nobody in the cohort", "12 samples without a vector",
                 "1 of 6 columns are alike for everyone"):  # fmt: skip
        assert part in said, said


def test_records_are_told_apart_by_their_ids(tmp_path):
    table = pd.DataFrame({"id": ["a", "b"], "sick": [0, 1]})
    folder = write_cohort(
        tmp_path / "c", table, subjects={"table": "table.csv", "id": "id"},
        modalities={"note": {"reader": "text", "table": "notes.csv", "id": "id", "record": "n",
                             "column": "text"}},
        tasks={"sick": {"kind": "binary", "column": "sick"}},
    )  # fmt: skip
    notes = pd.DataFrame({"id": ["a", "a", "b"], "n": ["1", "2", "3"], "text": ["x", "y", "z"]})
    notes.to_csv(folder / "notes.csv", index=False)
    frame = pd.DataFrame({"subject": ["b", "a", "a"], "record": ["3", "2", "1"], "e0": [3, 2, 1]})
    cohort = medmcl.open_cohort(folder)
    found = laid(frame, folder, index=False)
    order = [(s, str(r)) for s, r in cohort.samples[["subject", "note"]].to_numpy()]
    wanted = {("a", "1"): 1, ("a", "2"): 2, ("b", "3"): 3}
    assert found.values[:, 0].tolist() == [wanted[one] for one in order]
    with pytest.raises(ConfigError, match="1 id with several vectors") as caught:
        laid(frame.drop(columns="record"), folder, index=False)
    assert "record" in str(caught.value.fix)
    embedded = frame.assign(quality=["ok", "ok", "text.empty"]).set_index(["subject", "record"])
    found = laid(embedded, folder, ".parquet")  # as Run.embed gives it, and medmcl embed writes it
    assert dict(zip(order, found.present, strict=True)) == {
        ("a", "1"): False, ("a", "2"): True, ("b", "3"): True,
    }  # fmt: skip
    broad = laid(pd.DataFrame({"subject": ["a", "b"], "e0": [1, 2]}), folder, index=False)
    assert broad.values[:, 0].tolist() == [1, 1, 2]  # of a subject: for each of its samples


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.reset_index(drop=True), "no column says whose the vectors are"),
        (lambda f: f.assign(word="abc"), r"word \('abc'\)"),
        (lambda f: f.assign(e1=np.where(np.arange(len(f)) == 4, np.inf, f["e1"])), "1 row of 600"),
        (lambda f: f.assign(e1=np.where(np.arange(len(f)) == 4, np.nan, f["e1"])), "e1: nan"),
        (lambda f: pd.concat([f, f.iloc[:2]]), "2 ids with several vectors"),
        (lambda f: f * 0 + 1, "every vector is the same"),
        (lambda f: f[[]], "there is no column of numbers"),
        (lambda f: f.set_axis([f"p{i}" for i in range(len(f))]).rename_axis("subject"),
         "no vector is of anybody"),
        (lambda f: f.set_axis(f.index.astype(int)).rename_axis("subject"), "but for zeros before"),
        (lambda f: f.set_axis([f"{one}.0" for one in f.index]).rename_axis("subject"), "a point"),
        (lambda f: f.set_axis([f"x/{one}.npy" for one in f.index]).rename_axis("subject"),
         "but for the folder and the ending"),
        (lambda f: f.set_axis([f"P{one}" for one in f.index]).rename_axis("subject"), "letters"),
        (lambda f: f.set_axis([f.index[0].lstrip("0"), *f.index[1:]]).rename_axis("subject"),
         "1 id of 600 agree with the cohort's but for the zeros"),
        (lambda f: f.assign(age=50.0), "1 column of 7 is called as the cohort's own"),
        (lambda f: f.assign(fstat=1.0), "what the task 'death' is made of"),
    ],
)  # fmt: skip
def test_vectors_that_cannot_be_used_are_refused_with_what_and_how(people, change, words):
    folder, ids, risk = people
    frame = change(made(ids, risk, 0.3))
    with pytest.raises(ConfigError, match=words):
        laid(frame, folder, ".parquet")


def test_files_that_cannot_be_used_are_refused_before_anything_is_written(people, tmp_path):
    folder, ids, risk = people
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no parquet")
    np.save(tmp_path / "bare.npy", np.zeros((3, 2)))
    np.savez(tmp_path / "odd.npz", vectors=np.zeros((3, 2)))
    (tmp_path / "v.txt").write_text("x")
    for name, words in (
        ("broken.parquet", "cannot be read"), ("bare.npy", "does not say whose"),
        ("odd.npz", "does not hold ids and vectors"), ("v.txt", "the suffix says no table"),
        ("gone.csv", "there is no such file"), (".", "is a folder"),
    ):  # fmt: skip
        with pytest.raises(MedmclError, match=words):
            evaluate(embeddings={"v": tmp_path / name}, cohort=folder, out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
    frame = made(ids, risk, 0.3)
    for given, words in (
        ({"embeddings": frame}, "where the report is written is not said"),
        ({}, "there is nothing to evaluate"),
        ({"embeddings": frame, "out": folder / "x", "compare": ["r"]}, "cannot be compared"),
    ):
        with pytest.raises(ConfigError, match=words):
            medmcl.evaluate(cohort=folder, **given)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{}")
    with pytest.raises(ArtefactError, match="is a run folder already"):
        medmcl.evaluate(embeddings=frame, cohort=folder, out=tmp_path / "run")


@pytest.mark.parametrize("given", [np.zeros((2, 3)), {"v": {"a": [0.0, 1.0]}}, {"v": None}])
def test_what_is_neither_a_table_nor_a_file_is_told(given):
    with pytest.raises(ConfigError, match="a DataFrame indexed by subject"), vectors_by_name(given):
        pass


def test_names_are_the_stems_of_files_and_stand_once(tmp_path):
    with vectors_by_name([tmp_path / "a.b.csv.gz", f"mine={tmp_path}/c.npz"]) as found:
        assert list(found) == ["a.b", "mine"]
    with pytest.raises(ConfigError, match="two files of vectors have one name"):  # noqa: SIM117 - one with
        with vectors_by_name(["x/v.csv", "y/v.parquet"]):
            pass


def test_vectors_that_hold_the_outcome_are_warned_of(tmp_path, monkeypatch, caplog, cache):
    table = whas(120)[0].assign(case=np.arange(120) % 2)
    tasks = {"case": {"kind": "binary", "column": "case"}}
    folder = write_cohort(tmp_path / "c", table, subjects={"table": "table.csv", "id": "id"},
                          tasks=tasks)  # fmt: skip
    leaky = pd.DataFrame({"e0": table["case"], "e1": table["age"]}).set_index(table["id"])
    leaky.index.name = "subject"
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")
    evaluate(embeddings={"leaky": leaky}, cohort=folder, out=tmp_path / "run")
    line = "case: AUROC of 1.000 (leaky) on held-out people is rarely true: look for the outcome"
    assert f"warning: {line}" in caplog.text
    told = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert line in " ".join(told["headline"])


@pytest.mark.usefixtures("unpainted")
def test_columns_of_later_vectors_are_matched_by_name(scored, tmp_path, caplog, monkeypatch):
    """A probe is of columns by name: in another order the same file gives the same numbers."""
    _, out = scored
    table, risk = whas(200, seed=8)
    there = write_whas(tmp_path / "there", table, split={"everyone": "held_out"})
    sharp, dull = made(table["id"], risk, 0.3, 5), made(table["id"], risk, 3.0, 6)
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level("INFO")

    def on(folder, one):
        frames = {"sharp": one, "dull": dull}
        return evaluate(out / "run", there, tmp_path / folder, {}, embeddings=frames)

    same = on("x", sharp)
    assert "outside" not in caplog.text
    turned = on("y", sharp[sharp.columns[::-1]])
    assert row_of(turned, "sharp").value == row_of(same, "sharp").value > 0.6
    assert "sharp: columns put into the order of the run, by name" in turned.notes
    bare = on("z", sharp.set_axis([str(n) for n in range(6)], axis=1))  # e0.. are places, too
    assert row_of(bare, "sharp").value == row_of(same, "sharp").value
    for number, other in enumerate(
        (sharp.rename(columns={"e2": "f2"}), sharp.drop(columns="e2"), sharp.assign(f2=1.0))
    ):
        with pytest.raises(ConfigError, match="not those that the kept probe reads") as caught:
            on(f"no{number}", other)
        assert ("f2" in caught.value.got, "e2" in caught.value.expected) in (
            (True, True), (False, True), (True, False),
        )  # fmt: skip
    for factor in (10, 0.01):
        far = on(f"far{factor}", sharp * factor)
        (line,) = (one for one in far.strange if one.startswith("sharp: "))
        assert f"warning: {line}" in caplog.text


@pytest.mark.usefixtures("unpainted")
def test_names_of_columns_are_kept_where_only_arrays_came_later(people, tmp_path, cache):
    folder, ids, risk = people
    named = made(ids, risk, 0.3).rename(columns=lambda name: name.replace("e", "dim_"))
    evaluate(embeddings={"v": named}, cohort=folder, out=tmp_path / "run")
    table, risk = whas(60, seed=8)
    there = write_whas(tmp_path / "there", table, split={"everyone": "held_out"})
    array = tmp_path / "v.npz"
    np.savez(array, ids=table["id"].to_numpy(str), vectors=made(table["id"], risk, 0.3).to_numpy())
    with pytest.raises(ConfigError, match="not those that the kept probe reads") as caught:
        evaluate(tmp_path / "run", there, tmp_path / "x", {}, embeddings=array)
    assert "dim_0" in caught.value.expected


def test_predict_of_vectors_says_that_it_takes_the_covariates_instead(scored, people):
    _, out = scored
    _, notes = plan_tasks(medmcl.load(out / "run"))
    (said,) = notes
    assert said.startswith("predicted by 'covariates': the run's first method is of vectors made")
    assert "(sharp, dull)" in said
    assert plan_tasks(medmcl.load(out / "run"), method="covariates")[1] == []


def test_columns_of_the_cohort_are_vectors_where_all_are_or_a_run_knows_them(people):
    folder, ids, risk = people
    frame = made(ids, risk, 0.3).rename(columns={"e0": "age"})
    with pytest.raises(ConfigError, match="called as the cohort's own"):
        laid(frame, folder)
    assert laid(frame[["age"]], folder).columns == ("age",)
    path = folder.parent / "known.csv"
    frame.to_csv(path)
    known = tuple(frame.columns)
    assert lay_vectors("v", path, medmcl.open_cohort(folder), known).columns == known
    with pytest.raises(ConfigError, match="called as the cohort's own"):
        lay_vectors("v", path, medmcl.open_cohort(folder), [f"e{k}" for k in range(6)])
