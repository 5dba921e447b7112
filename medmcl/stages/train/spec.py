"""What a recipe says of stages that make towers: train, join, factorise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.stages.cluster.spec import GroupsSpec
from medmcl.stages.train.subset_spec import SubsetSpec

Placeholder = Annotated[str, Field(pattern=r"^\{\w+\}$")]
"""A variable of ``for_each`` that stands where a number will."""


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


class TowersSpec(Config):
    """What every stage that makes towers says."""

    stage: str
    name: str
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
    of its entrance, and ``shared`` to those of the tower, where it is shared."""
    objectives: dict[str, ObjectiveSpec] = {}
    keep: Literal["best", "last"] = "best"
    """Which checkpoint later stages take."""
    patience: int | None = Field(None, ge=1)
    task: str | None = None
    """Task whose labels train; only labelled samples are drawn."""
    label_fraction: Annotated[float, Field(gt=0, le=1)] | Placeholder = 1.0
    restart: int = Field(default=0, ge=0)
    """Number of the random start: another one begins at other weights and draws other batches."""


class JoinSpec(TowersSpec):
    """Several stages as one model: what they make of a record, brought together.

    Earlier stages that a cluster stage left out are left out here as well.
    """

    stage: Literal["join"]
    of: tuple[str, ...] = Field(min_length=1)
    """The stages."""
    towers: tuple[str, ...] = ()
    """Modalities; those that all of the stages have, if not given."""
    how: Literal["concatenation", "average"] = "concatenation"
    """Embeddings side by side, or their mean; each is scaled to unit length first."""

    objectives: dict[str, ObjectiveSpec] = Field(default={}, max_length=0)
    start_from: dict[str, str] = Field(default={}, max_length=0)
    frozen: tuple[str, ...] = Field(default=(), max_length=0)
    encoder: dict[str, dict[str, Any]] = Field(default={}, max_length=0)
    patience: None = None
    task: None = None
    label_fraction: Annotated[float, Field(ge=1, le=1)] = 1.0
    restart: Literal[0] = 0
    keep: Literal["last"] = "last"

    @model_validator(mode="after")
    def _each_once(self) -> JoinSpec:
        if len(set(self.of)) < len(self.of):
            raise ValueError("of: a stage stands twice")
        return self


class FactoriseSpec(TowersSpec):
    """Fill the tables of two ``lookup`` towers with the factors of their co-occurrence.

    Counted are the tokens of whole records of train subjects, however long a row is.
    """

    stage: Literal["factorise"]
    towers: tuple[str, ...] = Field(min_length=1, max_length=2)
    """The two modalities; one is enough where vectors are taken."""
    estimator: Literal["claime", "concate", "cl", "within_only"] = "claime"
    """Cai et al., arXiv 2403.14926: its own, or one of its baselines."""
    shrink: bool = False
    """Shrink singular values by what noise adds to them; differs from the paper."""
    embedded: Path | None = None
    """Folder that ``medmcl cooccur embed`` wrote: its vectors are taken, by the text of a code, and
    nothing is counted here. Of whose records its counts are, the run knows no more than the splits
    that they name."""

    objectives: dict[str, ObjectiveSpec] = Field(default={}, max_length=0)
    keep: Literal["last"] = "last"

    @model_validator(mode="after")
    def _two_to_count(self) -> FactoriseSpec:
        if self.embedded is None and len(set(self.towers)) != 2:
            raise ValueError("towers: two modalities, whose codes are counted together")
        if self.shrink and self.estimator != "claime":
            raise ValueError(f"shrink: only of the estimator claime, not of {self.estimator}")
        return self


class SelectorSpec(Config):
    """Which rows of each batch a stage takes its step on; the others are scored, and left out."""

    kind: Literal["differential", "random", "small_loss", "big_loss", "clip_score"]
    """``differential``: DISSect (Zhao et al. 2025); the others for comparison."""
    pair: tuple[str, str]
    """The two modalities by which a row is judged."""
    ratio: float = Field(default=0.5, gt=0, le=1)
    """Share of a batch that is kept."""
    mode: Literal["warmup", "momentum"] | None = None
    """History is that of a warm-up (the default), or a running mean."""
    warmup_epochs: int | None = Field(default=None, ge=1)
    """Epochs of the warm-up; 5 if not given."""
    beta: float | None = Field(default=None, ge=0, lt=1)
    """Share of the old in the running mean; 0.9 if not given."""
    first_epoch: Literal["random", "all", "official"] | None = None
    """Rows to train on while there is no history: as many ``random`` ones (the default), ``all``,
    or as the ``official`` code, which begins the momentum version with the pairs that fit worst."""

    @property
    def history(self) -> dict[str, Any]:
        """What is said of the history, of kind ``differential``."""
        named = ("mode", "warmup_epochs", "beta", "first_epoch")
        return {name: getattr(self, name) for name in named if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _history_is_differential(self) -> SelectorSpec:
        if self.kind != "differential" and self.history:
            told = ", ".join(self.history)
            raise ValueError(f"{told}: only of kind differential, not of {self.kind}")
        return self


class TrainSpec(TowersSpec):
    """Train towers with some objectives."""

    exclusive: ClassVar[tuple[str, ...]] = ("epochs", "steps")

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
    batch_size: int = Field(128, ge=2)
    accumulate: int = Field(1, ge=1)
    """Parts that each process encodes its batch in, twice each: less memory, more time, the loss of
    the whole batch."""
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, gt=0)
    evaluate_every: float = Field(1.0, gt=0)
    """Epochs between tuning evaluations (each is also a checkpoint)."""
    log_every: int = Field(50, ge=1)
    selector: SelectorSpec | None = None
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
