"""Scorers and selectors of another package that break their contract are named beforehand."""

from typing import Literal

import pytest
import torch

from medmcl.core.errors import ContractError
from medmcl.selection.choices import Choice
from medmcl.selection.outside import rehearse_scorer, rehearse_selector
from medmcl.selection.settings import SCORERS, SELECTORS, ScoreSettings


class Settings(ScoreSettings):
    kind: Literal["own"]


class Scorer:
    """Scores by what it is told to."""

    def __init__(self, settings):
        self.settings = settings

    def score(self, pool):
        cosines = torch.from_numpy((pool.both[0] * pool.both[1]).sum(axis=1))
        return self.gives(cosines)

    gives = staticmethod(lambda x: x)


class Own(Choice):
    gives = staticmethod(lambda x: x)

    def scores(self, values):
        return self.gives(values)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    for parts in (SCORERS, SELECTORS):
        monkeypatch.setattr(parts, "outside", {"own": "elsewhere:Own"})
        monkeypatch.setattr(parts, "package", lambda name: "elsewhere")
        monkeypatch.setattr(parts, "_kept", {"own": Scorer})


BROKEN = [
    (lambda x: x[1:], r"a number for each row, here \(16,\): it gives"),
    (lambda x: x * float("nan"), "must give no NaN"),
    (lambda x: None, "it gives NoneType"),
    (lambda x: x.nothing, r"failed on 16 rows(.|\n)*nothing.*\(test_outside_selection.py, line"),
]


@pytest.mark.parametrize(
    ("gives", "told"),
    [*BROKEN, (lambda x: x.numpy(), "must give a torch.Tensor: it gives ndarray")],
)
def test_a_scorer_is_named(gives, told, monkeypatch):
    ask = (Settings(kind="own"), ("image", "text"), ("image", "text"))
    rehearse_scorer(*ask)
    monkeypatch.setattr(Scorer, "gives", staticmethod(gives))
    with pytest.raises(ContractError, match=told) as caught:
        rehearse_scorer(*ask)
    assert "package elsewhere" in str(caught.value)


@pytest.mark.parametrize(
    ("gives", "told"),
    [*BROKEN, (lambda x: torch.from_numpy(x), "must give a numpy.ndarray: it gives Tensor")],
)
def test_a_selector_is_named(gives, told, monkeypatch):
    rehearse_selector("own", Own(samples=100))
    monkeypatch.setattr(Own, "gives", staticmethod(gives))
    with pytest.raises(ContractError, match=told) as caught:
        rehearse_selector("own", Own(samples=100))
    assert "package elsewhere" in str(caught.value)
