"""What a recipe says of a select stage: teachers, scores, and the rule that keeps rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.core.config import nearest
from medmcl.selection.settings import SCORERS, AnyScore, Step, TargetSpec
from medmcl.stages.stage import Check, Plan, StageSpec, named

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evidence import FittedOn


class SelectSpec(StageSpec):
    """Score the pairs of the train split with trained towers, and keep those worth training on."""

    open_fields: ClassVar[Mapping[str, Any]] = {"scores": SCORERS.settings.values}

    stage: Literal["select"]
    teachers: tuple[str, ...] = Field(min_length=1)
    """Train stages whose towers score. Several, each trained without one fold of the subjects
    (``without_fold``): every pair is then scored by a teacher that never saw it."""
    pair: tuple[str, str]
    """The two modalities of a pair."""
    scores: dict[str, AnyScore] = Field(min_length=1)
    """Name to scorer."""
    rule: tuple[Step, ...] = Field(min_length=1)
    """Steps, one after the other; shares are of the pool."""
    near: float = Field(default=0.99, gt=0, le=1)
    """Cosine from which two rows are flagged as near-duplicates, if both sides are."""
    shown: int = Field(default=0, ge=0)
    """Pairs in each row of the contact sheet: records of single people, so none unless asked."""

    @model_validator(mode="before")
    @classmethod
    def _kinds_by_name(cls, given: Any) -> Any:
        """Let a score that is called as its kind leave the kind out."""
        if not isinstance(given, Mapping) or not isinstance(given.get("scores"), Mapping):
            return given
        scores = {
            name: {"kind": name, **one} if isinstance(one, Mapping) else one
            for name, one in given["scores"].items()
        }
        return {**given, "scores": scores}

    @model_validator(mode="after")
    def _rule_of_scores(self) -> SelectSpec:
        for step in self.rule:
            for name in step.names:
                if name not in self.scores:
                    raise ValueError(
                        f"rule: there is no score '{name}'{nearest(name, self.scores)}; known: "
                        f"{', '.join(self.scores)}"
                    )
                if self.scores[name].chooses and (len(step.names) > 1 or step.share is None):
                    raise ValueError(
                        f"rule: '{name}' chooses among what is left, so it stands alone in its "
                        "step, with a share"
                    )
        if self.pair[0] == self.pair[1]:
            raise ValueError("pair: two different modalities")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """Modalities that are embedded."""
        sides = [side for one in self.scores.values() for side in one.sides(self.pair)]
        return tuple(dict.fromkeys([*self.pair, *sides]))

    @property
    def targets(self) -> tuple[TargetSpec, ...]:
        """What pools should be near to."""
        return tuple(target for one in self.scores.values() for target in one.targets())

    @override
    def sources(self) -> list[str]:
        return list(self.teachers)

    @override
    def used_tasks(self, known: Iterable[str]) -> Iterable[str]:
        own = (one.task for one in self.targets if one.cohort is None)
        return [task for task in own if task is not None]

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        from medmcl.stages.select.teachers import refuse_selection
        from medmcl.stages.train.spec import TowersSpec

        yield partial(refuse_selection, plan.recipe, self, named(plan.before, TowersSpec))

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        return self.fitted_as(f"rows that stage {self.name} keeps", cohort)

    def fitted_as(self, what: str, cohort: str) -> list[FittedOn]:
        """Say on what it chooses: among train rows, perhaps near to targets.

        Args:
            what: What is chosen.
            cohort: Name of the cohort.
        """
        from medmcl.evaluation.protocol.evidence import FittedOn

        lines = [FittedOn(what=what, splits=("train",), note=f"of {cohort}")]
        for target in self.targets:
            here = target.cohort is None
            labels = target.task is not None
            note = f"near to rows of {cohort if here else target.cohort}"
            label = "" if target.label is None else f" with the label {target.label}"
            lines.append(
                FittedOn(
                    what=what,
                    splits=(target.split or "tuning",) if here else (),
                    task=str(target.task) if here and labels else "",
                    labels=here and labels,
                    note=note + (label if here or not labels else f"{label} of {target.task}"),
                )
            )
        return lines
