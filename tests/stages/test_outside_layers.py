"""A layer of another package that breaks its contract is named before anything is trained."""

import numpy as np
import pytest
import torch
from torch import nn

from medmcl.core.errors import ContractError
from medmcl.stages.derived.outside import rehearse_layer
from medmcl.stages.stage import STAGES


class Centred(nn.Module):
    """Takes away the mean of train people; what it gives is what it is told to."""

    def __init__(self, width, gives=lambda x, layer: x - layer.mean):
        super().__init__()
        self.width, self.gives = width, gives
        self.register_buffer("mean", torch.zeros(width, device="cpu"))

    def fit(self, x):
        assert x.dtype == np.float32
        self.mean.copy_(torch.from_numpy(x.mean(axis=0)))
        self.unkept = x.mean(axis=0)[0]

    def forward(self, x):
        return self.gives(x, self)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(STAGES, "package", lambda name: "elsewhere")


def test_a_sound_one_passes():
    rehearse_layer("centre", Centred, 5, 30)


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda x, layer: x[:, 1:], r"\(B, width\), here a tensor \(2, 5\): it gives \(2, 4\)"),
        (lambda x, layer: x.numpy(), r"here a tensor \(2, 5\): it gives ndarray"),
        (lambda x, layer: x.double(), "must give torch.float32: it gives torch.float64"),
        (lambda x, layer: x / 0, "is not finite"),
        (lambda x, layer: x - x.mean(0), "must not depend on the rows beside it"),
        (lambda x, layer: x - getattr(layer, "unkept", 0), "must lie in buffers"),
        (lambda x, layer: layer.nothing, r"failed on features of shape \(20, 5\)(.|\n)*nothing"),
    ],
)
def test_one_that_breaks_its_contract_is_named(gives, told):
    with pytest.raises(ContractError, match=told) as caught:
        rehearse_layer("centre", lambda width: Centred(width, gives), 5, 30)
    assert "package elsewhere" in str(caught.value)
