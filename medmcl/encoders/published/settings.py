"""What can be set of each published encoder in a recipe: one model a card, made of the card.

``medmcl.encoders.published.settings:NAME`` is that of the card ``NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, create_model

from medmcl.core.config import Config
from medmcl.encoders.published.card import Card, read_card
from medmcl.encoders.published.card_files import card_files


class PublishedSettings(Config):
    """Which file, and which of the card's choices."""

    card: ClassVar[Card]
    weights: Path | None = Field(
        default=None, description="local file in its authors' layout; none: first weights"
    )
    variant: str
    preparation: str | None = Field(
        default=None, description="another than the card's usual one; this card has none"
    )
    output: str
    sizes: dict[str, Any] = Field(
        default={}, description="what a file says of its sizes that its variant has not"
    )

    def inputs(self) -> Mapping[str, Any]:
        """How its records are prepared where a recipe says nothing else; see `KnowsInputs`."""
        return self.card.settings(self.variant, self.preparation)

    @property
    def input_kind(self) -> str:
        """Kind of modality that it reads."""
        return self.card.input.modality


@cache
def settings_of(name: str) -> type[PublishedSettings]:
    """Give the settings of a card by its name."""
    card = read_card(name)
    one_of = {key: Literal[tuple(getattr(card, key))] for key in ("variants", "outputs")}
    fields: dict[str, Any] = {
        "variant": (
            one_of["variants"],
            Field(default=card.default, description="as `medmcl models` lists them"),
        ),
        "output": (
            one_of["outputs"],
            Field(default=card.probe, description="what stands for a record"),
        ),
    }
    if card.preparations:
        fields["preparation"] = (
            Literal[tuple(card.preparations)] | None,
            Field(default=None, description="what inputs.NAME is if not said; none: the usual one"),
        )
    made = create_model(f"{name}_settings", __base__=PublishedSettings, **fields)
    made.__doc__ = f"{card.title}: a published encoder, with the preparation of its card."
    made.card = card
    return made


def __getattr__(name: str) -> type[PublishedSettings]:
    if name.startswith("_") or name not in card_files():
        raise AttributeError(f"there is no card '{name}'")
    return settings_of(name)
