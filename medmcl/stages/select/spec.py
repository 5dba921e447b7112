"""What a recipe says of a select stage: teachers, scores, and the rule that keeps rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.core.config import Config, nearest
from medmcl.stages.stage import Check, Plan, StageSpec

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evidence import FittedOn

Kind = Literal["clip_score", "neg_clip_loss", "norm_sim", "norm_sim_dynamic"]


class TargetSpec(Config):
    """The rows that a pool should be near to; never those of held_out."""

    cohort: str | None = None
    """Another cohort, by path or name; this one if not given."""
    split: Literal["train", "tuning"] | None = None
    """Its split; of another cohort train, of this one tuning, if not given."""
    task: str | None = None
    """Only rows whose label of this task is known."""
    label: str | None = None
    """Only rows that have this label of the task: one of its columns, or of its classes."""

    @model_validator(mode="after")
    def _label_of_a_task(self) -> TargetSpec:
        if self.label is not None and self.task is None:
            raise ValueError("label: of which task? name it with `task`")
        return self


class ClipScoreSpec(Config):
    """Cosine of the two sides of a pair."""

    kind: Literal["clip_score"]


class NegClipLossSpec(Config):
    """Negative CLIP loss of a pair in random batches of the pool (Wang et al. 2024)."""

    kind: Literal["neg_clip_loss"]
    temperature: float | None = Field(default=None, gt=0)
    """The one the teacher was trained to, if not given."""
    batch_size: int = Field(default=32768, ge=2)
    """Rows of a batch; a smaller pool is one batch."""
    divisions: int = Field(default=10, ge=1)
    """Random divisions of the pool into batches."""
    tail: Literal["wrap", "official"] = "wrap"
    """What is done with a last batch that is smaller."""


class NormSimSpec(Config):
    """Nearness of one modality to the rows of a target (Wang et al. 2024)."""

    kind: Literal["norm_sim"]
    modality: str | None = None
    """The first of the pair if not given."""
    p: Literal[1, 2, 3, "inf"] = 2
    target: TargetSpec = TargetSpec()


class NormSimDynamicSpec(Config):
    """Nearness of one modality to what the rule leaves, round by round, without a target."""

    kind: Literal["norm_sim_dynamic"]
    modality: str | None = None
    """The first of the pair if not given."""
    rounds: int = Field(default=100, ge=1)


ScoreSpec = Annotated[
    ClipScoreSpec | NegClipLossSpec | NormSimSpec | NormSimDynamicSpec, Field(discriminator="kind")
]


class StepSpec(Config):
    """A step of the rule, `medmcl.selection.rule.Step`."""

    by: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A score, or several whose ranks are fused."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the pool that is left after it."""
    at_least: float | None = None
    """Lowest score that stays, in the place of a share."""

    @model_validator(mode="after")
    def _one_cut(self) -> StepSpec:
        if (self.share is None) == (self.at_least is None):
            raise ValueError("a step keeps a `share`, or what has a score of `at_least`: say one")
        if self.at_least is not None and len(self.names) > 1:
            raise ValueError("at_least: of one score; fused ranks have no scale")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Scores it reads."""
        return (self.by,) if isinstance(self.by, str) else self.by


class SelectSpec(StageSpec):
    """Score the pairs of the train split with trained towers, and keep those worth training on."""

    stage: Literal["select"]
    teachers: tuple[str, ...] = Field(min_length=1)
    """Train stages whose towers score. Several, each trained without one fold of the subjects
    (``without_fold``): every pair is then scored by a teacher that never saw it."""
    pair: tuple[str, str]
    """The two modalities of a pair."""
    scores: dict[str, ScoreSpec] = Field(min_length=1)
    """Name to scorer."""
    rule: tuple[StepSpec, ...] = Field(min_length=1)
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
                if self.scores[name].kind == "norm_sim_dynamic" and (
                    len(step.names) > 1 or step.share is None
                ):
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
        sides = [getattr(one, "modality", None) for one in self.scores.values()]
        return tuple(dict.fromkeys([*self.pair, *(name for name in sides if name is not None)]))

    @property
    def targets(self) -> tuple[TargetSpec, ...]:
        """What pools should be near to."""
        return tuple(one.target for one in self.scores.values() if isinstance(one, NormSimSpec))

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

        yield partial(refuse_selection, plan.recipe, self, plan.named(TowersSpec))

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
