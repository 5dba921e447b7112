"""An encoder of another package that breaks its contract is named before the first step."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.errors import ContractError
from medmcl.encoders.build import ENCODERS, build_encoder
from medmcl.encoders.encoded import Encoded
from medmcl.encoders.outside import rehearse_encoder
from medmcl.stages.train.outside import rehearse_outside


class Mean(nn.Module):
    """Tokens are four parts of a signal; sound unless told otherwise."""

    width, num_tokens, patch, grid, early = 3, 4, None, (4,), ()

    def __init__(self, wrong=lambda encoded: encoded):
        super().__init__()
        self.norm, self.wrong = nn.BatchNorm1d(3), wrong

    def forward(self, x, mask=None):
        tokens = x.unfold(2, 5, 5).mean(-1).transpose(1, 2)
        if mask is not None:
            tokens = tokens[~mask].reshape(len(x), -1, 3)
        return self.wrong(Encoded(features=self.norm(tokens.mean(1)), tokens=tokens))


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(ENCODERS, "outside", {"mean": "elsewhere:Mean"})
    monkeypatch.setattr(ENCODERS, "package", lambda name: "elsewhere")


ROW = torch.randn(1, 3, 20, generator=torch.Generator().manual_seed(0))


def test_a_sound_one_passes_and_is_left_as_it_was():
    encoder = Mean().train()
    rehearse_encoder("mean", encoder, ROW)
    assert encoder.training
    assert encoder.norm.training
    assert encoder.norm.num_batches_tracked == 0


def changed(**parts):
    return lambda e: Encoded(**{"features": e.features, "tokens": e.tokens, **parts})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda e: e.features, "must give an Encoded: it gives Tensor"),
        (lambda e: changed(features=e.features[:, :2])(e), r"here (2, 3): they are (2, 2)"),
        (lambda e: changed(features=e.features / 0)(e), "are not finite"),
        (lambda e: changed(features=e.features.double())(e), "they are torch.float64"),
        (lambda e: changed(features=e.features - e.features.mean(0))(e), "must not depend on"),
        (lambda e: changed(tokens=e.tokens[..., :2])(e), "tokens must be (2, 4, 3)"),
        (changed(tokens=None), "there must be visible tokens"),
        (lambda e: changed(tokens=torch.zeros(2, 4, 3))(e), "visible tokens must be (2, 2, 3)"),
        (lambda e: e.nothing, "AttributeError: 'Encoded' object has no attribute 'nothing' (test_"),
    ],
)
def test_one_that_breaks_its_contract_is_named(wrong, told):
    with pytest.raises(ContractError) as caught:
        rehearse_encoder("mean", Mean(wrong), ROW)
    assert told in str(caught.value)
    assert "package elsewhere" in str(caught.value)
    rehearse_encoder("resnet1d", Mean(wrong), ROW)  # one that ships has its own tests


class Hasty(Mean):
    def forward(self, x, mask=None):
        return super().forward(x.mul_(2), mask)


def test_one_that_changes_the_rows_it_reads_is_named():
    with pytest.raises(ContractError, match="must leave the rows it reads unchanged"):
        rehearse_encoder("mean", Hasty(), ROW)


def failing(shape, settings):
    return settings.nothing


@pytest.mark.parametrize(
    ("built", "told"),
    [
        (lambda shape, settings: SimpleNamespace(num_tokens=4), "width is missing"),
        (failing, "cannot be built(.|\n)*no attribute 'nothing' .test_outside_encoders.py"),
    ],
)
def test_one_that_cannot_be_built_is_named(built, told, monkeypatch):
    built.Settings = Nothing
    monkeypatch.setattr(ENCODERS, "_kept", {"mean": built})
    with pytest.raises(ContractError, match=told) as caught:
        build_encoder("mean", InputShape(kind="ecg", shape=(3, 20)), {})
    assert "package elsewhere" in str(caught.value)


class Nothing(Config):
    """No settings."""


def test_it_is_given_what_plain_makes_of_prepared_rows():
    """Stages of sleep as whole numbers, prepared; one of three, when they are read."""
    night = torch.arange(20)[None] % 3
    prepared = SimpleNamespace(
        rows=lambda split, needs: np.array([0]),
        batch=lambda rows, modalities: SimpleNamespace(inputs={"night": night}),
        adapters={"night": SimpleNamespace(plain=lambda x: one_hot(x, 3).transpose(1, 2).float())},
    )
    encoder = Mean()
    encoder.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    seen = []
    model = SimpleNamespace(tower=lambda name: SimpleNamespace(encoder=encoder))
    parts = SimpleNamespace(learner=SimpleNamespace(model=model), rows=np.array([0]), groups=None,
                            views={}, selector=None)  # fmt: skip
    spec = SimpleNamespace(towers=("night",), objectives={}, teacher=None)
    recipe = SimpleNamespace(towers={"night": {"encoder": {"name": "mean"}}})
    rehearse_outside(spec, recipe, prepared, parts)
    assert seen[0] == (2, 3)
