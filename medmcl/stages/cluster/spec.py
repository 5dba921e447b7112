"""What a recipe says of groups: clusters of a stage's embeddings, and batches within groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.core.config import Config, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.stages.stage import Check, Plan, StageSpec, named

if TYPE_CHECKING:
    import numpy as np

    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.protocol.evidence import FittedOn


class ClusterSpec(StageSpec):
    """Cluster what a stage has learned: rows of one group share it, so it cannot part them.

    Clusters are those of train rows; tuning rows go to the nearest centre.
    """

    stage: Literal["cluster"]
    of: str
    """Earlier stage whose embeddings are clustered."""
    modality: str | tuple[str, ...]
    """One, or several: the product of their partitions, or ``side_by_side``."""
    together: Literal["product", "side_by_side"] = "product"
    """Of several modalities: each parted into ``clusters``, and every combination is a cluster; or
    one partition of their embeddings side by side."""
    space: Literal["features", "pooled"] = "features"
    """What is clustered: what comes before the projection head, or the shared space."""
    clusters: Annotated[int, Field(ge=2)] | Literal["auto"] = 10
    """K, of each modality; ``auto``: of 2 to 20, by the silhouette."""
    after: str | None = None
    """Earlier cluster stage, whose labels go on: y = K y_before + c."""
    smallest: int = Field(default=32, ge=2)
    """People of whom a group must have train rows; a smaller one joins the nearest."""
    stop: bool = True
    """Whether stages that train within these groups are left out where they would not pay: more
    than half of the rows are in groups below ``smallest``, or this stage adds less than ``adds``
    to those before it."""
    adds: float = Field(default=0.05, ge=0, lt=1)
    """Share of this stage's embedding that earlier ones must not give already, by a linear map."""
    backend: Literal["sklearn", "faiss"] = "sklearn"
    placebo: bool = False
    """Deal the groups out to other rows at random: a control with groups of the same sizes."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are clustered."""
        return (self.modality,) if isinstance(self.modality, str) else self.modality

    @model_validator(mode="after")
    def _each_once(self) -> ClusterSpec:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError("modality: one, or a list of different ones")
        return self

    @override
    def sources(self) -> list[str]:
        return [self.of, *([] if self.after is None else [self.after])]

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        yield partial(self._refuse_sources, plan)

    def _refuse_sources(self, plan: Plan) -> None:
        """Refuse to cluster what no stage embeds, and to go on with labels that no stage gives.

        Raises:
            ConfigError: Names the stage and the key.
        """
        from medmcl.stages.train.spec import TowersSpec

        made, clustered = named(plan.before, TowersSpec), named(plan.before, ClusterSpec)
        where = f"stage {self.name}"
        what = f"'{self.of}' is no stage before it that has towers"
        refuse_absent(self.of, made, what, where=f"{where}, of", none="a train stage before it")
        for name in self.modalities:
            what = f"stage '{self.of}' has no tower '{name}'"
            refuse_absent(name, made[self.of].towers, what, where=f"{where}, modality")
        if self.after is not None:
            what = f"'{self.after}' is no cluster stage before it"
            none = "none: this is the first; leave `after` out"
            refuse_absent(self.after, clustered, what, where=f"{where}, after", none=none)

    @override
    def checks_on(self, cohort: Cohort, tasks: Sequence[str]) -> Iterable[Check]:
        for name in self.modalities:
            yield partial(self.refuse_many, name, len(cohort.train_rows([name])))

    def refuse_many(self, name: str, rows: int) -> None:
        """Refuse more clusters than there are train rows with a modality.

        Raises:
            ConfigError: Names the stage.
        """
        if self.clusters != "auto" and self.clusters > rows:
            fewer = max(2, rows // self.smallest)
            raise ConfigError(
                "there are fewer rows than clusters",
                where=f"stage {self.name}, clusters",
                got=f"{self.clusters:,} clusters of {rows:,} train rows with {name}",
                expected=f"at most {rows:,}; groups of {self.smallest} people or more need {fewer} "
                "or fewer",
                fix=f"--set stages.{self.name}.clusters={fewer}",
            )

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        from medmcl.evaluation.protocol.evidence import FittedOn

        what = f"groups of stage {self.name}, for negatives"
        return [FittedOn(what=what, splits=("train",), note=f"of {cohort}")]


class GroupsSpec(Config):
    """Groups within which a stage finds its negatives: of a cluster stage, or of columns."""

    stage: str | None = None
    """Earlier cluster stage."""
    columns: tuple[str, ...] = ()
    """``site``, ``sex``, ``age`` (in bands), a subgroup of the cohort or a column of its subjects;
    of several, every combination is a group."""
    batches: Literal["one_group", "mixed"] = "one_group"
    """Batches of one group each; or of all, where a row is compared with its own group only."""
    smallest: int = Field(default=32, ge=2)
    """Of columns: people that a group must have; smaller ones are pooled."""
    missing: Literal["refuse", "group", "leave_out"] = "refuse"
    """Of columns: what is done with rows without a value: nothing is trained; they are a group of
    their own, whose rows may differ in the value; or they are left out."""
    placebo: bool = False
    """Of columns: deal the groups out to other rows at random: a control with groups of the same
    sizes, as many steps and nothing in common."""

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"stage": given}
        return {"columns": given} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _one_source(self) -> GroupsSpec:
        if (self.stage is None) == (not self.columns):
            raise ValueError("groups: either `stage`, a cluster stage, or `columns`, a list")
        if self.placebo and self.stage is not None:
            raise ValueError("groups: placebo is of columns; of clusters it is set at their stage")
        return self


ONE_GROUP = 0.95
"""Share of rows in one group from which on it is said."""


def nearly_all(sizes: np.ndarray) -> list[str]:
    """Warn where one of groups of these sizes holds nearly all rows; nothing where none does."""
    share = sizes.max() / sizes.sum() if len(sizes) else 0.0
    if share < ONE_GROUP:
        return []
    return [
        f"warning: one group holds {100 * share:.0f} % of the rows: within it negatives are as "
        "without groups"
    ]


def told(names: Sequence[str]) -> str:
    """Name columns of which every combination is a group."""
    return " x ".join(names)


def cell_text(value: object) -> str:
    """Write a value of a column, or one that is meant to be: 1 for 1.0."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
