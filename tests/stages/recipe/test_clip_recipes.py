"""CLIP and SigLIP end to end on coloured squares; and pretrained towers from a local file."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import changed_copy
from golden_numbers import case, golden
from safetensors.torch import load_file, save_file
from short_runs import unreported, write_recipe
from small_squares import write_squares

import medmcl
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.stages.recipe.file import read_recipe

SMALL = {
    "inputs.image.size": 32,
    "inputs.caption.max_tokens": 16,
    "towers.image.encoder.options": {
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 2,
    },
    "stages.contrast.batch_size": 32,
    "stages.contrast.epochs": None,
    "stages.contrast.steps": 60,
    "stages.contrast.evaluate_every": 10,
    "stages.results.bootstrap_draws": 100,
    "stages.results.draws": 1,
    "stages.results.tasks": ["colour"],
    "stages.results.label_fractions": [0.1, 1.0],
    "stages.results.baselines": [],
    "stages.results.folds": "none",
}
SHORT = {
    "stages.contrast.steps": 30,
    "stages.contrast.evaluate_every": 2,
    "stages.contrast.optimiser.lr": 3.0e-3,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    torch.set_num_threads(1)
    return write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=144, side=48)


def test_prompts_under_another_name_than_the_class_are_told_before_training(squares, tmp_path):
    def of_another_name(tree):
        tree["prompts"]["colour"]["rose"] = tree["prompts"]["colour"].pop("red")

    changed = changed_copy(squares, tmp_path / "cohort", "cohort.yaml", of_another_name)
    told = [one for one in medmcl.check(changed) if one.level == "error"]
    assert "unknown prompts of task colour 'red'" in told[0].what
    with pytest.raises(ConfigError, match="unknown prompts of task colour 'red'"):
        medmcl.pretrain(changed, out=tmp_path / "run", overrides=SMALL, device="cpu")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_prompts_of_a_task_that_is_not_scored_are_not_asked_about(squares, tmp_path):
    def of_another_name(tree):
        tree["prompts"]["place"] = {"somewhere else": ["a picture"]}

    changed = changed_copy(squares, tmp_path / "cohort", "cohort.yaml", of_another_name)
    scored = {"stages.results.tasks": ["colour"]}
    told = medmcl.check(changed, overrides=scored)
    assert not [one.what for one in told if one.level == "error"]
    told = medmcl.check(changed, overrides={"stages.results.tasks": ["colour", "place"]})
    assert any("prompts of task place" in one.what for one in told if one.level == "error")


def test_colours_are_learned_from_captions(squares, tmp_path):
    made = medmcl.pretrain(squares, out=tmp_path / "run", overrides=SMALL, device="cpu")
    rows = pd.read_csv(made.path / "results.csv")
    zero = rows[(rows["protocol"] == "zero_shot") & (rows["metric"] == "accuracy")]
    assert (zero["value"] > 0.9).tolist() == [True]
    found = rows[(rows["protocol"] == "retrieval") & (rows["metric"] == "recall@5")]
    assert set(found["target"]) == {"image → caption", "caption → image"}
    for _, way in found.groupby("target"):
        value = way.set_index("method")["value"]
        assert value["contrast"] > 2 * value["chance"]
    probe = rows[(rows["protocol"] == "linear_probe") & (rows["task"] == "colour")]
    assert set(probe["label_fraction"]) == {0.1, 1.0}
    assert learned(made)["scale.log"].exp() != pytest.approx(14.2857, rel=1e-4)


def learned(made):
    """Parameters of the objective of the last checkpoint, by the end of their names."""
    weights = load_file(sorted((made.path / "checkpoint" / "contrast").rglob("*.safetensors"))[-1])
    return {k.split("cross_modal.")[-1]: x for k, x in weights.items() if "objectives." in k}


def trained(squares, folder, recipe, overrides):
    """Train a recipe without its evaluation."""
    given = {k: v for k, v in overrides.items() if not k.startswith("stages.results.")}
    path = write_recipe(folder, recipe, drop=["results"])
    return unreported(squares, recipe=path, out=folder / "run", overrides=copy.deepcopy(given))


def test_the_sigmoid_loss_falls_and_moves_its_scale_and_bias(squares, tmp_path):
    made = trained(squares, tmp_path, "siglip_toy", {**SMALL, **SHORT})
    lines = [json.loads(x) for x in (made.path / "metrics.jsonl").read_text().splitlines()]
    losses = [one["loss"] for one in lines if one.get("split") == "tuning"]
    assert losses[-1] < 0.98 * losses[0]
    found = learned(made)
    assert found["scale.log"].exp() != pytest.approx(10.0, rel=1e-4)
    assert found["bias"] != pytest.approx(-10.0, rel=1e-4)


def test_the_recipes_differ_in_the_loss_only():
    clip, siglip = read_recipe("clip"), read_recipe("siglip")
    assert clip.towers == siglip.towers
    own = [one.stages[0].objectives["cross_modal"].settings for one in (clip, siglip)]
    assert own[0]["loss"] == "info_nce"
    assert own[0]["scale"] == {"init": 14.2857, "learned": True, "max": 100}
    assert own[1]["loss"] == "siglip"
    assert own[1]["scale"]["init"] == 10.0
    assert own[1]["scale"]["learned"]
    assert own[1]["bias"] == -10.0


STAGES = ("base", "stage_1", "stage_2", "distilled")
HEAD = {"layers": 1, "bias": False, "out": 6}
PRETRAINED = {
    **SMALL,
    "inputs.image.size": 16,
    "inputs.caption.max_tokens": 7,
    "towers.image.encoder.options": {
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
    },
    "towers.image.head": HEAD,
    "towers.caption.encoder": {"name": "clip_text", "width": 12, "depth": 2, "heads": 3},
    "towers.caption.head": HEAD,
    "stages.contrast.steps": 1,
    "stages.contrast.optimiser.lr": 1.0e-12,
}


@pytest.fixture
def pretrained(tmp_path):
    """Towers of open_clip with as many tokens as a tiny vocabulary, and that vocabulary."""
    state = {k: x for k, x in case(golden("open_clip_towers"), "c0_state_").items()
             if torch.is_tensor(x)}  # fmt: skip
    (tmp_path / "merges.txt").write_text("header\ne d</w>\nr ed</w>\n")
    generator = torch.Generator(device="cpu").manual_seed(0)
    table = torch.randn(512 + 2 + 2, 12, generator=generator, device="cpu")
    state["token_embedding.weight"] = table
    save_file({k: x.contiguous() for k, x in state.items()}, tmp_path / "w.safetensors")
    source = {"path": str(tmp_path / "w.safetensors"), "names": "open_clip", "head": True}
    return {
        **PRETRAINED,
        "inputs.caption.clip_vocabulary": str(tmp_path / "merges.txt"),
        "stages.contrast.weights": {"image": source, "caption": source},
    }, state


def test_both_towers_and_projections_come_from_one_file(squares, tmp_path, pretrained, caplog):
    caplog.set_level("INFO")
    overrides, state = pretrained
    made = trained(squares, tmp_path, "clip_toy", overrides)
    towers = made.towers("contrast", torch.device("cpu"))
    for name, key in (("image", "visual.proj"), ("caption", "text_projection")):
        own = towers.tower(name).head.layers[0].weight
        torch.testing.assert_close(own, state[key].T, rtol=0, atol=1e-9)
        assert f"{name} encoder and projection from" in caplog.text
    said = [line for line in caplog.messages if "warning" in line]
    assert all("tokens or more" in line for line in said)  # of texts, and of no weights
    table = towers.tower("caption").encoder.embed.weight
    assert not table[0].any()
    torch.testing.assert_close(table[1:], state["token_embedding.weight"], rtol=0, atol=1e-9)
    before = made.embed(squares, modality="caption", space="pooled")
    (tmp_path / "merges.txt").unlink()
    again = medmcl.load(made.path).embed(squares, modality="caption", space="pooled")
    pd.testing.assert_frame_equal(again, before)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (["inputs.caption.clip_vocabulary"], "gone.txt", "no such vocabulary"),
        (["inputs.caption.max_tokens"], 9, "positions (7, 12) -> (9, 12)"),
        (["towers.caption.encoder.depth"], 3, "do not fit"),
        (["towers.image.head.out", "towers.caption.head.out"], 8, "head is not the projection"),
    ],
)
def test_faults_of_weights_are_told_before_the_first_step(
    squares, tmp_path, pretrained, caplog, keys, value, words
):
    caplog.set_level("INFO")
    with pytest.raises((ArtefactError, ConfigError)) as caught:
        trained(squares, tmp_path, "clip_toy", {**pretrained[0], **dict.fromkeys(keys, value)})
    assert words in str(caught.value)
    assert "step 1/" not in caplog.text


def test_pixels_that_the_network_was_not_trained_on_are_warned_of(
    squares, tmp_path, pretrained, caplog
):
    caplog.set_level("INFO")
    trained(squares, tmp_path, "clip_toy", {**pretrained[0], "inputs.image.normalise": "none"})
    assert "warning: image: weights from a file" in caplog.text
    assert "inputs.image.normalise" in caplog.text


def test_stages_within_clusters_go_on_from_clips_weights_with_the_text_tower_locked(
    squares, tmp_path, pretrained
):
    given, state = pretrained
    own = {k: v for k, v in given.items() if not k.startswith(("stages.", "towers.image.enc"))}
    short = {"batch_size": 16, "epochs": None, "steps": 2}
    groups = {"clusters": 3, "smallest": 8, "stop": False}
    encoder = {"name": "timm", "model": "vit_base_patch16_clip_224",
               "options": given["towers.image.encoder.options"]}  # fmt: skip
    changes = {
        **own,
        **{f"stages.{name}.{key}": value for name in STAGES for key, value in short.items()},
        **{f"stages.groups_{n}.{key}": value for n in (1, 2) for key, value in groups.items()},
        "stages.base.frozen": ["caption"],
        "stages.base.weights": given["stages.contrast.weights"],
        "towers.image.encoder": encoder,
    }
    made = trained(squares, tmp_path, "mcl_clip", changes)
    pictures = {}
    for stage in ("base", "stage_1", "stage_2"):
        towers = made.towers(stage, torch.device("cpu"))
        words = towers.tower("caption")
        assert torch.equal(words.head.layers[0].weight, state["text_projection"].T)
        assert torch.equal(words.encoder.embed.weight[1:], state["token_embedding.weight"])
        pictures[stage] = towers.tower("image").head.layers[0].weight
        near = state["visual.proj"].T
        torch.testing.assert_close(pictures[stage], near, rtol=0, atol=0.02)
    assert not torch.equal(pictures["stage_1"], pictures["base"])
    assert not torch.equal(pictures["stage_1"], pictures["stage_2"])
    captions = made.embed(squares, modality="caption", space="pooled", stage="base")
    joined = made.embed(squares, modality="caption", space="pooled", stage="joined")
    width = captions.filter(regex=r"^e\d+$").shape[1]
    for part in range(3):
        assert np.allclose(
            joined.filter(regex=r"^e\d+$").to_numpy()[:, part * width : (part + 1) * width]
            * 3**0.5,
            captions.filter(regex=r"^e\d+$").to_numpy(),
            atol=1e-6,
        )
