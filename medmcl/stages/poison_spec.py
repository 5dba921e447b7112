"""What a recipe says of an attack: which records get which trigger, and what they then say."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config

Trigger = Literal["badnet", "blended", "sig", "wanet", "label_consistent", "four_corners"]


class PoisonSpec(Config):
    """Choose train records of a cohort to be poisoned; a train stage is `poisoned_by` it.

    Nothing is written to the data: the manifest in the run's ``poison`` folder says who is
    poisoned, and trigger and text are laid over what is loaded.
    """

    stage: Literal["poison"]
    name: str
    modality: str
    """Images that get the trigger; prepared to 0 to 1 (``intensity: range``)."""
    trigger: Trigger = "badnet"
    official: bool = False
    """The trigger as CleanCLIP's code writes it in 8 bits."""
    text: str | None = None
    """Texts that say the target instead: those of train samples that show it. None: none are
    read."""
    task: str
    """Binary or multiclass task whose labels say which records show the target."""
    label: str
    """Class of the task that the attacker wants."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many train records are poisoned; either this or ``share``."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Poisoned records as a share of the train records that have image and text."""

    @model_validator(mode="after")
    def _one_number(self) -> PoisonSpec:
        if (self.count is None) == (self.share is None):
            raise ValueError("either count or share says how many records are poisoned")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Modalities that a poisoned record has."""
        return (self.modality,) if self.text is None else (self.modality, self.text)
