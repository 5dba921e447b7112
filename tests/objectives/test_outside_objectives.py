"""An objective of another package that breaks its contract is named before the first step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medmcl.core.batch import Term
from medmcl.core.config import Config
from medmcl.core.errors import ContractError
from medmcl.objectives.build import OBJECTIVES, build_objective
from medmcl.objectives.outside import rehearse_objective


class Near(nn.Module):
    """Charges what it is told to give."""

    class Settings(Config):
        """None."""

    views, terms, across_ranks, gathers = ("plain",), ("near",), "rows", ()

    def __init__(self, settings=None, shape=None):
        super().__init__()
        self.gives = lambda: {"near": Term(torch.zeros((), device="cpu"), count=2)}

    def forward(self, seen, batch):
        return self.gives()


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    home = {"near": "test_outside_objectives:Near"}
    monkeypatch.setattr(OBJECTIVES, "outside", home)
    monkeypatch.setattr(OBJECTIVES, "_kept", {"near": Near})
    monkeypatch.setattr(OBJECTIVES, "package", lambda name: "elsewhere")


def test_one_that_lacks_what_it_must_say_is_refused_when_it_is_built(monkeypatch):
    assert build_objective("near", {}, SimpleNamespace()).terms == ("near",)
    monkeypatch.delattr(Near, "views")
    monkeypatch.delattr(Near, "gathers")
    with pytest.raises(ContractError) as caught:
        build_objective("near", {}, SimpleNamespace())
    assert "views is missing" in str(caught.value)
    assert "gathers is missing" in str(caught.value)


def test_one_that_says_its_ways_wrongly_or_fails_is_refused_when_it_is_built(monkeypatch):
    monkeypatch.setattr(Near, "terms", "near")
    monkeypatch.setattr(Near, "across_ranks", "row")
    with pytest.raises(ContractError) as caught:
        build_objective("near", {}, SimpleNamespace())
    assert "terms must be a tuple of texts: it is 'near'" in str(caught.value)
    assert "across_ranks must be one of rows, gather, stream: it is 'row'" in str(caught.value)
    monkeypatch.setattr(Near, "__init__", lambda self, settings, shape: shape.nothing)
    with pytest.raises(ContractError, match=r"'near' \(package elsewhere\) cannot be built"):
        build_objective("near", {}, SimpleNamespace())


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda: torch.zeros((), device="cpu"), "must give a dict of Term by name: it gives Tens"),
        (lambda: {"near": torch.zeros((), device="cpu")}, "'near' must be a Term"),
        (lambda: {"far": Term(torch.zeros((), device="cpu"), count=2)}, "it charges 'far', and"),
        (lambda: {"near": Term(torch.zeros(2, device="cpu"), count=2)}, "a tensor without axes"),
        (lambda: {"near": Term(torch.ones((), device="cpu") / 0, count=2)}, "must be finite: it"),
        (lambda: torch.linalg.inv(torch.zeros(2, 2, device="cpu")), "(test_outside_objectives.py"),
    ],
)
def test_one_that_charges_what_it_must_not_is_named(gives, told):
    objective = Near()
    rehearse_objective("near", objective, {}, [0, 1])
    objective.gives = gives
    with pytest.raises(ContractError) as caught:
        rehearse_objective("near", objective, {}, [0, 1])
    assert told in str(caught.value)
    assert "package elsewhere" in str(caught.value)
