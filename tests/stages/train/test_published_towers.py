"""Published encoders in recipes: weights of a file, the card's preparation, whose they are."""

import logging

import numpy as np
import pandas as pd
import pytest
import yaml
from published_weights import save
from short_runs import unreported
from small_encoder import WIDTH, weights_of

import medmcl
from medmcl import models
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.modalities.ecg.adapter import ECG, ECGSettings
from medmcl.stages.run.embed import EmbedCommand
from medmcl.stages.run.embedding import provenance_of_table
from medmcl.stages.run.report import _published


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "heart"
    medmcl.simulate("heart", folder, {"subjects": 16, "cmr_file_size": 32})
    return folder


@pytest.fixture(scope="module")
def file(encoder_file):
    return encoder_file


def recipe(file, inputs=None, stage=None, **tower):
    encoder = {"name": "turgut_ecg", "variant": "global_pool", "weights": str(file)}
    return {
        "schema": "medmcl/recipe@1",
        "name": "published",
        "inputs": {"ecg": inputs or {}},
        "towers": {"ecg": {"encoder": encoder, **tower}},
        "stages": [{
            "stage": "train", "name": "tune", "towers": ["ecg"], "task": "infarct",
            "objectives": {
                "supervised": {"task": "infarct", "modalities": ["ecg"], "view": "plain"},
            },
            "batch_size": 8, "steps": 1, "keep": "last", **(stage or {}),
        }],
    }  # fmt: skip


def of_the_model(cohort, file, record):
    """What the model itself makes of one record of a cohort."""
    model = models.load("turgut_ecg:global_pool", weights=file)
    opened = medmcl.open_cohort(cohort)
    reader = ECG(opened.spec.modalities["ecg"].source, ECGSettings())
    raw = reader.read(opened.records["ecg"]["place"].loc[record])
    x = model.prepare(raw.signal_mv, leads=raw.leads, rate_hz=raw.rate_hz)
    return model.features(x[None])[0]


def test_a_frozen_one_gives_what_the_model_gives(cohort, file, tmp_path):
    copy = tmp_path / "copy.pth"
    copy.write_bytes(file.read_bytes())
    run = unreported(cohort, recipe=recipe(copy, frozen="encoder"), out=tmp_path / "run")
    asked = run.recipe.inputs["ecg"]
    assert (asked["steps"], asked["seconds"], asked["rate_hz"]) == ([], 5, 500)
    said = run.facts("tune")["published"]["ecg"]
    assert (said["model"], said["variant"], said["commercial"]) == (
        "turgut_ecg", "global_pool", False
    )  # fmt: skip
    assert len(said["weights_sha256"]) == 64
    assert _published(run) == [
        "ecg of stage tune started from turgut_ecg (oetu/mae@68851df; CC BY-NC 4.0; "
        "NO COMMERCIAL USE)"
    ]
    copy.unlink()  # a finished run does without it
    table = medmcl.load(run.path).embed(cohort, stage="tune")
    parts = {"run": run.path, "stage": "tune", "cohort": str(cohort), "device": "cpu"}
    for shard, out in ((None, "whole"), ("2/2", "shards"), ("1/2", "shards")):
        EmbedCommand(out=tmp_path / f"{out}.parquet", shard=shard, **parts).write()
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "shards.parquet").read_bytes() == whole
    said = provenance_of_table(tmp_path / "whole.parquet")["made_by"]
    assert said["published"]["ecg"]["licence"] == "CC BY-NC 4.0"
    stored = of_the_model(cohort, file, table.index[3][1])
    found = table.iloc[3].drop("quality").to_numpy(np.float64)
    assert np.abs(found - stored).max() < 1e-5 * stored.std()


@pytest.mark.parametrize("way", [{}, {"lora": {"rank": 2}}, {"trainable_layers": 1}])
def test_fine_tuning_moves_it(cohort, file, tmp_path, way):
    stage = {"steps": 2, "optimiser": {"lr": 1e-2, "layer_decay": 0.75, "warmup": 0}}
    run = unreported(cohort, recipe=recipe(file, stage=stage, **way), out=tmp_path / "run")
    table = medmcl.load(run.path).embed(cohort, stage="tune")
    stored = of_the_model(cohort, file, table.index[0][1])
    assert np.abs(table.iloc[0].drop("quality").to_numpy(np.float64) - stored).max() > 1e-3


def test_another_preparation_is_said(cohort, file, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    caplog.set_level(logging.INFO, "medmcl")
    changed = recipe(file, inputs={"missing_samples": "zero"}, frozen="encoder")
    unreported(cohort, recipe=changed, out=tmp_path / "run")
    assert any("no commercial use" in one.message for one in caplog.records)
    assert any("missing_samples is zero, not refuse" in one.message for one in caplog.records)


def test_check_says_before_training_which_settings_are_not_the_cards(cohort, file, tmp_path):
    def found(**inputs):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(file, inputs=inputs)))
        done = medmcl.check(cohort, recipe=tmp_path / "recipe.yaml")
        assert not [one for one in done if one.level == "error"]
        return [one for one in done if one.code == "recipe.other_inputs"]

    assert found() == found(missing_samples="refuse") == []  # as the card says it
    (one,) = found(missing_samples="zero", steps=[{"step": "zscore", "over": "lead"}])
    assert (one.level, one.where) == ("warning", "inputs.ecg")
    assert "missing_samples is zero, not refuse" in one.what
    assert "steps is [{step: zscore, over: lead}], not []" in one.what
    assert "inputs.ecg" in one.fix


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": {"baseline": "als"}}, "steps replace baseline"),
        ({"inputs": {"seconds": 4}}, "cannot take an input of this size"),
        ({"encoder": {"name": "turgut_ecg", "variant": "mean"}}, "attention_pool"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(cohort, file, tmp_path, change, words):
    tree = recipe(file, inputs=change.get("inputs"))
    tree["towers"]["ecg"]["encoder"] = change.get("encoder", tree["towers"]["ecg"]["encoder"])
    with pytest.raises(MedmclError, match=words):
        unreported(cohort, recipe=tree, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_check_finds_an_absent_and_a_wrong_file(cohort, file, tmp_path):
    path = tmp_path / "recipe.yaml"
    for weights, words in (
        (tmp_path / "absent.pth", f"(towers.ecg.encoder.weights, {tmp_path / 'absent.pth'})"),
        (save(weights_of("cls"), tmp_path / "cls.pth", "model"), "turgut_ecg:cls"),
    ):
        path.write_text(yaml.safe_dump(recipe(weights)))
        told = medmcl.check(cohort, recipe=path)
        assert any(words in f"{one.what} {one.fix}" for one in told), words


def test_a_run_that_began_with_weights_that_saw_who_is_scored_says_so(file, tmp_path):
    folder = tmp_path / "heart"
    medmcl.simulate("heart", folder, {"subjects": 32, "cmr_file_size": 16})
    told = (folder / "cohort.yaml").read_text()
    tree = recipe(file, stage={"steps": 1})
    tree["stages"].append({
        "stage": "evaluate", "name": "results", "tasks": ["infarct"], "baselines": ["majority"],
        "bootstrap_draws": 100, "finetuned": {"fine-tuned": "tune"},
        "probe": {"modality": "ecg", "models": {"tuned": "tune", "before": "untrained"}},
    })  # fmt: skip
    asked = {"overwrite": True, "device": "cpu"}

    def made(dataset):
        (folder / "cohort.yaml").write_text(f"{told}\ndataset: {dataset}\n")
        run = medmcl.pretrain(folder, recipe=tree, out=tmp_path / dataset, device="cpu")
        rows = pd.read_csv(run.path / "results.csv")
        marked = rows["note"].astype(str).str.contains("NO EVIDENCE OF TRANSFER")
        sides = rows[["method", "versus"]].isin(["tuned", "fine-tuned"]).any(axis=1)
        assert not (marked & ~sides).any()  # neither what is untrained nor a baseline
        return (
            run,
            {*rows["method"][marked & rows["versus"].isna()]},
            (run.path / "report.html").read_text(),
        )

    run, methods, page = made("ukb")
    assert methods == {"tuned", "fine-tuned"}
    assert "NO EVIDENCE OF TRANSFER: trained on ukb" in page
    with pytest.raises(ConfigError, match="no evidence of transfer"):
        medmcl.evaluate(run.path, folder, **asked)
    done = medmcl.evaluate(run.path, folder, allow_overlap=True, **asked)
    assert any("NO EVIDENCE" in row.note for row in done.results if row.method == "tuned")
    _, methods, page = made("ptbxl")  # which the card says is clean
    assert not methods
    assert "NO EVIDENCE OF TRANSFER" not in page


def test_it_is_aligned_with_another_modality(cohort, file, tmp_path):
    """The tower learns by the loss of the pairs alone, and the rest of the recipe is as ever."""
    tree = recipe(file, head={"layers": 1, "out": 8})
    tree["inputs"]["cmr"] = {"mode": "multi_frame_2d", "size": 32, "crop": "none"}
    tree["towers"]["cmr"] = {
        "encoder": {"name": "small_cnn", "widths": [8, 8]}, "head": {"layers": 1, "out": 8}
    }  # fmt: skip
    tree["stages"] = [{
        "stage": "train", "name": "align", "towers": ["ecg", "cmr"], "batch_size": 8, "steps": 2,
        "objectives": {"cross_modal": {"pairs": [["ecg", "cmr"]], "view": "plain"}}, "keep": "last",
        "optimiser": {"lr": 1e-2, "warmup": 0},
    }]  # fmt: skip
    run = unreported(cohort, recipe=tree, out=tmp_path / "run")
    assert list(run.facts("align")["published"]) == ["ecg"]
    table = medmcl.load(run.path).embed(cohort, stage="align", modality="ecg")
    stored = of_the_model(cohort, file, table.index[0][1])
    assert np.abs(table.iloc[0].drop("quality").to_numpy(np.float64) - stored).max() > 1e-3


def test_autobind_on_top_of_it(cohort, file, tmp_path):
    encoder = {"name": "turgut_ecg", "variant": "global_pool", "weights": str(file)}
    brief = {
        "kinds.ecg.tower.encoder": encoder,
        "stages.bind.steps": 2,
        "stages.bind.batch_size": 8,
        "stages.bind.objectives.cross_modal.min_rows": 2,
        "stages.bind.objectives.cross_modal.pairs.min_rows": 2,
    }
    with pytest.raises(ConfigError, match=r"kinds\.ecg\.input: \{\}"):
        unreported(cohort, recipe="autobind_toy", out=tmp_path / "run", overrides=brief)
    brief["kinds.ecg.input"] = {}  # the card says it
    run = unreported(cohort, recipe="autobind_toy", out=tmp_path / "run", overrides=brief)
    assert list(run.facts("bind")["published"]) == ["ecg"]
    assert run.recipe.inputs["ecg"]["rate_hz"] == 500


def test_multistage_on_top_of_it(cohort, file, tmp_path):
    """Groups of a frozen model's embeddings are the negatives of a stage that tunes it."""
    contrast = {
        "stage": "train", "towers": ["ecg"], "batch_size": 4, "steps": 1, "keep": "last",
        "objectives": {"in_modal": {"modality": "ecg"}},
    }  # fmt: skip
    view = {"augment": {"ecg": {"noise": 0.1}}}
    tree = recipe(file, head={"layers": 1, "out": 8})
    tree["views"] = {"augmented": view, "augmented_2": view}
    tree["stages"] = [
        {**contrast, "name": "base"},
        {"stage": "cluster", "name": "groups", "of": "base", "modality": "ecg", "clusters": 2,
         "smallest": 2},
        {**contrast, "name": "next", "groups": "groups", "start_from": {"ecg": "base"}},
        {"stage": "join", "name": "joined", "of": ["base", "next"]},
    ]  # fmt: skip
    run = unreported(cohort, recipe=tree, out=tmp_path / "run")
    assert list(run.facts("base")["published"]) == ["ecg"]
    table = medmcl.load(run.path).embed(cohort, stage="joined", modality="ecg")
    assert table.filter(regex="^e").shape[1] == 2 * WIDTH
