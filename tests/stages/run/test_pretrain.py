import json
import os
import re
import shutil
import signal

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from changed_files import changed_copy, rewrite
from processes import assert_same_weights, run_in_two, weights
from read_pages import check_pages
from short_runs import unreported
from tiny_runs import STAGES, tiny
from typed import answer

import medmcl
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, MedmclError
from medmcl.engine.checkpoint import load_weights_file
from medmcl.engine.record import read_metrics

pytestmark = pytest.mark.usefixtures("cache")


def arguments(cohort, out, **more):
    words = ["pretrain", "--cohort", str(cohort), "--recipe", "ecg_cmr_toy", "--out", str(out)]
    values = {**tiny("ecg_cmr_toy"), "stages.results.tasks": ["lvef"], **more}
    values["stages.finetune-{task}-{label_fraction}.for_each"] = {
        "task": ["lvef"],
        "label_fraction": [1.0],
    }
    for key, value in values.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


@pytest.mark.parametrize("recipe", sorted(STAGES))
def test_every_toy_recipe_runs_to_its_report(recipe, hearts, tmp_path, request):
    if recipe == "ecg_cmr_toy":
        run = request.getfixturevalue("trained")
    else:
        run = medmcl.pretrain(
            hearts, recipe=recipe, out=tmp_path / "run", overrides=tiny(recipe), device="cpu"
        )
    report = "".join(check_pages(run.path))
    assert "http://" not in report.replace("http://www.w3.org", "")
    results = pd.read_csv(run.path / "results.csv")
    assert {"lvef", "heart_failure", "infarct"} <= set(results["task"])
    assert (results["protocol"] == "fine_tune").any()
    if recipe == "ecg_text_toy":
        zero_shot = results[results["protocol"] == "zero_shot"]
        assert set(zero_shot["task"]) == {"infarct"}
        assert "ecg → report" in set(results["target"])
    for stage in STAGES[recipe]:
        lines = [r for r in read_metrics(run.path / "metrics.jsonl") if r["stage"] == stage]
        assert max(line["step"] for line in lines) == run.facts(stage)["steps"]
        assert weights(run.path, stage)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("recipe", sorted(STAGES))
def test_every_toy_recipe_runs_in_bf16_on_a_gpu(recipe, hearts, tmp_path):
    run = medmcl.pretrain(
        hearts, recipe=recipe, out=tmp_path / "run", overrides=tiny(recipe),
        device="cuda", precision="bf16",
    )  # fmt: skip
    rows = read_metrics(run.path / "metrics.jsonl")
    assert rows
    assert all(row["loss"] is not None for row in rows)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trained, hearts, tmp_path):
    given = {"recipe": "ecg_cmr_toy", "overrides": tiny("ecg_cmr_toy")}
    again = unreported(hearts, out=tmp_path / "again", **given)
    assert_same_weights(trained.path, again.path, ("mdm", "mmcl", "finetune-lvef-1.0"))
    other = unreported(hearts, out=tmp_path / "other", seed=1, **given)
    assert any(
        not torch.equal(value, weights(other.path, "mdm")[name])
        for name, value in weights(trained.path, "mdm").items()
    )


def test_log_files_hold_lines_and_no_bar(hearts, tmp_path):
    done = answer(*arguments(hearts, tmp_path / "run"), "--workers", "0")
    assert "mmcl  step 6/6" in done.stdout
    assert "\r" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"^report: .*report\.html\n(  .*\n)*\Z", done.stdout, re.M)


def test_a_run_folder_is_never_overwritten_and_resume_needs_the_same_settings(trained, hearts):
    overrides = tiny("ecg_cmr_toy")
    kwargs = {"recipe": "ecg_cmr_toy", "out": trained.path, "device": "cpu"}
    with pytest.raises(ArtefactError, match="not empty"):
        medmcl.pretrain(hearts, overrides=overrides, **kwargs)
    with pytest.raises(ConfigError, match="other settings") as caught:
        medmcl.pretrain(
            hearts, overrides={**overrides, "stages.mmcl.steps": 9}, resume=True, **kwargs
        )
    assert "6 -> 9" in str(caught.value)
    with pytest.raises(ConfigError, match="needs --out"):
        medmcl.pretrain(hearts, recipe="ecg_cmr_toy", resume=True)


def test_resuming_a_finished_run_changes_nothing(trained, hearts):
    before = weights(trained.path, "mmcl")
    medmcl.pretrain(
        hearts, recipe="ecg_cmr_toy", out=trained.path, overrides=tiny("ecg_cmr_toy"),
        device="cpu", resume=True,
    )  # fmt: skip
    after = weights(trained.path, "mmcl")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


TABLE = "participants.tsv"


def negative(table):
    """A change of the table: a time that cannot be."""
    table.loc[3, "hf_days"] = -5


def spoil(hearts, tmp_path):
    """A copy of the cohort in which one train record is NaN and one is flat."""
    copy = tmp_path / "spoilt"
    shutil.copytree(hearts, copy)
    array = np.load(copy / "shards" / "ecg.npy")
    table = pd.read_csv(copy / "participants.tsv", sep="\t")
    rows = table[table["split"] == "train"]["ecg_row"].dropna().astype(int).to_numpy()
    array[rows[0]] = np.nan
    array[rows[1]] = 0.0
    np.save(copy / "shards" / "ecg.npy", array)
    return copy


def test_bad_records_refuse_a_run_or_are_excluded_and_counted(hearts, tmp_path, caplog):
    copy = spoil(hearts, tmp_path)
    overrides = {**tiny("ecg_mdm_toy"), "stages.results.tasks": ["lvef"]}
    kwargs = {"recipe": "ecg_mdm_toy", "device": "cpu"}
    with pytest.raises(CohortError) as caught:
        medmcl.pretrain(copy, out=tmp_path / "a", overrides=overrides, **kwargs)
    assert "ecg.nan" in str(caught.value)
    assert "ecg.flat" in str(caught.value)
    assert "on_bad_record=exclude" in str(caught.value)
    whole = unreported(hearts, recipe="ecg_mdm_toy", out=tmp_path / "b", overrides=overrides)
    caplog.set_level("INFO", logger="medmcl")
    run = medmcl.pretrain(
        copy, out=tmp_path / "c", overrides={**overrides, "cohort.on_bad_record": "exclude"},
        **kwargs,
    )  # fmt: skip
    said = [line for line in caplog.messages if line.startswith("excluded 2 records of ")]
    assert len(said) == 1
    assert "ecg.nan 1" in said[0]
    assert said[0].endswith("(cohort.on_bad_record: exclude)")
    fewer = run.facts("mdm")["rows"]
    assert fewer == whole.facts("mdm")["rows"] - 2
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    assert {"ecg.nan", "ecg.flat"} <= {finding["code"] for finding in report["findings"]}
    flow = {step["step"]: step["samples"] for step in report["flow"]}
    assert (flow["with ecg"], flow["with ecg usable"]) == (160, "156 to 159")  # 2 are left out


def test_a_faulty_outcome_refuses_only_what_uses_it(hearts, tmp_path):
    copy = changed_copy(hearts, tmp_path / "negative", TABLE, negative)
    overrides = tiny("ecg_mdm_toy")
    with pytest.raises(CohortError, match=r"hf_days|heart_failure"):
        medmcl.pretrain(copy, recipe="ecg_mdm_toy", out=tmp_path / "a", overrides=overrides)
    used = {**overrides, "stages.results.tasks": ["lvef"]}
    assert unreported(copy, recipe="ecg_mdm_toy", out=tmp_path / "b", overrides=used) is not None


def test_outcomes_and_records_at_fault_are_refused_together(hearts, tmp_path, monkeypatch):
    copy = spoil(hearts, tmp_path)
    rewrite(copy / TABLE, negative)
    kwargs = {"recipe": "ecg_mdm_toy", "device": "cpu", "overrides": tiny("ecg_mdm_toy")}
    with pytest.raises(CohortError) as caught:
        medmcl.pretrain(copy, out=tmp_path / "a", **kwargs)
    for words in ("task.negative_time", "ecg.nan", "ecg.flat"):
        assert words in caught.value.what
    for words in ("cohort.tasks.heart_failure=null", "cohort.on_bad_record=exclude"):
        assert words in caught.value.fix
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr("medmcl.stages.run.pretrain._READ_AT_ONCE", 10)  # too many to wait for
    with pytest.raises(CohortError) as caught:
        medmcl.pretrain(copy, out=tmp_path / "b", **kwargs)
    assert "task.negative_time" in caught.value.what
    assert "ecg.nan" not in caught.value.what


def test_resuming_where_nothing_lies_says_so(hearts, tmp_path, caplog):
    caplog.set_level("INFO", logger="medmcl")
    kwargs = {
        "recipe": "ecg_mdm_toy", "out": tmp_path / "new", "resume": True,
        "overrides": {**tiny("ecg_mdm_toy"), "stages.results.tasks": ["lvef"]},
    }  # fmt: skip
    unreported(hearts, **kwargs)
    said = f"nothing to resume in {tmp_path / 'new'}; starting"
    assert caplog.messages.count(said) == 1
    caplog.clear()
    unreported(hearts, **kwargs)
    assert said not in caplog.messages


def test_a_recipe_for_another_cohort_names_what_is_missing(hearts, tmp_path):
    with pytest.raises(ConfigError, match="nope"):
        medmcl.pretrain(
            hearts, recipe="ecg_mdm_toy", out=tmp_path / "a",
            overrides={"inputs.nope": {}, **tiny("ecg_mdm_toy")},
        )  # fmt: skip


def test_embedding_gives_a_row_a_record_with_its_quality(trained, hearts, tmp_path):
    run = medmcl.load(trained.path)
    table = run.embed(hearts, device="cpu")
    cohort = medmcl.open_cohort(hearts)
    assert len(table) == len(cohort.records["ecg"])
    assert table.index.names == ["subject", "record"]
    assert (table["quality"] == "ok").all()
    assert np.isfinite(table.filter(regex="^e[0-9]+$").to_numpy()).all()
    spoilt = run.embed(spoil(hearts, tmp_path), device="cpu")
    bad = spoilt[spoilt["quality"] != "ok"]
    assert len(bad) == 2
    assert bad.filter(regex="^e[0-9]+$").isna().all(axis=None)
    good = spoilt[spoilt["quality"] == "ok"].drop(columns="quality")
    pd.testing.assert_frame_equal(good, table.drop(columns="quality").loc[good.index])
    shared = run.embed(hearts, modality="cmr", stage="mmcl", space="pooled", device="cpu")
    norms = np.linalg.norm(shared.filter(regex="^e[0-9]+$").to_numpy(), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)


def test_real_files_embed_like_the_shards_of_the_same_subjects(trained, hearts):
    run = medmcl.load(trained.path)
    shards = run.embed(hearts, device="cpu").droplevel("record").drop(columns="quality")
    files = run.embed(hearts / "cohort_files.yaml", device="cpu").droplevel("record")
    assert (files.pop("quality") == "ok").all()
    assert len(files) == 4
    partner = shards.loc[files.index].to_numpy()
    cosine = (partner * files.to_numpy()).sum(1) / (
        np.linalg.norm(partner, axis=1) * np.linalg.norm(files.to_numpy(), axis=1)
    )
    assert (cosine > 0.98).all()  # 500 Hz int16 files against 100 Hz float16 shards


def test_a_run_is_scored_again_and_beside_another(trained, hearts, tmp_path):
    evaluation = medmcl.evaluate(
        trained.path, hearts, tasks=["lvef"], label_fractions=[0.5, 1.0],
        compare=[trained.path], out=tmp_path / "scored", device="cpu",
    )  # fmt: skip
    assert (evaluation.folder / "report.html").exists()
    results = pd.read_csv(evaluation.folder / "results.csv")
    assert set(results[results["task"] == "lvef"]["label_fraction"]) == {0.5, 1.0}
    assert trained.path.name in set(results["method"])
    with pytest.raises(ArtefactError, match="holds a report already"):
        medmcl.evaluate(trained.path, hearts, out=tmp_path / "scored", device="cpu")
    with pytest.raises(ArtefactError, match="its own report stays"):
        medmcl.evaluate(trained.path, hearts, out=trained.path, overwrite=True, device="cpu")
    with pytest.raises(CohortError, match="did you mean 'lvef'"):
        medmcl.evaluate(trained.path, hearts, tasks=["lvf"], out=tmp_path / "x")


def test_training_cannot_read_held_out(hearts, tmp_path):
    from medmcl.data.loading.prepare import prepare

    cohort = medmcl.open_cohort(hearts)
    prepared = prepare(cohort, {"ecg": {"rate_hz": 100, "seconds": 5}}, cache=tmp_path)
    with pytest.raises(ArtefactError, match="held_out"):
        prepared.rows("held_out")
    shut = np.flatnonzero(prepared.splits == "held_out")
    assert not prepared.tasks("lvef").known[shut].any()
    with pytest.raises(ArtefactError, match="held_out"):
        prepared.batch(shut[:2])


def test_a_damaged_checkpoint_names_the_file(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.path, copy)
    folder = medmcl.load(copy).checkpoints("mmcl").find("best")
    (folder / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(ArtefactError, match=r"weights\.safetensors"):
        load_weights_file(folder / "weights.safetensors")
    with pytest.raises(ArtefactError, match=r"weights\.safetensors"):
        medmcl.load(copy).learner("mmcl", torch.device("cpu"))


def test_what_is_not_a_run_says_so(tmp_path):
    with pytest.raises(ArtefactError, match="not a run folder"):
        medmcl.load(tmp_path)


def test_a_tower_starts_from_a_local_weights_file_and_the_run_says_so(
    trained, hearts, tmp_path, caplog
):
    from safetensors.torch import save_file

    prefix = "model.towers.ecg.encoder."
    saved = {
        name.removeprefix(prefix): value.contiguous()
        for name, value in weights(trained.path, "mmcl").items()
        if name.startswith(prefix)
    }
    save_file(saved, tmp_path / "encoder.safetensors")
    overrides = {
        **tiny("ecg_mdm_toy"),
        "stages.results.tasks": ["lvef"],
        "stages.mdm.weights": {"ecg": {"path": str(tmp_path / "encoder.safetensors")}},
        "stages.mdm.steps": 1,
        "stages.mdm.optimiser.lr": 0.0,
    }
    kwargs = {"recipe": "ecg_mdm_toy", "overrides": overrides}
    with caplog.at_level("INFO", logger="medmcl"):
        run = unreported(hearts, out=tmp_path / "run", **kwargs)
    assert "encoder.safetensors" in caplog.text
    trained_from = weights(run.path, "mdm")
    assert all(torch.equal(value, trained_from[prefix + name]) for name, value in saved.items())
    (tmp_path / "encoder.safetensors").write_bytes(b"junk")
    with pytest.raises(ArtefactError, match=r"encoder\.safetensors"):
        unreported(hearts, out=tmp_path / "b", **kwargs)


def test_two_processes_run_a_recipe_with_missing_modalities(tmp_path):
    from medmcl.simulation.kinds import simulate

    patchy = simulate(
        "heart", tmp_path / "h", {"subjects": 120, "form": "shards", "missing_cmr": 0.3}
    )
    words = arguments(patchy, tmp_path / "run", **{"stages.mmcl.rows": "any"})
    run_in_two(words)
    run = medmcl.load(tmp_path / "run")
    assert run.facts("mmcl")["steps"] == 6
    facts = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    assert facts["processes"] == 2


@pytest.mark.usefixtures("unpainted")
def test_another_cohort_with_the_ecg_alone_is_scored_by_what_it_has(trained, hearts, tmp_path):
    alone = tmp_path / "ecg_only.yaml"
    tree = yaml.safe_load((hearts / "cohort.yaml").read_text(encoding="utf-8"))
    tree["modalities"] = {"ecg": tree["modalities"]["ecg"]}
    tree["data_root"] = str(hearts)
    alone.write_text(yaml.safe_dump(tree), encoding="utf-8")
    evaluation = medmcl.evaluate(trained.path, alone, tasks=["lvef"], out=tmp_path / "x")
    notes = " ".join(evaluation.notes)
    assert "retrieval left out" in notes
    assert "covariates left out" in notes
    assert "maps left out" in notes
    assert {"MDM + contrastive", "fine-tuned"} <= {row.method for row in evaluation.results}
    rewrite(alone, lambda tree: tree["subjects"].update(split={"everyone": "held_out"}))
    evaluation = medmcl.evaluate(trained.path, alone, tasks=["lvef"], out=tmp_path / "y")
    assert {"MDM + contrastive", "fine-tuned"} <= {row.method for row in evaluation.results}
    assert "have a record that the run learned from: not scored" in " ".join(evaluation.notes)
    evaluation = medmcl.evaluate(
        trained.path, alone, tasks=["lvef"], out=tmp_path / "z", probe="refit"
    )
    assert {row.method for row in evaluation.results} == {"fine-tuned"}
    assert "no labelled train subjects" in " ".join(evaluation.notes)


def test_vectors_of_people_who_are_all_held_out_are_refused_in_words(hearts, tmp_path):
    alone = tmp_path / "all"
    shutil.copytree(hearts, alone)
    rewrite(alone / "cohort.yaml",
            lambda tree: tree["subjects"].update(split={"everyone": "held_out"}))  # fmt: skip
    people = pd.read_csv(alone / "participants.tsv", sep="\t", dtype={"subject_id": str})
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(len(people), 4)))
    vectors = vectors.set_axis([f"v{k}" for k in range(4)], axis=1)
    vectors.assign(subject_id=people["subject_id"]).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(CohortError, match="nobody can be scored") as told:
        medmcl.evaluate(embeddings=tmp_path / "v.csv", cohort=alone, tasks=["infarct"],
                        out=tmp_path / "out", device="cpu")  # fmt: skip
    assert "no labelled train subjects" in str(told.value)
    assert "give train people" in str(told.value)


def test_an_outcome_at_fault_refuses_a_recipe_that_uses_all_and_can_be_left_out(hearts, tmp_path):
    copy = changed_copy(hearts, tmp_path / "one_class", TABLE, lambda t: t.assign(infarct=0))
    overrides = {**tiny("ecg_mdm_toy"), "stages.results.tasks": "all"}
    kwargs = {"recipe": "ecg_mdm_toy", "device": "cpu"}
    with pytest.raises(CohortError, match=r"--set cohort\.tasks\.infarct=null"):
        medmcl.pretrain(copy, out=tmp_path / "a", overrides=overrides, **kwargs)
    assert not (tmp_path / "a").exists()
    one = {"task": ["lvef"], "label_fraction": [1.0]}
    overrides["stages.finetune-{task}-{label_fraction}.for_each"] = one
    overrides["cohort.tasks.infarct"] = None
    run = medmcl.pretrain(copy, out=tmp_path / "b", overrides=overrides, **kwargs)
    assert "infarct" not in set(pd.read_csv(run.path / "results.csv")["task"])


def test_what_would_fail_in_a_late_stage_fails_before_the_first(hearts, tmp_path):
    overrides = {**tiny("ecg_mdm_toy"), "stages.results.tasks": ["lvef"]}
    overrides["stages.finetune-{task}-{label_fraction}.objectives.supervised.settings"] = {}
    with pytest.raises(MedmclError, match=r"task|modalities"):
        medmcl.pretrain(hearts, recipe="ecg_mdm_toy", out=tmp_path / "a", overrides=overrides)
    assert not (tmp_path / "a" / "checkpoint").exists()


def test_a_stop_while_records_are_read_can_be_resumed_too(hearts, tmp_path):
    from medmcl.engine.signals import Interrupted, StopRequest

    stop = StopRequest()
    stop.check_interrupt("reading records")
    with stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="reading records"):
            stop.check_interrupt("reading records")
