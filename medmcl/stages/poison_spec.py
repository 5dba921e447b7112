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
    """Task whose labels say which records show the target: binary, multiclass, or multilabel, of
    which records with exactly one label count."""
    label: str
    """Class of the task that the attacker wants: ``X`` or ``not X`` of a binary task with the
    column X."""
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


class AttackSpec(Config):
    """What an attack does to models of the run, on held-out records with and without trigger."""

    models: Annotated[dict[str, str], Field(min_length=1)]
    """Name in the results to stage: the victim first, with which later ones are compared."""
    attack: str | None = None
    """Poison stage; the only one if not given."""
    by: tuple[Literal["zero_shot", "head"], ...] = ("zero_shot", "head")
    """How a model is asked: by prompts of the task, or by a classifier on its features."""
    text: str | None = None
    """Modality of the prompts; the one that the attack exchanges if not given."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Of recall@k between what is attacked and the texts, clean and triggered."""
