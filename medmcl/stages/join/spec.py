"""What a recipe says of a join stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.core.config import lookup, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.stages.derived.spec import UntrainedSpec
from medmcl.stages.stage import DEAD_END, SKIPPED, Check, Facts, Plan, named
from medmcl.stages.train.spec import TowersSpec, TrainSpec

if TYPE_CHECKING:
    from medmcl.core.batch import InputShape
    from medmcl.encoders.towers import Towers
    from medmcl.evaluation.protocol.evidence import FittedOn
    from medmcl.stages.recipe.spec import RecipeSpec


class JoinSpec(UntrainedSpec):
    """Several stages as one model: what they make of a record, brought together.

    Earlier stages that a cluster stage left out are left out here as well.
    """

    stage: Literal["join"]
    of: tuple[str, ...] = Field(min_length=1)
    """The stages."""
    how: Literal["concatenation", "average"] = "concatenation"
    """Embeddings side by side, or their mean; each is scaled to unit length first."""

    @model_validator(mode="after")
    def _each_once(self) -> JoinSpec:
        if len(set(self.of)) < len(self.of):
            raise ValueError("of: a stage stands twice")
        return self

    @override
    def goes_on_from(self) -> list[str]:
        return list(self.of)

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        yield partial(self._refuse_apart, named(plan.before, TowersSpec))
        yield from super().checks(plan)

    def _refuse_apart(self, made: Mapping[str, TowersSpec]) -> None:
        """Refuse to join what has no towers, or no modality in common.

        Raises:
            ConfigError: Names the stage and the key.
        """
        where = f"stage {self.name}, of"
        for name in self.of:
            able = named(made.values(), TrainSpec)
            refuse_absent(name, able, f"'{name}' is no train stage before it", where=where)
        for name in self.of:
            lacks = [one for one in self.towers if one not in made[name].towers]
            if lacks or not self.towers:
                raise ConfigError(
                    f"the stages have no tower of {', '.join(lacks)} in common"
                    if lacks
                    else "the stages have no modality in common",
                    where=where,
                    got=", ".join(f"{one}: {' and '.join(made[one].towers)}" for one in self.of),
                )

    @override
    def why_skipped(self, facts: Facts) -> str:
        return "" if self.as_run(facts).of else f"{', '.join(self.of)} are left out or wrecked"

    @override
    def as_run(self, facts: Facts) -> Self:
        there = tuple(name for name in self.of if not {SKIPPED, DEAD_END} & {*facts(name)})
        return self.model_copy(update={"of": there})

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        return self.fitted_weights(cohort, wrong)

    @override
    def build(self, recipe: RecipeSpec, shapes: Mapping[str, InputShape], seed: int) -> Towers:
        from medmcl.encoders.joined import Joined

        made = named(recipe.stages, TowersSpec)
        where = f"stage {self.name}, of"
        parts = [lookup("stage with towers", name, made, where) for name in self.of]
        return Joined([part.build(recipe, shapes, seed) for part in parts], self.towers, self.how)
