"""Confounders as an aspect: what the embeddings tell beside the tasks, as site, sex or age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_serializer, model_validator
from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found


class ConfounderSpec(AspectSpec):
    """What else models are asked for: attributes of subjects, columns of their table, or ``all``.

    A recipe writes the names alone, ``confounders: [site, sex]``.
    """

    asks_models: ClassVar[bool] = True
    sets_beside: ClassVar[bool] = True

    names: tuple[str, ...] | Literal["all"] = Field(default=())
    """Attributes of subjects (site, sex, age, those of ``subgroups:``; ``all`` of these), or
    columns of the subjects table."""

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, given: Any) -> Any:
        return given if isinstance(given, Mapping) else {"names": given}

    @model_serializer
    def _as_written(self) -> Any:
        return self.names

    @property
    @override
    def is_asked(self) -> bool:
        return bool(self.names)

    @override
    def checks_on(self, name: str, cohort: Cohort, tasks: Sequence[str]) -> object:
        from medmcl.evaluation.aspects.confounders.names import confounder_names

        return confounder_names(self, cohort, where=name)


class Confounders(Aspect[ConfounderSpec]):
    """How well each is predicted from the embeddings that tasks are predicted from."""

    Settings = ConfounderSpec
    page = "medmcl.evaluation.aspects.confounders.section"

    @override
    def measure(self, spec: ConfounderSpec, scene: Scene) -> Found:
        from medmcl.evaluation.aspects.confounders.ask import ask_confounders
        from medmcl.evaluation.protocol.evaluation import Found

        return Found(shown={"confounders": [*ask_confounders(spec, scene)]})
