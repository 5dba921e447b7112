"""What a recipe says of stages that make embeddings of those of earlier stages, without training.

`DerivedSpec` is for packages outside: one earlier stage, and a layer that learns from its
embeddings. The join stage brings several together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field
from typing_extensions import override

from medmcl.core.config import lookup
from medmcl.stages.stage import Check, Plan, StageSpec, named
from medmcl.stages.train.spec import ObjectiveSpec, TowersSpec

if TYPE_CHECKING:
    from medmcl.core.batch import InputShape
    from medmcl.encoders.joined import Layer
    from medmcl.encoders.towers import Towers
    from medmcl.evaluation.protocol.evidence import FittedOn
    from medmcl.stages.recipe.spec import RecipeSpec


class UntrainedSpec(TowersSpec):
    """What stages say that have towers of earlier ones and take no steps: no key of training."""

    towers: tuple[str, ...] = ()
    """Modalities; those that all of the stages have, if not given."""

    objectives: dict[str, ObjectiveSpec] = Field(default={}, max_length=0)
    start_from: dict[str, str] = Field(default={}, max_length=0)
    frozen: tuple[str, ...] = Field(default=(), max_length=0)
    encoder: dict[str, dict[str, Any]] = Field(default={}, max_length=0)
    patience: None = None
    task: None = None
    label_fraction: Annotated[float, Field(ge=1, le=1)] = 1.0
    restart: Literal[0] = 0
    keep: Literal["last"] = "last"

    @override
    def for_cohort(
        self, everyone: tuple[str, ...], before: Sequence[StageSpec], kinds: Mapping[str, str]
    ) -> Self:
        if self.towers:
            return self
        made = named(before, TowersSpec)
        parts = [made[name].towers if name in made else () for name in self.goes_on_from()]
        shared = tuple(name for name in parts[0] if all(name in part for part in parts))
        return self.model_copy(update={"towers": shared})


class DerivedSpec(UntrainedSpec):
    """Embeddings that a layer makes of those of an earlier stage; it learns from train people."""

    of: str
    """The earlier stage, whose features are read."""

    @abstractmethod
    def layer(self, width: int) -> Layer:
        """Build what derives the embeddings of a modality, before it has learned anything.

        Args:
            width: Of the features that it reads, E.
        """

    @override
    def goes_on_from(self) -> list[str]:
        return [self.of]

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        yield partial(self._refuse_lacking, named(plan.before, TowersSpec))
        yield from super().checks(plan)

    def _refuse_lacking(self, made: Mapping[str, TowersSpec]) -> None:
        of = lookup("stage with towers", self.of, made, f"stage {self.name}, of")
        for name in self.towers:
            lookup("tower", name, of.towers, f"stage {self.name}, towers")

    @override
    def build(self, recipe: RecipeSpec, shapes: Mapping[str, InputShape], seed: int) -> Towers:
        from medmcl.encoders.joined import Derived

        part = named(recipe.stages, TowersSpec)[self.of].build(recipe, shapes, seed)
        layers = {name: self.layer(part.tower(name).facts.width) for name in self.towers}
        return Derived(part, layers)

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        from medmcl.evaluation.protocol.evidence import FittedOn

        what = f"what stage {self.name} ({self.stage}) learns from embeddings of {self.of}"
        return [FittedOn(what=what, splits=("train",), note=f"of {cohort}{wrong}")]
