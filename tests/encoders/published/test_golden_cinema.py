"""CineMA: what its authors' code gave, with the same weights (tests/golden/README.md)."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, MedmclError, RecordError
from medmcl.core.layers import sincos_1d
from medmcl.encoders.build import build_encoder
from medmcl.encoders.encoded import layer_depth
from medmcl.encoders.published.cinema import positions_on
from tests.support.published_weights import (
    about,
    arrays,
    assert_equal_features,
    filled,
    sha256,
    value,
)

MODEL = "cinema"


def uniform(number, shape):
    rng = np.random.default_rng([about(MODEL)["input_seed"], number])
    return rng.random(shape).astype(np.float32)


def load(tag, folder):
    """A file of the authors; of base without decoder and long axes, which nothing reads."""
    left = ("dec", "pred_head", "enc_down_dict.lax", "enc_fusion_dict.lax")
    said = about(MODEL)
    state = filled(MODEL, tag) if tag == "tiny" else {
        name: torch.from_numpy(value(name, shape, said["fill_seed"]))
        for name, (shape, _) in said["state_dicts"][tag]["tensors"].items()
        if not name.startswith(left)
    }  # fmt: skip
    save_file(state, folder / "cinema.safetensors")
    (folder / "config.yaml").write_text("model: {name: cinema}\n")
    return models.load(f"{MODEL}:{tag}", weights=folder / "cinema.safetensors")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load("tiny", tmp_path_factory.mktemp("tiny"))


def patient():
    """Patient 1 of ACDC at end-diastole: intensities and labels along x, y, z, and the spacing."""
    folder = Path(os.environ.get("MEDMCL_DATA", "/nowhere")) / "acdc" / "patient001"
    if not folder.is_dir():
        pytest.skip("needs MEDMCL_DATA with acdc")
    image, labels = (
        nibabel.load(folder / f"patient001_frame01{end}.nii.gz") for end in ("", "_gt")
    )
    return np.asarray(image.dataobj), np.asarray(labels.dataobj), image.header.get_zooms()


def test_one_view_is_the_authors(tiny):
    assert sha256(filled(MODEL, "tiny")) == about(MODEL)["state_dicts"]["tiny"]["filled_sha256"]
    sax, stored = uniform(0, (2, 1, 48, 48, 4)), arrays(MODEL)
    tokens = tiny.features(sax, output="tokens")
    assert_equal_features(tokens, stored["tiny/sax_only/sax"])
    assert_equal_features(tiny.features(sax, output="cls"), stored["tiny/sax_only/cls"][:, 0])
    np.testing.assert_allclose(tiny.features(sax), tokens.mean(1), atol=1e-6)
    assert np.array_equal(tiny.features(sax[:, 0]), tiny.features(sax))


def test_two_views_are_the_authors(tiny):
    sax, lax, stored = uniform(0, (2, 1, 48, 48, 4)), uniform(1, (2, 1, 64, 64)), arrays(MODEL)
    views = {"sax": sax, "lax_4c": lax}
    assert_equal_features(tiny.features(views, output="cls"), stored["tiny/both/cls"][:, 0])
    for view in views:
        found = tiny.features(views, output=view, batch_size=1)
        assert_equal_features(found, stored[f"tiny/both/{view}"])
    for wrong in ({"sax": sax, "lax_2c": lax}, {"sax": sax, "lax_4c": lax[:1]}, {"sax": sax[:0]}):
        with pytest.raises(MedmclError, match="views that it knows"):
            tiny.features(wrong)


def test_a_volume_of_another_size_has_positions_between_the_stored(tiny):
    found = tiny.features(uniform(2, (1, 1, 64, 48, 6)), output="tokens")
    assert_equal_features(found, arrays(MODEL)["tiny/other_size/sax"])


def test_a_tower_reads_what_a_recipe_prepares(tmp_path):
    """A recipe's rows are (1, z, y, x); the network's axes are x, y, z."""
    save_file(filled(MODEL, "tiny"), tmp_path / "cinema.safetensors")
    shape = InputShape(kind="cmr", shape=(1, 6, 48, 64))
    settings = {"weights": tmp_path / "cinema.safetensors", "variant": "tiny"}
    encoder = build_encoder(MODEL, shape, settings).eval()
    encoder.start_weights()
    x = torch.from_numpy(uniform(2, (1, 1, 64, 48, 6)))
    with torch.no_grad():
        found = encoder(x.transpose(-1, -3))
    assert_equal_features(found.tokens, arrays(MODEL)["tiny/other_size/sax"])
    assert encoder.grid == (72,)
    depths = layer_depth(encoder)
    assert depths["net.enc_down_dict.sax.linear.weight"] == depths["net.encoder.cls_token"] == 0
    assert depths["net.encoder.blocks.1.norm1.weight"] == 2
    assert depths["net.enc_fusion_dict.sax.norm.weight"] == 3


def test_a_patient_is_prepared_and_embedded_as_the_authors_do(tmp_path):
    volume, labels, spacing = patient()  # float32, as nibabel gives it
    model, stored = load("base", tmp_path), arrays(MODEL)
    x = model.prepare(volume, spacing_mm=spacing, mask=labels)
    assert x.shape == (192, 192, 16)
    assert np.abs(x[::8, ::8, ::2] - stored["acdc/prepared_sample"]).max() <= 2e-6
    with torch.no_grad():
        found = model.net(torch.from_numpy(x)[None])
    assert_equal_features(found["cls"][0], stored["base/acdc/cls"])
    assert_equal_features(found["features"][0], stored["base/acdc/patch_mean"])
    assert_equal_features(found["tokens"][0, ::97, ::8], stored["base/acdc/tokens_sample"])


def test_a_spacing_that_no_memory_holds_is_refused(tiny):
    for spacing in ((60, 60, 60), (1562.5, 1562.5, 10_000), (np.float32(500),) * 3):
        with pytest.raises(RecordError, match="at the spacing asked for"):
            tiny.prepare(np.ones((200, 200, 30)), spacing_mm=spacing)


def test_first_positions_are_the_authors():
    stored = arrays(MODEL)
    for view, grid in (("sax", (3, 3, 4)), ("lax_4c", (4, 4))):
        found = positions_on(grid, 48).numpy()
        assert np.abs(found - stored[f"tiny/unfilled_pos_embed/{view}"][0]).max() < 1e-6
    second = positions_on((2, 4), 8)[1]  # of x 0, y 1; x and y have changed places
    assert torch.equal(second, torch.cat([sincos_1d(2, 4, "cpu")[1], sincos_1d(4, 4, "cpu")[0]]))


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 50, 48, 4), "whole number of tokens"), ((48, 48), "batch of records")]
)
def test_other_shapes_are_refused(tiny, shape, words):
    with pytest.raises(MedmclError, match=words):
        tiny.features(np.zeros(shape, np.float32))


def test_a_mask_of_another_frame_and_a_file_without_the_view_are_refused(tiny, tmp_path):
    volume = np.random.default_rng(0).integers(0, 255, (60, 60, 8))
    with pytest.raises(RecordError, match="another shape"):
        tiny.prepare(volume, spacing_mm=(1.5, 1.5, 10), mask=np.ones((60, 60, 7)))
    with pytest.raises(RecordError, match="axes x, y, z"):
        tiny.prepare(volume[..., None], spacing_mm=(1.5, 1.5, 10))
    state = {k: v for k, v in filled(MODEL, "tiny").items() if ".sax." not in k}
    save_file(state, tmp_path / "lax.safetensors")
    with pytest.raises(ArtefactError, match=r"missing \(enc_down_dict.sax"):
        models.load("cinema:tiny", weights=tmp_path / "lax.safetensors")
