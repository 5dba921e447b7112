"""MERL: what its authors' code gave, with the same weights (tests/golden/README.md)."""

import numpy as np
import pytest
import torch

from medmcl import models
from medmcl.core.errors import ArtefactError, MedmclError
from tests.support.published_weights import (
    about,
    arrays,
    assert_equal_features,
    assert_equal_preparation,
    filled,
    recording,
    save,
    sha256,
)

MODEL = "merl"
TAGS = ("resnet18", "vit_tiny")
RECORDS = ("00001", "00017", "00030")


def load(tag, folder, kind="ckpt", **more):
    file = save({**filled(MODEL, f"{tag}_{kind}"), **more}, folder / f"{tag}_{kind}.pth")
    return models.load(MODEL if tag == "resnet18" else f"{MODEL}:{tag}", weights=file)


def encoder_file(tag, folder):
    """What `*_encoder.pth` holds: the encoder of the whole model, under bare names."""
    whole = filled(MODEL, f"{tag}_ckpt")
    state = {name: whole[f"ecg_encoder.{name}"] for name in filled(MODEL, f"{tag}_encoder")}
    return save(state, folder / f"{tag}_encoder.pth")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    texts = {"lm_model.embeddings.word_embeddings.weight": torch.ones(3, 2)}  # beside it, not read
    return {tag: load(tag, tmp_path_factory.mktemp("w"), **texts) for tag in TAGS}


def x():
    return np.random.default_rng([about(MODEL)["input_seed"], 0]).random((2, 12, 5000), np.float64)


@pytest.mark.parametrize("tag", TAGS)
def test_features_and_zero_shot_are_the_authors(loaded, tag):
    listed = about(MODEL)["state_dicts"][f"{tag}_ckpt"]
    assert sha256(filled(MODEL, f"{tag}_ckpt")) == listed["filled_sha256"]
    for output, stored in ((None, "probe_features"), ("zero_shot", "zero_shot_embedding")):
        found = loaded[tag].features(x().astype(np.float32), output)
        assert_equal_features(found, arrays(MODEL)[f"{tag}/x/{stored}"])


def test_tokens_are_the_places_of_the_last_stage(loaded):
    tokens = loaded["resnet18"].features(x().astype(np.float32), "tokens")
    assert_equal_features(
        tokens.transpose(0, 2, 1)[:, ::32, ::20], arrays(MODEL)["resnet18/x/map_sample"]
    )


@pytest.mark.parametrize("tag", TAGS)
def test_the_file_of_the_encoder_alone_gives_the_same_and_no_zero_shot(loaded, tag, tmp_path):
    name = MODEL if tag == "resnet18" else f"{MODEL}:{tag}"
    alone = models.load(name, weights=encoder_file(tag, tmp_path))
    one = x()[:1].astype(np.float32)
    assert np.array_equal(alone.features(one), loaded[tag].features(one))
    with pytest.raises(MedmclError, match="zero_shot"):
        alone.features(one, "zero_shot")


@pytest.mark.parametrize("ecg_id", RECORDS)
def test_records_are_prepared_and_embedded_as_the_authors_do(loaded, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    for tag, model in loaded.items():
        seen = model.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
        assert seen.shape == (12, 5000)
        assert_equal_preparation(seen, MODEL, f"prepared/{ecg_id}")
        found = model.features(seen[None])[0]
        assert_equal_features(found, arrays(MODEL)[f"{tag}/{ecg_id}/probe_features"])
        zero_shot = model.features(seen[None], "zero_shot")[0]
        assert_equal_features(zero_shot, arrays(MODEL)[f"{tag}/{ecg_id}/zero_shot_embedding"])


def test_leads_are_put_in_the_order_of_mimic(loaded):
    rows = np.arange(12)[:, None] + np.sin(np.arange(5000) / 50)
    names = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
    seen = loaded["resnet18"].prepare(rows, leads=names, rate_hz=500.0, units="mV")
    assert np.argsort(seen[:, 0]).tolist() == [0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]
    assert (seen.min(), seen.max()) == (0, pytest.approx(1, abs=1e-7))


def test_five_seconds_are_followed_by_zeros_before_they_are_scaled(loaded):
    rows = np.random.default_rng(0).standard_normal((12, 3000))
    seen = loaded["resnet18"].prepare(rows, preparation="cpsc2018", rate_hz=500.0)
    assert seen.shape == (12, 5000)
    least = rows[:, :2500].min()
    assert seen[:, 2500:] == pytest.approx(-least / (rows[:, :2500].max() - least), abs=1e-6)


def test_files_of_other_layouts_are_refused_by_name(tmp_path):
    whole = filled(MODEL, "vit_tiny_ckpt")
    for file in (encoder_file("vit_tiny", tmp_path), save(whole, tmp_path / "vit.pth")):
        with pytest.raises(ArtefactError, match="is a file of merl:vit_tiny"):
            models.load(MODEL, weights=file)
    more = {"ecg_encoder.layer5.0.bn1.bias": whole["proj_e.0.bias"]}
    with pytest.raises(ArtefactError, match=r"unexpected \(ecg_encoder\.layer5"):
        load("resnet18", tmp_path, **more)
    gone = "att_pool_head.cls_token"
    half = {k: x for k, x in filled(MODEL, "resnet18_ckpt").items() if k != gone}
    with pytest.raises(ArtefactError, match=rf"missing \({gone}"):
        models.load(MODEL, weights=save(half, tmp_path / "half.pth"))
