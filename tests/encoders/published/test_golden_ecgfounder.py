"""ECGFounder: what its authors' code gave, with the same weights (tests/golden/README.md)."""

import numpy as np
import pytest
import torch

from medmcl import models
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

MODEL = "ecgfounder"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = save(filled(MODEL, "12_lead"), tmp_path_factory.mktemp("w") / "12.pth", "state_dict")
    return models.load(MODEL, weights=file)


@pytest.mark.parametrize("tag", ["12_lead", "1_lead"])
def test_the_weights_are_those_of_the_golden_file(tag):
    assert sha256(filled(MODEL, tag)) == about(MODEL)["state_dicts"][tag]["filled_sha256"]


@pytest.mark.parametrize(("name", "number", "shape"), [
    ("x", 0, (2, 12, 5000)), ("odd", 1, (1, 12, 4991)), ("half", 2, (1, 12, 2500)),
])  # fmt: skip
def test_features_are_the_authors(model, name, number, shape):
    found = model.features(drawn(MODEL, number, shape))
    assert found.dtype == np.float32
    assert_equal_features(found, arrays(MODEL)[f"{name}/features"])


def test_the_last_stage_is_the_authors(model):
    tokens = model.features(drawn(MODEL, 0, (2, 12, 5000)), output="tokens")
    assert tokens.shape == (2, 20, 1024)
    stage = tokens[0].T[:: 1024 // 8, :: 20 // 8]
    assert_equal_features(stage, arrays(MODEL)["x/stage6"])


def test_the_single_lead_variant(tmp_path):
    file = save(filled(MODEL, "1_lead"), tmp_path / "1.pth", "state_dict")
    single = models.load("ecgfounder:1_lead", weights=file)
    found = single.features(drawn(MODEL, 3, (2, 1, 5000)))
    assert_equal_features(found, arrays(MODEL)["x_1lead/features"])
    twelve = np.random.default_rng(0).standard_normal((12, 5000))
    leads = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
    prepared = single.prepare(twelve, leads=leads, rate_hz=500.0, units="mV")
    alone = single.prepare(twelve[:1], leads=("i",), rate_hz=500.0, units="mV")
    assert prepared.shape == (1, 5000)
    assert np.array_equal(prepared, alone)


@pytest.mark.parametrize("preparation", [None, "ptbxl_eval"])
@pytest.mark.parametrize("ecg_id", ["00001", "00017", "00030"])
def test_records_are_prepared_and_embedded_as_the_authors_do(model, ecg_id, preparation):
    signal, leads, rate_hz = recording(ecg_id)
    x = model.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV", preparation=preparation)
    key = f"{preparation or 'finetune'}/{ecg_id}"
    assert x.shape == (12, 5000)
    assert_equal_preparation(x, MODEL, key)
    assert_equal_features(model.features(x[None])[0], arrays(MODEL)[f"{key}/features"])


def test_torch_in_torch_out_and_axes(model):
    x = torch.from_numpy(drawn(MODEL, 2, (1, 12, 2500)))
    found = model.features(x)
    assert isinstance(found, torch.Tensor)
    again = model.features(x[:, None])  # one window a record
    assert torch.equal(found, again)
