"""Recipes: a YAML list of stages, checked, extended, overridden and expanded.

A recipe may extend another (``extends``), leave out stages or keys of it (``drop``), put stages
before one of its (``insert``) and set single
values (``set``, the same dotted form as ``--set`` on the command line). A stage with ``for_each``
becomes one stage for each combination of its variables, written ``{task}`` in its strings.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, PrivateAttr, model_validator

from medmcl.core.config import Config, closest, faults_of, nearest, read_yaml
from medmcl.core.errors import ConfigError, OverrideError
from medmcl.core.overrides import apply_override, refuse_overrides, written
from medmcl.core.shipped import shipped
from medmcl.data.spec import CohortKeys
from medmcl.data.view_settings import ViewSettings
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.stages.group_spec import ClusterSpec, GroupsSpec
from medmcl.stages.poison_spec import AttackSpec, PoisonSpec
from medmcl.stages.select_spec import SelectSpec
from medmcl.stages.subset_spec import SubsetSpec

SCHEMA = "medmcl/recipe@1"
CONFIGS = shipped("configs")


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


Baseline = Literal["majority", "covariates", "simple", "covariates+embedding"]
Resample = Literal["subject", "site", "stratified"]
Protocol = Literal["linear_probe", "knn", "cox", "discrete_time"]


class ProbeSpec(Config):
    """Frozen embeddings of one modality, or of several, each from a stage of the run."""

    modality: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """One, a list, or ``all`` of the recipe's inputs. Of several, any subset will do: rows that
    have at least one are predicted."""
    fusion: Literal["mean", "product_of_experts", "learned"] = "mean"
    """How several modalities are brought together."""
    models: dict[str, str]
    """Name in the results to stage; ``untrained`` is the first tower before any step."""
    protocol: Protocol = "linear_probe"
    """How tasks are predicted; ``cox`` and ``discrete_time`` hold for survival tasks, others then
    have the linear probe."""
    space: Literal["features", "pooled"] = "features"
    """``pooled`` for the mean of several modalities: only there do they share a space."""

    @model_validator(mode="before")
    @classmethod
    def _shared_space(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "space" in given:
            return given
        several = given.get("modality") == "all" or isinstance(given.get("modality"), list | tuple)
        mean = given.get("fusion", "mean") == "mean"
        return {**given, "space": "pooled"} if several and mean else given

    @model_validator(mode="after")
    def _can_be_fused(self) -> ProbeSpec:
        if not self.several:
            return self
        if len(set(self.modality)) < len(self.modality) and self.modality != "all":
            raise ValueError("modality: one stands twice")
        if self.fusion == "mean" and self.space == "features":
            raise ValueError(
                "fusion: mean needs space: pooled, the space that modalities share; or choose "
                "fusion: learned"
            )
        if self.fusion != "mean" and self.protocol in ("knn", "discrete_time"):
            raise ValueError(
                f"fusion: {self.fusion} fits linear probes: protocol: linear_probe, or fusion: mean"
            )
        return self

    @property
    def several(self) -> bool:
        """Whether it reads several modalities, of which any subset will do."""
        return self.modality == "all" or not isinstance(self.modality, str)

    def read(self, inputs: Iterable[str]) -> tuple[str, ...]:
        """Give the modalities it reads of a recipe with these inputs."""
        if self.modality == "all":
            return tuple(inputs)
        return (self.modality,) if isinstance(self.modality, str) else self.modality


class MapSpec(Config):
    """Where an embedding of ``query`` looks in the image tokens of ``image``."""

    stage: str
    query: str
    image: str
    shown: int = 6


class ExpertsSpec(Config):
    """What the experts of a shared tower take, shown on rows of the tuning split."""

    stage: str
    rows: int = Field(default=512, ge=1)
    """Samples that are looked at, drawn by the seed; all if there are fewer."""
    shown_words: int = Field(default=8, ge=0)
    """Words an expert; one that an expert takes from fewer than 5 subjects is not named."""
    shown_pieces: int = Field(default=0, ge=0)
    """Patches of images and stretches of signals an expert, each of another subject. They are
    pieces of single people's records, so none is shown unless a number is given."""


class RetrievalSpec(Config):
    """Retrieval between two modalities with the towers of one stage."""

    stage: str
    pairs: tuple[tuple[str, str], ...] | Literal["all"]
    """``all``: every two modalities of the stage."""
    ks: tuple[int, ...] = (1, 5, 10)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """The pairs by name; none while ``all`` waits for a cohort."""
        return () if self.pairs == "all" else self.pairs


class ZeroShotSpec(Config):
    """Classification by the prompts of the cohort."""

    stage: str
    modality: str
    text: str


class PairedChoiceSpec(Config):
    """Pairs of the cohort's ``choices:``: does each statement find its own of two images?"""

    models: dict[str, str] = Field(min_length=1)
    """Name in the results to stage, or ``untrained``; later ones are compared with the first."""
    image: str
    text: str


class EvaluateSpec(Config):
    """Score frozen embeddings and fine-tuned models on the held-out split."""

    stage: Literal["evaluate"]
    name: str = "evaluate"
    probe: ProbeSpec | None = None
    finetuned: dict[str, str] = {}
    """Name in the results to stage, ``finetune-{task}-{label_fraction}``; the same encoder from
    scratch is one more of them."""
    covariates: str | None = None
    """Tabular modality that gives the covariates-only baseline."""
    baselines: tuple[Baseline, ...] | Literal["all"] = "all"
    """Baselines to fit beside the probe; all that apply if not given."""
    tasks: tuple[str, ...] | Literal["all"] = "all"
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    draws: int = Field(default=1, ge=1)
    """Draws of each label fraction below 1; results are averaged over them."""
    bootstrap_draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage that intervals aim at; the same in every evaluate stage of a recipe."""
    resample: Resample = "subject"
    """What the bootstrap draws: ``subject``, ``site`` (whole sites), or ``stratified`` (subjects
    inside classes of the outcome); the same in every evaluate stage of a recipe."""
    folds: Literal["auto", "subject", "site", "none"] = "auto"
    """``subject`` or ``site``: probes are scored out of fold, in 5 x 5 folds of subjects or of
    whole sites; ``none``: on the held-out split; ``auto``: by subject below 500 labelled ones."""
    confounders: tuple[str, ...] | Literal["all"] = ()
    """What else the models of ``probe`` are asked for, beside tasks: attributes of subjects (site,
    sex, age, those of ``subgroups:``; ``all`` of these), or columns of the subjects table."""
    retrieval: RetrievalSpec | None = None
    zero_shot: ZeroShotSpec | None = None
    paired_choice: PairedChoiceSpec | None = None
    attack: AttackSpec | None = None
    maps: MapSpec | None = None
    experts: ExpertsSpec | None = None

    @model_validator(mode="after")
    def _confounders_are_asked_of_models(self) -> EvaluateSpec:
        if self.confounders and self.probe is None:
            raise ValueError("confounders: they are asked of the models of `probe`: name some")
        return self

    @property
    def cross_validate(self) -> bool | None:
        """Whether probes are scored out of fold; None: as the number of subjects says."""
        return None if self.folds == "auto" else self.folds != "none"

    @property
    def wanted_baselines(self) -> tuple[str, ...]:
        """Baselines by name."""
        return get_args(Baseline) if self.baselines == "all" else self.baselines


AnyStage = (
    TrainSpec | FactoriseSpec | ClusterSpec | JoinSpec | SelectSpec | PoisonSpec | EvaluateSpec
)
StageSpec = Annotated[AnyStage, Field(discriminator="stage")]


class KindSpec(Config):
    """What a recipe does with a modality that it does not name, by its kind."""

    input: dict[str, Any] = {}
    """How its adapter prepares it."""
    tower: dict[str, Any] = {}
    """Its encoder and projection head; its entrance, where the tower is shared."""
    augment: dict[str, dict[str, Any]] = {}
    """View to how it disturbs the modality."""


class RecipeSpec(Config):
    """A whole recipe, as it is written into the run."""

    schema_: Literal["medmcl/recipe@1"] = Field(alias="schema")
    name: str = ""
    about: str = ""
    source: str = ""
    roles: dict[str, str | tuple[str, ...]] = {}
    """Name in this recipe to a kind: the cohort's modality of that kind takes its place. Of several
    kinds the first that the cohort has."""
    modalities: tuple[str, ...] | Literal["all"] = ()
    """Modalities of the cohort that are read beside those of ``inputs``, as ``kinds`` says."""
    kinds: dict[str, KindSpec] = {}
    """Kind of modality to how it is prepared and encoded, for those that ``modalities`` adds."""
    inputs: dict[str, dict[str, Any]] = {}
    """Modality to how its adapter prepares it."""
    towers: dict[str, dict[str, Any]] = {}
    """Modality to its encoder and projection head."""
    shared: dict[str, Any] | None = None
    """One tower for all modalities, in the place of ``towers``: the settings of
    `medmcl.encoders.shared_settings.SharedSettings`."""
    views: dict[str, ViewSettings] = {}
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    _taken: dict[str, str] = PrivateAttr(default={})

    @property
    def taken(self) -> dict[str, str]:
        """Role to the modality that took its place; empty before that, and without roles."""
        return self._taken

    def with_taken(self, taken: Mapping[str, str]) -> RecipeSpec:
        """Give the recipe that knows which roles it had; nothing that is written says so."""
        known = self.model_copy()
        known._taken = dict(taken)
        return known

    @model_validator(mode="after")
    def _reads_something(self) -> RecipeSpec:
        if not self.inputs and not self.modalities:
            raise ValueError("inputs: at least one modality, or `modalities: all` and `kinds`")
        return self

    @model_validator(mode="after")
    def _one_kind_of_tower(self) -> RecipeSpec:
        if self.shared is not None and self.towers:
            raise ValueError("shared: a recipe has one shared tower or `towers`, not both")
        return self

    def kinds_of(self, role: str) -> tuple[str, ...]:
        """Kinds of modality that may take a role."""
        able = self.roles[role]
        return (able,) if isinstance(able, str) else able


def find_recipe(name: str | Path) -> Path:
    """Find a recipe: a file, or a name under ``configs/`` here or shipped with medmcl."""
    given = Path(name)
    candidates = [given, Path("configs") / f"{name}.yaml", CONFIGS / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(
        f"there is no recipe '{name}'{nearest(str(name), list_recipes())}",
        mend="give one of the names (`medmcl recipes`), or a yaml file",
    )


def list_recipes() -> dict[str, Path]:
    """Every recipe under ``configs/`` here and shipped with medmcl, by name."""
    found: dict[str, Path] = {}
    for folder in (CONFIGS, Path("configs")):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def kinds(recipe: RecipeSpec) -> dict[str, str | None]:
    """Give each modality that a recipe reads with its kind, None where several kinds would do."""
    from medmcl.modalities import ADAPTERS  # adapters need torch; reading a recipe does not

    tables = {one.covariates for one in recipe.stages if isinstance(one, EvaluateSpec)}
    found: dict[str, str | None] = {}
    for name, settings in recipe.inputs.items():
        fitting = [kind for kind, one in ADAPTERS.items() if not faults_of(one.Settings, settings)]
        fitting = ["tabular"] if name in tables else fitting
        if name in recipe.roles:
            fitting = list(recipe.kinds_of(name))
        found[name] = name if name in ADAPTERS else fitting[0] if len(fitting) == 1 else None
    for role in recipe.roles:
        found.setdefault(role, recipe.kinds_of(role)[0])
    return found


def read_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> RecipeSpec:
    """Read a recipe with what it extends, apply overrides, check it.

    Args:
        name: File or name.
        overrides: Dotted key to value; stages by their name (``stages.mdm.epochs``).

    Raises:
        ConfigError: Names the file, the field, what was got and the nearest known key.
    """
    path = find_recipe(name)
    tree = _extended(path, ())
    tree.setdefault("name", path.stem)
    for dotted, value in (overrides or {}).items():
        _refuse_unknown_root(dotted, value)
    applied = _lay(tree, overrides or {})
    stages = tree.get("stages")
    stages = stages if isinstance(stages, list) else []
    for stage in stages:
        _drop_nulls(stage)
        _fold_objectives(stage)
    faults = faults_of(RecipeSpec, tree)
    if faults:
        names = [stage.get("name", "") if isinstance(stage, dict) else "" for stage in stages]
        faults = [
            replace(one, text=_with_names(one.text, names), what=_with_names(one.what, names))
            for one in faults
        ]
        refuse_overrides(faults, applied)
        what = "is not valid:\n" + "\n".join(f"  - {one.text}" for one in faults)
        raise ConfigError(what, where=path)
    return RecipeSpec.model_validate(tree)


def _with_names(text: str, names: Sequence[str]) -> str:
    """Write ``stages.mdm.steps`` where pydantic wrote ``stages.0.steps``."""

    def named(found: re.Match[str]) -> str:
        number = int(found[1])
        name = names[number] if number < len(names) else ""
        return f"'stages.{name}{found[2]}" if name else found[0]

    return re.sub(r"'stages\.(\d+)([.'])", named, text)


def _refuse_unknown_root(dotted: str, value: Any) -> None:
    root = dotted.split(".")[0]
    known = [field.alias or name for name, field in RecipeSpec.model_fields.items()]
    if root not in known:
        raise unknown_override(dotted, value, known)


def unknown_override(dotted: str, value: Any, known: Sequence[str]) -> OverrideError:
    """Give the error for an override that nothing reads, with the one that was probably meant.

    Args:
        dotted: Its key.
        value: Its value.
        known: First keys that the recipe has; none where no recipe is read.
    """
    root, dot, rest = dotted.partition(".")
    mine = [field.alias or name for name, field in RecipeSpec.model_fields.items()]
    if root == "recipe" and rest.split(".")[0] in mine and known:
        what = "values of the recipe are written without 'recipe.'"
        mend = f"write {written(rest, value)}"
        return OverrideError(what, where=written(dotted, value), mend=mend)
    only_there = root in mine and root not in CohortKeys.model_fields
    of_recipe = only_there or (root == "recipe" and rest != "")
    if of_recipe and not known:
        return OverrideError(
            f"'{dotted}' is a value of the recipe, and this command reads none: only values of the "
            "cohort can be set",
            where=written(dotted, value),
            expected="cohort.NAME, data_root",
            mend="leave it out; `medmcl pretrain` takes it, and `medmcl check --recipe NAME`",
        )
    cohort = {f.alias or n: f"cohort.{f.alias or n}" for n, f in CohortKeys.model_fields.items()}
    meant = {**cohort, **{name: name for name in (*known, "data_root", "cohort")}}
    near = root if root in cohort else closest(root, [name for name in meant if name != root])
    hint = "" if near is None else f"; did you mean '{meant[near]}'?"
    write = "" if near is None else f"write {written(meant[near] + dot + rest, value)}"
    return OverrideError(
        f"unknown setting '{root}'{hint}",
        where=written(dotted, value),
        expected=", ".join([*known, "cohort.NAME", "data_root"]),
        mend=write or "write one of these, or leave it out",
    )


def _extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigError("a recipe extends itself", where=path)
    tree = read_yaml(path)
    if str(tree.get("schema")).startswith("medmcl/cohort"):
        raise ConfigError("is a cohort, not a recipe", where=path, mend=f"--cohort {path}")
    parent = tree.pop("extends", None)
    dropped, values = tree.pop("drop", []), tree.pop("set", {})
    inserted = tree.pop("insert", {})
    if parent is not None:
        base = _extended(find_recipe(parent), (*seen, path))
        base.pop("name", None)
        for key, value in tree.items():
            base[key] = value
        tree = base
    for name in dropped:
        _drop(tree, name, path)
    for name, stages in inserted.items():
        _insert(tree, name, stages, path)
    _lay(tree, copy.deepcopy(values), where=f"{path}, set: ")
    return tree


def _lay(
    tree: dict[str, Any], values: Mapping[str, Any], where: str = ""
) -> dict[tuple[str, ...], str]:
    """Set values over a recipe; what one of them excludes, and none of them says, is taken out.

    Returns:
        The path of each to how it was written.
    """
    laid = {}
    for dotted, value in values.items():
        path = apply_override(tree, dotted, value, where=where and f"{where}{dotted}")
        laid[path] = written(dotted, value)
    stages = tree.get("stages")
    for number, stage in enumerate(stages if isinstance(stages, list) else ()):
        exclusive = _exclusive(stage)
        said = {key for key in exclusive if ("stages", str(number), key) in laid}
        if any(stage[key] is not None for key in said):
            for key in {*exclusive} - said:
                stage.pop(key, None)
    return laid


def _exclusive(stage: Any) -> tuple[str, ...]:
    """Keys of which a stage says one (`Config.exclusive`); none of a stage of no known kind."""
    kind = stage.get("stage") if isinstance(stage, dict) else None
    for one in get_args(AnyStage):
        if get_args(one.model_fields["stage"].annotation) == (kind,):
            return tuple(one.exclusive)
    return ()


def _insert(tree: dict[str, Any], name: str, stages: list[Any], path: Path) -> None:
    """Put stages before the one of this name."""
    known: list[Any] = tree.get("stages", [])
    found = _named(known, name)
    if found is None:
        names = [one.get("name", "") for one in known]
        raise ConfigError(
            f"inserts stages before '{name}', which is not there{nearest(name, names)}", where=path
        )
    place = known.index(found)
    tree["stages"] = [*known[:place], *stages, *known[place:]]


def _drop(tree: dict[str, Any], name: str, path: Path) -> None:
    """Leave out a stage (``mdm``), a key of one (``results.maps``), or any key (``inputs.cmr``)."""
    parts = name.split(".")
    if parts[0] not in tree:
        parts.insert(0, "stages")
    node: Any = tree
    for part in parts[:-1]:
        node = _named(node, part)
    found = _named(node, parts[-1])
    if found is None:
        raise ConfigError(f"drops what is not there: '{name}'", where=path)
    if isinstance(node, list):
        node.remove(found)
    else:
        del node[parts[-1]]


def _named(node: Any, name: str) -> Any:
    """A key of a mapping, or the element of a list that is called so; None if there is none."""
    if isinstance(node, list):
        return next((item for item in node if item.get("name") == name), None)
    return node.get(name) if isinstance(node, dict) else None


BY_NAME = (
    "objectives", "start_from", "encoder", "weights", "vectors", "views", "finetuned"
)  # fmt: skip
"""Keys of a stage that map names to what stands for them; null takes a name out, or all."""


def _drop_nulls(stage: Any) -> None:
    """Take out of a stage what was set to null where nothing is as good as no entry."""
    for key in BY_NAME if isinstance(stage, dict) else ():
        if isinstance(stage.get(key), dict):
            stage[key] = {name: one for name, one in stage[key].items() if one is not None}
    for key in (*BY_NAME, "frozen"):
        if isinstance(stage, dict) and key in stage and stage[key] is None:
            del stage[key]


def _fold_objectives(stage: Any) -> None:
    """Let an objective's settings stand beside ``kind`` and ``loss_weight`` in the file."""
    objectives: Any = stage.get("objectives") if isinstance(stage, dict) else None
    for label, given in dict(objectives or {}).items():
        if isinstance(given, dict) and "settings" not in given:
            outer = ("kind", "loss_weight")
            own = {key: value for key, value in given.items() if key not in outer}
            objectives[label] = {
                "kind": given.get("kind", label),
                "loss_weight": given.get("loss_weight", 1.0),
                "settings": own,
            }


def expand(recipe: RecipeSpec, tasks: Sequence[str]) -> list[AnyStage]:
    """Give the stages in order, each ``for_each`` stage once for each combination.

    Args:
        recipe: The recipe as checked.
        tasks: Tasks of the cohort, for ``task: all``.

    Raises:
        ConfigError: A stage has both epochs and steps, or neither; names or order do not fit.
    """
    stages: list[AnyStage] = []
    for spec in recipe.stages:
        if isinstance(spec, TrainSpec):
            check_length(spec)
        stages.extend(each(spec, tasks))
    _check_order(stages)
    return stages


def check_length(spec: TrainSpec) -> None:
    """Refuse a train stage whose length is not said, or said twice.

    Raises:
        ConfigError: It has both epochs and steps, or neither.
    """
    key = f"--set stages.{spec.name}"
    if spec.epochs is not None and spec.steps is not None:
        raise ConfigError(
            "has both epochs and steps, and only one of them can say how long it trains",
            where=f"stage {spec.name}",
            got=f"epochs={spec.epochs:g} and steps={spec.steps}",
            expected="one of them; the other null",
            mend=f"'{key}.epochs=null', or '{key}.steps=null'",
        )
    if spec.epochs is None and spec.steps is None:
        raise ConfigError(
            "has neither epochs nor steps, so it is not said how long it trains",
            where=f"stage {spec.name}",
            mend=f"'{key}.epochs=10', or '{key}.steps=1000'",
        )


def each(spec: AnyStage, tasks: Sequence[str]) -> Iterable[AnyStage]:
    """Give the stages that one is written for: itself, or one for each combination."""
    if not isinstance(spec, TrainSpec) or not spec.for_each:
        yield spec
        return
    values = {
        name: list(tasks) if chosen == "all" else list(chosen)
        for name, chosen in spec.for_each.items()
    }
    for combination in itertools.product(*values.values()):
        variables = dict(zip(values, combination, strict=True))
        tree = spec.model_dump(by_alias=True)
        tree["for_each"] = {}
        yield TrainSpec.model_validate(fill(tree, variables))


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


def _check_order(stages: Sequence[AnyStage]) -> None:
    made: list[str] = []
    for key in ("level", "resample"):
        found = sorted({str(getattr(s, key)) for s in stages if isinstance(s, EvaluateSpec)})
        if len(found) > 1:
            raise ConfigError(
                f"evaluate stages differ in '{key}', but one report shows their intervals",
                got=", ".join(found),
            )
    for spec in stages:
        if spec.name in made:
            raise ConfigError(f"two stages are named '{spec.name}'")
        for wanted in needs(spec):
            if wanted not in made:
                grouped = spec.groups if isinstance(spec, TrainSpec) else None
                is_group = grouped is not None and grouped.stage == wanted
                raise ConfigError(
                    f"stage '{spec.name}' needs the stage '{wanted}' before it"
                    f"{nearest(wanted, made)}",
                    mend=f"for groups by a column of the cohort, write groups: [{wanted}]"
                    if is_group
                    else None,
                )
        made.append(spec.name)


def needs(spec: AnyStage | TowersSpec) -> list[str]:
    """Stages a stage reads from, fine-tuned patterns aside."""
    if isinstance(spec, SelectSpec):
        return list(spec.teachers)
    if isinstance(spec, ClusterSpec):
        return [spec.of, *([] if spec.after is None else [spec.after])]
    if isinstance(spec, JoinSpec):
        return list(spec.of)
    if isinstance(spec, PoisonSpec):
        return []
    if isinstance(spec, TrainSpec):
        grouped = None if spec.groups is None else spec.groups.stage
        named = (spec.selected_by, spec.poisoned_by, grouped, spec.teacher)
        scales = [one.scale_option("start_from") for one in spec.objectives.values()]
        chosen = [one for one in (*named, *scales) if one is not None]
        return [*spec.start_from.values(), *spec.vectors.values(), *chosen]
    if isinstance(spec, TowersSpec):
        return list(spec.start_from.values())
    parts = (spec.probe, spec.paired_choice, spec.attack)
    scored = [part.models.values() for part in parts if part]
    wanted = [stage for models in scored for stage in models if stage != "untrained"]
    if spec.attack is not None and spec.attack.attack is not None:
        wanted.append(spec.attack.attack)
    single = (spec.retrieval, spec.zero_shot, spec.maps, spec.experts)
    return wanted + [part.stage for part in single if part]
