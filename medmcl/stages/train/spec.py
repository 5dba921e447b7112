"""What a recipe says of stages that make towers, and of train stages."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field
from typing_extensions import override

from medmcl.core.config import Config, check, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.overrides import typed
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.selection.settings import SELECTORS, AnySelector
from medmcl.stages.cluster.spec import GroupsSpec, told
from medmcl.stages.stage import Check, Facts, Plan, StageSpec, named
from medmcl.stages.train.subset_spec import SubsetSpec

if TYPE_CHECKING:
    from medmcl.core.batch import InputShape
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.encoders.towers import Towers
    from medmcl.evaluation.protocol.evidence import FittedOn
    from medmcl.stages.recipe.spec import RecipeSpec

Placeholder = Annotated[str, Field(pattern=r"^\{\w+\}$")]
"""A variable of ``for_each`` that stands where a number will."""


OTHER_WEIGHTS = "other_weights"
"""Key of what a finished stage says of towers that began with weights of no model card."""


class ObjectiveSpec(Config):
    """One objective of a train stage; keys beside ``kind`` and ``loss_weight`` are its own."""

    kind: str
    loss_weight: float = Field(default=1.0, gt=0)
    """Share of this objective in the loss of the stage."""
    settings: dict[str, Any] = {}

    def scale_option(self, name: str) -> str | None:
        """What its ``scale`` says of ``name``; None if nothing."""
        scale = self.settings.get("scale")
        found = scale.get(name) if isinstance(scale, dict) else None
        return found if isinstance(found, str) else None


class WeightsSpec(Config):
    """Weights from a local file: of an encoder, and of its projection if asked for.

    Under ``shared``: of a whole shared tower.
    """

    path: Path
    names: str = "same"
    """Name map: ``same``, or a name that `medmcl.encoders.weights` knows."""
    head: bool = False
    """Whether the projection comes from the file as well (name map ``open_clip``)."""


class TowersSpec(StageSpec):
    """What every stage that makes towers says."""

    towers: tuple[str, ...]
    """Modalities whose towers take part."""
    start_from: dict[str, str] = {}
    """Modality to the earlier stage its tower comes from, of joined ones the last; the others
    start from the seed. What a shared tower shares comes from that stage too, or from the one named
    for ``shared``."""
    frozen: tuple[str, ...] = ()
    """Modalities whose tower is not trained; ``shared`` for what a shared tower shares."""
    encoder: dict[str, dict[str, Any]] = {}
    """Modality to encoder settings that differ in this stage (drop path in fine-tuning); to those
    of its input projection, and ``shared`` to those of the tower, where it is shared."""
    objectives: dict[str, ObjectiveSpec] = {}
    keep: Literal["best", "last"] = "best"
    """Which checkpoint later stages take."""
    patience: int | None = Field(None, ge=1)
    task: str | None = None
    """Task whose labels train; only labelled samples are drawn."""
    label_fraction: Annotated[float, Field(gt=0, le=1)] | Placeholder = 1.0
    restart: int = Field(default=0, ge=0)
    """Number of the random start: another one begins at other weights and draws other batches."""

    @property
    @override
    def trained_task(self) -> str | None:
        return self.task

    @property
    def fold(self) -> tuple[int, int] | None:
        """The fold of the subjects that it is trained without, and of how many."""
        return None

    @property
    def grouped_by(self) -> str | None:
        """Cluster stage within whose groups it is trained."""
        return None

    @property
    def tables_filled(self) -> tuple[str, ...]:
        """Modalities for whose codes it gives a table of vectors to start from."""
        return ()

    @property
    def is_of_subjects(self) -> bool:
        """Whether what it learns from are the subjects of the cohort."""
        return True

    def goes_on_from(self) -> list[str]:
        """Name the stages whose weights, or what they make of records, it goes on from."""
        return list(self.start_from.values())

    @override
    def sources(self) -> list[str]:
        return self.goes_on_from()

    @override
    def used_tasks(self, known: Iterable[str]) -> Iterable[str]:
        return () if self.task is None else (self.task,)

    @override
    def by_modality(self) -> Iterable[tuple[str, Mapping[str, Any]]]:
        yield "encoder", self.encoder

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        from medmcl.stages.train.checks import tower_checks

        as_written = self.model_copy(update={"name": plan.written})
        return tower_checks(plan.recipe, as_written, named(plan.before, TowersSpec), plan.kinds)

    def build(self, recipe: RecipeSpec, shapes: Mapping[str, InputShape], seed: int) -> Towers:
        """Build its towers at their first weights.

        Args:
            recipe: The recipe.
            shapes: Modality to the shape of its input.
            seed: Of the run.
        """
        from medmcl.stages.train.models import first_towers

        return first_towers(recipe, self, shapes, seed)

    def fitted_weights(self, cohort: str, wrong: str) -> list[FittedOn]:
        """Give the ledger lines of weights that train rows taught: for `fitted` of such a stage.

        Args:
            cohort: Name of the cohort.
            wrong: Said of pairs that were made wrong on purpose.
        """
        from medmcl.evaluation.protocol.evidence import FittedOn

        share = f", {100 * float(self.label_fraction):g} % of the labels" if self.task else ""
        weights = FittedOn(
            what=f"weights of stage {self.name}",
            splits=("train",),
            task=self.task or "",
            labels=self.task is not None,
            note=f"of {cohort}{share}{wrong}",
        )
        chosen = ["checkpoint"] if self.keep == "best" else []
        chosen += ["early stopping"] if self.patience is not None else []
        if not chosen:
            return [weights]
        what = f"{' and '.join(chosen)} of stage {self.name}"
        return [weights, replace(weights, what=what, splits=("tuning",))]

    @override
    def summary(self) -> str:
        return super().summary() + (f" ({', '.join(self.towers)})" if self.towers else "")


class TrainSpec(TowersSpec):
    """Train towers with some objectives."""

    exclusive: ClassVar[tuple[str, ...]] = ("epochs", "steps")
    open_fields: ClassVar[Mapping[str, Any]] = {"selector": SELECTORS.settings.values}

    stage: Literal["train"]
    towers: tuple[str, ...] = ()
    """Modalities whose towers take part; all that the recipe reads if not given."""
    weights: dict[str, WeightsSpec] = {}
    """Modality to a local weights file for its tower."""
    vectors: dict[str, str] = {}
    """Modality to the earlier stage whose table of vectors its code embeddings start from."""
    objectives: dict[str, ObjectiveSpec] = Field(min_length=1)
    views: dict[str, ViewSettings] = {}
    """Views of this stage, beside those of the recipe."""
    optimiser: OptimiserSettings = OptimiserSettings()
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of a running mean of the weights, which then is what is judged on tuning, kept, and
    embeds; 0.999 is usual. The last weights themselves if not given."""
    recompute: bool = False
    """Whether blocks of encoders keep no activations for the backward pass and are run again in it:
    less memory, a third more time, the same gradients."""
    compile: bool | Literal["auto"] = False
    """Whether repeated blocks of encoders and decoders are compiled by torch: other bits, a minute
    at the start, faster steps. ``auto``: on a GPU."""
    onednn: bool = False
    """Whether linear layers in float32 on a CPU are computed by oneDNN: up to twice as fast on one
    that is not Intel's, other bits."""
    channels_last: bool | Literal["auto"] = False
    """Whether weights of convolutions lie with their channels last: other bits. ``auto``: where a
    few passes on the device, at the start, are faster so; what was chosen is in the record."""
    length_groups: int | None = Field(None, ge=1)
    """Groups of like length that the texts, and the codes, of a batch are encoded in, each cut to
    its longest row, so that little padding is computed: other bits. Not cut if not given."""
    batch_size: int = Field(128, ge=2)
    accumulate: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Parts that each process encodes its batch in, twice each: less memory, more time, the loss of
    the whole batch. ``auto``: the fewest that fit in what memory is free as the stage begins."""
    part_norms: bool = False
    """Whether batch norms may see the rows of a part where ``accumulate`` is a number: loss and
    gradient are then not those of the whole batch."""
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    evaluate_every: float = Field(1.0, gt=0)
    """Epochs between tuning evaluations (each is also a checkpoint)."""
    log_every: int = Field(50, ge=1)
    selector: AnySelector | None = None
    """Which rows of each batch deserve a step; all of them if not given."""
    rows: Literal["all", "any"] | None = None
    """Samples with all or any of the modalities; all up to two towers, any above."""
    draw: int | Placeholder = 0
    """Which draw of the label fraction."""
    selected_by: str | None = None
    """Earlier select stage; only rows that it keeps are drawn."""
    subset: SubsetSpec | None = None
    """Train subjects that the stage is confined to; all of them if not given."""
    poisoned_by: str | None = None
    """Earlier poison stage, whose trigger and target are laid over the records it chose."""
    without_fold: int | Placeholder | None = None
    """Fold of the subjects that is left out, for a select stage to score."""
    folds: int = Field(default=2, ge=2)
    """Folds that ``without_fold`` counts, from 0."""
    groups: GroupsSpec | None = None
    """Groups within which negatives are found; all rows if not given."""
    teacher: str | None = None
    """Earlier stage whose embeddings the objective ``distil`` learns."""
    for_each: dict[str, Any] = {}
    """Variable to values; ``task: all`` means every task of the cohort."""
    exceptions: dict[str, dict[str, Any]] = {}
    """Of ``for_each``: name of a single stage that comes of it, to what differs there:
    ``{finetune-af-0.1: {epochs: 3}}``, or ``--set stages.finetune-af-0.1.epochs=3``."""

    @property
    def parts(self) -> int:
        """Parts of a batch; one where the stage has yet to find how many."""
        return 1 if self.accumulate == "auto" else self.accumulate

    @property
    @override
    def fold(self) -> tuple[int, int] | None:
        return None if self.without_fold is None else (int(self.without_fold), self.folds)

    @property
    @override
    def grouped_by(self) -> str | None:
        return None if self.groups is None else self.groups.stage

    @override
    def goes_on_from(self) -> list[str]:
        teacher = [] if self.teacher is None else [self.teacher]
        return [*self.start_from.values(), *self.vectors.values(), *teacher]

    @override
    def sources(self) -> list[str]:
        scales = [one.scale_option("start_from") for one in self.objectives.values()]
        more = (self.selected_by, self.poisoned_by, self.grouped_by, *scales)
        return [*self.goes_on_from(), *(one for one in more if one is not None)]

    @override
    def fix_source(self, name: str) -> str | None:
        if name != self.grouped_by:
            return None
        return f"for groups by a column of the cohort, write groups: [{name}]"

    @override
    def refuse_incomplete(self) -> None:
        key = f"--set stages.{self.name}"
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(
                "has both epochs and steps, and only one of them can say how long it trains",
                where=f"stage {self.name}",
                got=f"epochs={self.epochs:g} and steps={self.steps}",
                expected="one of them; the other null",
                fix=f"'{key}.epochs=null', or '{key}.steps=null'",
            )
        if self.epochs is None and self.steps is None:
            raise ConfigError(
                "has neither epochs nor steps, so it is not said how long it trains",
                where=f"stage {self.name}",
                fix=f"'{key}.epochs=10', or '{key}.steps=1000'",
            )

    @override
    def written_out(self, tasks: Sequence[str]) -> Iterable[StageSpec]:
        if not self.for_each:
            yield self
            return
        from medmcl.stages.recipe.stage_names import with_exceptions

        values = {
            name: list(tasks) if chosen == "all" else list(chosen)
            for name, chosen in self.for_each.items()
        }
        tree = self.model_dump(by_alias=True)
        tree["for_each"] = {}
        combinations = [
            dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())
        ]
        names = [str(fill(self.name, variables)) for variables in combinations]
        for name in self.exceptions:
            fix = f"write one of these names; '{self.name}' is written for them all"
            refuse_absent(name, names, f"there is no stage '{name}'", fix=fix)
        for name, variables in zip(names, combinations, strict=True):
            laid = with_exceptions(tree, self.exceptions.get(name, {}))
            yield check(
                TrainSpec, fill(laid, variables), f"stage {name}", ConfigError, f"stages.{name}"
            )

    @override
    def for_cohort(
        self, everyone: tuple[str, ...], before: Sequence[StageSpec], kinds: Mapping[str, str]
    ) -> Self:
        return self if self.towers else self.model_copy(update={"towers": everyone})

    @override
    def by_modality(self) -> Iterable[tuple[str, Mapping[str, Any]]]:
        yield from super().by_modality()
        for name, view in self.views.items():
            yield f"views.{name}.augment", view.augment

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        from medmcl.stages.train.checks import source_checks

        yield from source_checks(self, plan.before)
        yield from super().checks(plan)

    @override
    def checks_on(self, cohort: Cohort, tasks: Sequence[str]) -> Iterable[Check]:
        if self.groups is not None and self.groups.columns:
            from medmcl.stages.cluster.column_groups import column_groups, refuse_outcomes

            where = f"stage {self.name}, groups"
            yield partial(refuse_outcomes, self.groups, tasks, cohort, where)
            yield partial(
                column_groups, self.groups, cohort.train_rows(self.towers), cohort, where, 0
            )
        if self.subset is not None and self.subset.column is not None:
            from medmcl.stages.train.train_filter import picked

            yield partial(picked, self.subset, cohort, f"stage {self.name}")

    @override
    def file_checks(self, cohort: Cohort) -> Iterable[Check]:
        if self.subset is not None and self.subset.file:
            from medmcl.stages.train.train_filter import picked

            yield partial(picked, self.subset, cohort, f"stage {self.name}")

    @override
    def why_skipped(self, facts: Facts) -> str:
        found = super().why_skipped(facts)
        if found or self.grouped_by is None:
            return found
        stopped = facts(self.grouped_by).get("stopped")
        return f"{self.grouped_by}: {stopped}" if stopped else ""

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        from medmcl.evaluation.protocol.evidence import FittedOn

        lines = self.fitted_weights(cohort, wrong)
        if self.groups is None or not self.groups.columns:
            return lines
        what = f"negatives of stage {self.name}: of one {told(self.groups.columns)}"
        return [FittedOn(what=what, splits=("train",), note=f"columns of {cohort}"), *lines]

    @override
    def summary(self) -> str:
        length = f"{self.epochs:g} epochs" if self.epochs else f"{self.steps} steps"
        each = ", ".join(f"{key} {typed(one)}" for key, one in self.for_each.items())
        parts = [
            f"train: {', '.join(self.towers) or 'every modality'} by {', '.join(self.objectives)}",
            length,
            *(f"{name} from {one}" for name, one in self.start_from.items()),
            *([f"once for each {each}: {self.name}"] if each else []),
        ]
        return "; ".join(parts)


def fill(tree: Any, variables: Mapping[str, Any]) -> Any:
    """Replace ``{name}`` in every string of ``tree``; a string that is only that keeps the type."""
    if isinstance(tree, dict):
        return {key: fill(value, variables) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [fill(value, variables) for value in tree]
    if not isinstance(tree, str):
        return tree
    for name, value in variables.items():
        if tree == f"{{{name}}}":
            return value
        tree = tree.replace(f"{{{name}}}", str(value))
    return tree
