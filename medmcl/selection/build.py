"""The maps of scorers and selectors, and how a recipe says one; reading imports no torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field, TypeAdapter

from medmcl.core.lazy import Parts
from medmcl.selection.settings import ScoreSettings, SelectorSettings

_SETTINGS, _SCORERS = "medmcl.selection.settings", "medmcl.selection.scorers"
SCORERS = Parts(
    {
        "clip_score": (f"{_SCORERS}:ClipScore", f"{_SETTINGS}:ClipScoreSettings"),
        "neg_clip_loss": (f"{_SCORERS}:NegClipLoss", f"{_SETTINGS}:NegClipLossSettings"),
        "norm_sim": (f"{_SCORERS}:NormSim", f"{_SETTINGS}:NormSimSettings"),
        "norm_sim_dynamic": (f"{_SCORERS}:NormSimDynamic", f"{_SETTINGS}:NormSimDynamicSettings"),
    },
    group="medmcl.scorers",
)
"""What a select stage judges a pool by: keeps the contract `Scorer`, or `ChoosesFromPool`."""

_CHOICES = "medmcl.selection.choices"
SELECTORS = Parts(
    {
        "differential": (
            "medmcl.selection.differential:Differential",
            f"{_SETTINGS}:DifferentialSettings",
        ),
        "random": (f"{_CHOICES}:RandomChoice", f"{_SETTINGS}:RandomSettings"),
        "small_loss": (f"{_CHOICES}:SmallLoss", f"{_SETTINGS}:SmallLossSettings"),
        "big_loss": (f"{_CHOICES}:BigLoss", f"{_SETTINGS}:BigLossSettings"),
        "clip_score": (f"{_CHOICES}:HighestCorrelation", f"{_SETTINGS}:HighestCorrelationSettings"),
    },
    group="medmcl.selectors",
)
"""What a train stage chooses rows of each batch by: a `medmcl.selection.choices.Choice`."""


@cache
def _by_kind(of_scorers: bool) -> TypeAdapter[Any]:
    """What tells settings by their ``kind``; made once modules of packages can be imported."""
    kinds: Any = Union[*(SCORERS if of_scorers else SELECTORS).settings.values()]
    return TypeAdapter(Annotated[kinds, Field(discriminator="kind")])


if TYPE_CHECKING:
    AnyScore = ScoreSettings
    AnySelector = SelectorSettings
else:
    AnyScore = Annotated[Any, BeforeValidator(lambda one: _by_kind(True).validate_python(one))]
    AnySelector = Annotated[Any, BeforeValidator(lambda one: _by_kind(False).validate_python(one))]
