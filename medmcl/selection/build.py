"""The maps of scorers and selectors, and how a recipe says one; reading imports no torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Field, PydanticUserError, TypeAdapter

from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts, is_named_by
from medmcl.selection.settings import ScoreSettings, SelectorSettings

SCORERS = Parts(
    {
        "clip_score": "medmcl.selection.scorers:ClipScore",
        "neg_clip_loss": "medmcl.selection.scorers:NegClipLoss",
        "norm_sim": "medmcl.selection.scorers:NormSim",
        "norm_sim_dynamic": "medmcl.selection.scorers:NormSimDynamic",
    },
    group="medmcl.scorers",
    keeps=is_named_by("medmcl.scorers", "kind"),
    settings="medmcl.selection.settings",
)
"""What a select stage judges a pool by: keeps the contract `Scorer`, or `ChoosesFromPool`."""

SELECTORS = Parts(
    {
        "differential": "medmcl.selection.differential:Differential",
        "random": "medmcl.selection.choices:RandomChoice",
        "small_loss": "medmcl.selection.choices:SmallLoss",
        "big_loss": "medmcl.selection.choices:BigLoss",
        "clip_score": "medmcl.selection.choices:HighestCorrelation",
    },
    group="medmcl.selectors",
    keeps=is_named_by("medmcl.selectors", "kind"),
    settings="medmcl.selection.settings",
)
"""What a train stage chooses rows of each batch by: a `medmcl.selection.choices.Choice`."""


@cache
def _by_kind(of_scorers: bool) -> TypeAdapter[Any]:
    """What tells settings by their ``kind``; made once modules of packages can be imported."""
    parts = SCORERS if of_scorers else SELECTORS
    kinds: Any = Union[*parts.settings.values()]
    try:
        return TypeAdapter(Annotated[kinds, Field(discriminator="kind")])
    except PydanticUserError as error:
        raise ConfigError(
            "a part of another package cannot be told by its kind",
            where=f"entry points '{parts.group}'",
            got=error.message,
            fix='give its settings `kind: Literal["name"]`, the name that recipes write',
        ) from None


if TYPE_CHECKING:
    AnyScore = ScoreSettings
    AnySelector = SelectorSettings
else:
    AnyScore = Annotated[Any, BeforeValidator(lambda one: _by_kind(True).validate_python(one))]
    AnySelector = Annotated[Any, BeforeValidator(lambda one: _by_kind(False).validate_python(one))]
