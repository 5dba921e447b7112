"""ST-MEM: what its authors' code gave, with the same weights (tests/golden/README.md)."""

import numpy as np
import pytest
import torch

from medmcl import models
from medmcl.core.errors import ArtefactError, MedmclError, RecordError
from tests.support.published_weights import (
    about,
    arrays,
    assert_equal_features,
    assert_equal_preparation,
    drawn,
    filled,
    recording,
    save,
    sha256,
)

MODEL = "st_mem"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = save(filled(MODEL, "small"), tmp_path_factory.mktemp("w") / "encoder.pth", "model")
    return models.load("st_mem:small", weights=file)


def test_features_are_the_authors(small, tmp_path):
    for tag in ("small", "base"):
        assert sha256(filled(MODEL, tag)) == about(MODEL)["state_dicts"][tag]["filled_sha256"]
    x = drawn(MODEL, 0, (2, 12, 2250))
    assert_equal_features(small.features(x), arrays(MODEL)["small/x/features"])
    base = models.load(MODEL, weights=save(filled(MODEL, "base"), tmp_path / "b.pth", "model"))
    assert_equal_features(base.features(x[:1]), arrays(MODEL)["base/x/features"][:1])


def test_the_file_of_the_whole_model_gives_its_encoder(small, tmp_path):
    bare = filled(MODEL, "small")
    whole = {f"encoder.{name}": value for name, value in bare.items()}
    again = {name: value for name, value in bare.items() if name.startswith("to_patch_embedding")}
    decoder = {name: torch.zeros(3) for name in (
        "mask_embedding", "decoder_pos_embed", "decoder_block0.norm.weight",
        "to_decoder_embedding.bias",
    )}  # fmt: skip
    file = save({**whole, **again, **decoder}, tmp_path / "full.pth", "model")
    x = drawn(MODEL, 0, (2, 12, 2250))[:1]
    found = models.load("st_mem:small", weights=file).features(x)
    assert np.array_equal(found, small.features(x))


@pytest.mark.parametrize("ecg_id", ["00001", "00017", "00030", "00009_lr"])
def test_records_are_prepared_and_embedded_as_the_authors_do(small, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    crops = small.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
    assert crops.shape == (3, 12, 2250)
    for number, crop in enumerate(crops):
        assert_equal_preparation(crop, MODEL, f"prepared/{ecg_id}/crop{number}")
    stored = arrays(MODEL)[f"small/{ecg_id}/features_of_crops"]
    found = small.features(crops)
    assert_equal_features(found, stored)
    if ecg_id == "00001":
        assert np.allclose(small.features(crops[None])[0], found.mean(0), atol=1e-6)


def test_of_a_longer_record_every_ten_seconds_are_prepared_as_a_record(small):
    first, leads, rate_hz = recording("00001")
    second, others, _ = recording("00017")
    assert leads == others
    long = np.concatenate([first, second, first[:, :4999]], axis=1)
    crops = small.prepare(long, leads=leads, rate_hz=rate_hz, units="mV")
    assert crops.shape == (6, 12, 2250)
    for number, crop in enumerate(crops):
        record = ("00001", "00017")[number // 3]
        assert_equal_preparation(crop, MODEL, f"prepared/{record}/crop{number % 3}")


def test_fewer_leads_and_shorter_records_are_refused(small):
    rows = np.random.default_rng(0).standard_normal((12, 5000))
    with pytest.raises(RecordError, match="V6 is missing"):
        small.prepare(
            rows[:11],
            leads=("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5"),
            rate_hz=500,
        )
    with pytest.raises(RecordError, match="too short"):
        small.prepare(rows[:, :4500], rate_hz=500)
    with pytest.raises(MedmclError, match="cannot take an input of this size"):
        small.features(drawn(MODEL, 0, (1, 1, 2250)))


def test_files_of_other_layouts_are_refused_by_name(tmp_path):
    with pytest.raises(ArtefactError, match="is a file of st_mem:small"):
        models.load(MODEL, weights=save(filled(MODEL, "small"), tmp_path / "s.pth", "model"))
    state = {
        name.replace("block0.", "blocks.0."): value
        for name, value in filled(MODEL, "small").items()
    }
    with pytest.raises(ArtefactError, match=r"missing \(block0\.attn") as error:
        models.load("st_mem:small", weights=save(state, tmp_path / "n.pth", "model"))
    assert "blocks.0.attn" in str(error.value)
