"""The ECG encoder of Turgut et al.: what the authors' code gave, with the same weights."""

import argparse

import numpy as np
import pytest
import torch
from torch.nn import functional

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

MODEL = "turgut_ecg"
POOLS = ("attention_pool", "global_pool", "cls")


def load(pool, folder):
    args = argparse.Namespace(model="vit_tiny_patchX", lr=1e-4)
    file = save(filled(MODEL, pool), folder / f"{pool}.pth", "model", args=args)
    return models.load(f"{MODEL}:{pool}", weights=file)


@pytest.mark.parametrize("pool", POOLS)
def test_features_are_the_authors(tmp_path, pool):
    assert sha256(filled(MODEL, pool)) == about(MODEL)["state_dicts"][pool]["filled_sha256"]
    found = load(pool, tmp_path).features(drawn(MODEL, 0, (2, 1, 12, 2500)))
    assert_equal_features(found, arrays(MODEL)[f"{pool}/x/features"])


@pytest.mark.parametrize("ecg_id", ["00001", "00017", "00030"])
def test_records_are_prepared_and_embedded_as_the_authors_do(tmp_path, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    for pool in POOLS:
        model = load(pool, tmp_path)
        x = model.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
        assert_equal_preparation(x, MODEL, f"cropped/{ecg_id}")
        assert_equal_features(
            model.features(x[None])[0], arrays(MODEL)[f"{pool}/{ecg_id}/features"]
        )


def test_the_default_is_attention_pooling():
    assert models.card(MODEL).default == "attention_pool"


def test_positions_of_another_time_grid_are_drawn_to_that_of_a_record(tmp_path):
    """As the authors do: bicubically, over leads and time."""
    state = dict(filled(MODEL, "attention_pool"))
    stored = torch.randn(1, 1 + 12 * 50, 384, generator=torch.Generator("cpu").manual_seed(0))
    grid = stored[:, 1:].reshape(1, 12, 50, 384).permute(0, 3, 1, 2)
    drawn_to = functional.interpolate(grid, size=(12, 25), mode="bicubic", align_corners=False)
    fitted = torch.cat([stored[:, :1], drawn_to.permute(0, 2, 3, 1).flatten(1, 2)], 1)
    x = drawn(MODEL, 0, (2, 12, 2500))
    found, expected = (
        models.load(MODEL, weights=save({**state, "pos_embed": one}, tmp_path / "w.pth", "model"))
        for one in (stored, fitted)
    )
    assert found.sizes == {"tokens": 600}
    assert np.array_equal(found.features(x), expected.features(x))
