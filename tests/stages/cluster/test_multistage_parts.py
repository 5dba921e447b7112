"""Multistage learning over other parts: a ResNet, a ViT, SigLIP, masked modelling of ECGs."""

import json

import numpy as np
import pytest
from short_runs import unreported, write_recipe

from medmcl.grouping import Groups
from medmcl.simulation.kinds import simulate

TRAINED = ("base", "stage_1", "stage_2", "distilled")
SHORT = {
    **{f"stages.{name}.steps": 3 for name in TRAINED},
    **{f"stages.{name}.batch_size": 16 for name in TRAINED},
    **{f"stages.groups_{number}.clusters": 3 for number in (1, 2)},
    **{f"stages.groups_{number}.smallest": 8 for number in (1, 2)},
    **{f"stages.groups_{number}.stop": False for number in (1, 2)},
}
VIT = {
    "name": "timm",
    "model": "vit_tiny_patch16_224",
    "options": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
}
RESNET = {
    "name": "timm",
    "model": "resnet10t",
    "options": {"channels": [8, 8, 16, 16], "stem_width": 8},
}
PIXELS = {"size": 32, "channels": "colour", "intensity": "range"}
VIEW = {"rotation_deg": 0, "zoom": [1, 1], "crop": [0.8, 1], "brightness": 0.1, "contrast": 0.1}


def trained(cohort, folder, name, changes, **more):
    """Train a recipe without its evaluation."""
    recipe = write_recipe(folder, name, drop=["results"], set={**SHORT, **changes}, **more)
    return unreported(cohort, recipe=recipe, out=folder / "run")


def assert_staged(run, cohort, modality, others=()):
    """Three different encoders of which the joined one is made; groups that every stage names."""
    parts = [
        run.embed(cohort, modality=modality, stage=name).filter(regex=r"^e\d+$").to_numpy()
        for name in ("base", "stage_1", "stage_2", "joined", "distilled")
    ]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in parts[:3]]
    np.testing.assert_allclose(parts[3] * 3**0.5, np.concatenate(unit, axis=1), atol=1e-5)
    assert not np.allclose(unit[0], unit[1])
    assert not np.allclose(unit[1], unit[2])
    assert np.isfinite(parts[4]).all()
    losses = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
    for name in TRAINED:
        own = [one["loss"] for one in losses if one["stage"] == name and "loss" in one]
        assert own
        assert np.isfinite(own).all()
    for number in (1, 2):
        groups = run.artefact(f"groups_{number}", Groups)
        assert len(set(groups.groups)) > 1
    for name in others:
        assert name in run.stage("joined").towers


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    settings = {"subjects": 120, "world": "pictures", "levels": 3}
    return simulate("trifactor", tmp_path_factory.mktemp("pictures") / "p", settings)


@pytest.mark.parametrize("encoder", [VIT, RESNET], ids=["vit", "resnet"])
def test_pictures_alone(pictures, tmp_path, encoder):
    run = trained(
        pictures,
        tmp_path,
        "mcl_toy",
        {
            "inputs.record": PIXELS,
            "towers.record.encoder": encoder,
            **{f"views.{name}.augment.record": VIEW for name in ("augmented", "augmented_2")},
        },
        roles={"record": "image"},
    )
    assert_staged(run, pictures, "image")


@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
@pytest.mark.parametrize("batches", ["one_group", "mixed"])
def test_pictures_with_captions(pictures, tmp_path, loss, batches):
    scale = {"init": 10.0, "learned": True}
    objective = {"pairs": [["picture", "caption"]], "loss": loss, "scale": scale}
    encoder = VIT if loss == "siglip" else RESNET
    run = trained(
        pictures,
        tmp_path,
        "mcl_clip_toy",
        {
            "inputs.picture": PIXELS,
            "towers.picture.encoder": encoder,
            "views.augmented.augment.picture": VIEW,
            **{f"stages.{name}.objectives": {"cross_modal": objective} for name in TRAINED[:3]},
            "stages.stage_1.groups": {"stage": "groups_1", "batches": batches},
            "stages.stage_2.groups": {"stage": "groups_2", "batches": batches},
        },
        roles={"picture": "image", "caption": "text"},
    )
    assert_staged(run, pictures, "image", ["caption"])


def test_masked_modelling_and_contrast_within_clusters_of_ecgs(tmp_path):
    heart = simulate(
        "heart", tmp_path / "h", {"subjects": 60, "form": "shards", "cmr_size": 16, "cmr_frames": 3}
    )
    objectives = {
        "in_modal": {"modality": "record", "scale": {"init": 5.0}},
        "masked": {
            "modality": "record",
            "view": "masked",
            "decoder": {"width": 16, "depth": 1, "heads": 2},
            "loss_weight": 0.5,
        },
    }
    view = {"crop": True, "noise": 0.02, "rescale": 0.1, "rescale_may_flip": False}
    run = trained(
        heart,
        tmp_path,
        "mcl_toy",
        {
            "inputs.record": {"rate_hz": 100, "seconds": 3, "crop_seconds": 2},
            "towers.record.encoder": {
                "name": "ecg_vit",
                "patch": 25,
                "joint_leads": True,
                "width": 16,
                "depth": 1,
                "heads": 2,
            },
            **{f"views.{name}.augment.record": view for name in ("augmented", "augmented_2")},
            "views.masked": {
                "modalities": ["record"],
                "augment": {"record": view},
                "mask": {"record": 0.5},
            },
            **{f"stages.{name}.objectives": objectives for name in TRAINED[:3]},
        },
        roles={"record": "ecg"},
    )
    assert_staged(run, heart, "ecg")
    lines = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
    told = [one for one in lines if one["stage"] == "stage_2"]
    assert any("masked" in key for one in told for key in one)
    assert any("in_modal" in key for one in told for key in one)
