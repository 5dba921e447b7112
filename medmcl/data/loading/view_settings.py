"""What a recipe may say of a view; read without torch, so that a mistake is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from medmcl.core.config import Config

Chance = Annotated[float, Field(ge=0, lt=1)]


class ViewSettings(Config):
    """What a view does to each modality."""

    modalities: tuple[str, ...] | None = None
    """Modalities the view shows; all of the model's if not given."""
    augment: dict[str, dict[str, Any]] = {}
    """Modality to options of its adapter's augmentation; a modality not named stays plain."""
    mask: dict[str, float] = {}
    """Modality to the share of its tokens that is hidden."""
    drop: Chance | dict[str, Chance] = {}
    """Chance of a row to lose a modality that it has, one for all or by modality; a row never loses
    all that the view shows of it."""
    at_tuning: Literal["plain", "same"] = "plain"
    """Whether the tuning loss is taken without augmentation (masks stay) or with it."""

    def with_default(self, modality: str, options: Mapping[str, Any]) -> ViewSettings:
        """Give the view with these options of a modality's augmentation, where it says nothing."""
        augment = {**self.augment, modality: {**options, **self.augment.get(modality, {})}}
        return self.model_copy(update={"augment": augment})
