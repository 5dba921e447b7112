"""An attack as an aspect: what its trigger does to models, on held-out records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfModels

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found

FOREIGN = "the run's attack is of its own cohort"


class AttackSpec(OfModels):
    """What an attack does to models of the run, on held-out records with and without trigger."""

    sets_beside: ClassVar[bool] = True

    models: Annotated[dict[str, str], Field(min_length=1)]
    """Name in the results to stage: the victim first, with which later ones are compared."""
    attack: str | None = None
    """Poison stage; the only one if not given."""
    by: tuple[Literal["zero_shot", "head"], ...] = ("zero_shot", "head")
    """How a model is asked: by prompts of the task, or by a classifier on its features."""
    text: str | None = None
    """Modality of the prompts; the texts of the attack if not given."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
    """Of recall@k between what has the trigger and what is exchanged, clean and triggered."""

    @model_validator(mode="after")
    def _asked_somehow(self) -> AttackSpec:
        if not self.by:
            raise ValueError("by: how is a model asked? zero_shot, head, or both")
        return self

    @override
    def sources(self) -> list[str]:
        return [*self.stages(), *([] if self.attack is None else [self.attack])]

    @override
    def wanted(
        self, name: str, cohort: Cohort, left_out: Callable[[str], str], *, is_own: bool
    ) -> tuple[Self | None, list[str]]:
        found, notes = super().wanted(name, cohort, left_out, is_own=is_own)
        if found is None or is_own:
            return found, notes
        return None, [*notes, f"attack left out: {FOREIGN}"]


class Attack(Aspect[AttackSpec]):
    """Rates of an attack, by each way that a model can be asked."""

    Settings = AttackSpec
    has_rows = True
    page = "medmcl.evaluation.aspects.attack.figures"

    @override
    def measure(self, spec: AttackSpec, scene: Scene) -> Found:
        return scene.attacked(spec)
