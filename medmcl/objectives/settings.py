"""What can be set of each objective; apart from the objectives, which need torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from medmcl.core.config import Config, Depth, closest, lookup
from medmcl.core.contracts import ProbeRows
from medmcl.core.errors import ConfigError

FLOORS = {"mi": 0.05}
"""Score to the value below which an edge is cut if the recipe names none; no entry: none is cut."""


class Learned(Config):
    """Which modalities are aligned is learned from rows of the train split kept for that alone."""

    learn: Literal["tree", "knn", "full", "star", "fixed"]
    """``tree``: the maximum spanning tree (AutoBIND); ``knn``: the tree and the nearest neighbours;
    ``full``: every pair; ``star``: one modality with every other; ``fixed``: ``among``."""
    score: Literal["mi", "margin", "cka", "cosine"] = "mi"
    """What an edge is worth: see `medmcl.objectives.pairs.learned_pairs`. The paper's is
    ``cosine``."""
    neighbours: int = Field(default=1, ge=1)
    """``knn``: neighbours of a modality."""
    anchor: str | None = None
    """``star``: its middle; the modality with the highest sum of scores if not given."""
    among: tuple[tuple[str, str], ...] = ()
    """``fixed``: the pairs; those whose score lies below ``floor`` are cut."""
    warm_up: float = Field(default=1 / 3, ge=0, lt=1)
    """Share of the steps on every pair, before the first graph is built. Without it a tree that
    was drawn at random is trained, and then looks right."""
    every: int = Field(default=50, ge=1)
    """Steps between two rebuilds."""
    ema: float = Field(default=0.8, ge=0, lt=1)
    """Share of the older scores in the running mean that graphs are built on."""
    hysteresis: float = Field(default=0.0, ge=0)
    """What is added to the score of an edge in use, so that a graph does not change for nothing."""
    floor: float | None = None
    """Edges with a lower score are cut; 0.05 nats for ``mi`` and none for others if not given."""
    weights: Literal["equal", "score"] = "equal"
    """Whether an edge counts as one, or by its score (after the warm-up)."""
    probe_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the train subjects that the stage does not train on and scores are taken on."""
    probe_rows: int = Field(default=500, ge=2)
    """The most of them."""
    min_rows: int = Field(default=32, ge=2)
    """Probe rows with both modalities below which a pair has no score, and so no edge."""

    @model_validator(mode="after")
    def _fits(self) -> Learned:
        if (self.learn == "fixed") != bool(self.among):
            raise ValueError("among: the pairs of learn: fixed, and of nothing else")
        if self.anchor is not None and self.learn != "star":
            raise ValueError("anchor: only of learn: star")
        return self

    @property
    def probe(self) -> ProbeRows:
        """How many rows of the train split scores are taken on."""
        return ProbeRows(share=self.probe_share, most=self.probe_rows)

    @property
    def cut_below(self) -> float | None:
        """The floor in force."""
        return FLOORS.get(self.score) if self.floor is None else self.floor


class Star(Config):
    """Every other modality is aligned with one anchor."""

    star: str


def readable_pairs(value: object) -> object:
    """Refuse what cannot be read as pairs, in one sentence; `pair_graph` asks about names."""
    star = isinstance(value, Star) or (isinstance(value, dict) and set(value) == {"star"})
    learned = isinstance(value, dict) and "learn" in value
    listed = isinstance(value, list | tuple) and all(_is_pair(pair) for pair in value)
    if value == "all" or star or listed or learned or isinstance(value, Config):
        return value
    near = closest("learn", map(str, value)) if isinstance(value, dict) else None
    if near is not None:
        raise ValueError(f"unknown key '{near}'; did you mean 'learn'?")
    raise ValueError(
        "write all, {star: modality}, {learn: tree}, or a list of pairs [a, b] or [a, b, weight]"
    )


def form_of_pairs(value: object) -> str:
    """Which form `readable_pairs` has let pass: ``all``, ``list``, or the name of its settings."""
    if isinstance(value, str):
        return "all"
    if isinstance(value, Config):
        return type(value).__name__
    if isinstance(value, dict):
        return "Learned" if "learn" in value else "Star"
    return "list"


def _is_pair(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) not in (2, 3):
        return False
    return all(isinstance(name, str) for name in pair[:2]) and all(
        isinstance(weight, int | float) for weight in pair[2:]
    )


EPS = 1e-6
"""What `gram` adds to the determinant."""
COSINE = 0.1
"""Enough to tell signs apart; at 0.5 encoders that learned c = a xor b could be read by volume and
cosine together, but by the volume alone in 20 of 28 runs (at 0.1: 32 of 32)."""


class ScaleSettings(Config):
    """How strongly similarities are told apart."""

    init: float = Field(default=10.0, gt=0)
    """1 / temperature at the start; 10 = temperature 0.1 (Turgut et al. 2025)."""
    learned: bool = False
    """Whether it is trained; fixed in Turgut et al. 2025, learned in Radford et al. 2021."""
    max: float = Field(default=100.0, gt=0)
    """Largest value a learned scale may take (Radford et al. 2021, section 2.5)."""

    of: str | None = None
    """Objective of the same stage whose scale this one uses: one temperature for both."""
    start_from: str | None = None
    """Earlier stage with an objective of the same name: its scale is gone on with."""

    @model_validator(mode="after")
    def _one_source_below_max(self) -> ScaleSettings:
        if self.of is not None and self.model_fields_set != {"of"}:
            raise ValueError("of: the other objective says all of the scale; leave the rest out")
        if self.start_from is not None and "init" in self.model_fields_set:
            raise ValueError("start_from: the scale begins where that stage left it; no init")
        if self.init > self.max:
            raise ValueError(f"init {self.init} lies above max {self.max}")
        return self


class DecoderSettings(Config):
    """Size of the decoder; the paper's."""

    width: int = Field(default=256, gt=0)
    """Width of a token (Turgut et al. 2025)."""
    depth: Depth = 2
    """Transformer blocks (Turgut et al. 2025)."""
    heads: int = Field(default=8, ge=1)
    """Attention heads (Turgut et al. 2025)."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of a block's hidden layer over its width (He et al. 2022)."""


class MultiwaySettings(Config):
    """Which modalities are taken together."""

    modalities: tuple[str, ...] | Literal["all"] = "all"
    """Rows with all of them are charged for; rows that lack one are left out."""
    scale: ScaleSettings = ScaleSettings()
    view: str = "augmented"
    """The view whose embeddings are compared."""


class CrossModalSettings(Config):
    """What is aligned, and how."""

    pairs: Annotated[
        Annotated[Literal["all"], Tag("all")]
        | Annotated[Star, Tag("Star")]
        | Annotated[Learned, Tag("Learned")]
        | Annotated[tuple[tuple[str, str] | tuple[str, str, float], ...], Tag("list")],
        Discriminator(form_of_pairs),  # so that a fault is told of the form that was meant
        BeforeValidator(readable_pairs),
    ] = "all"
    """Pairs [a, b] or [a, b, weight]; ``all``; {star: anchor}; or {learn: tree}: `Learned`."""
    loss: Literal["info_nce", "siglip"] = "info_nce"
    """InfoNCE in Turgut et al. 2025; the sigmoid loss of Zhai et al. 2023 as an alternative."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """InfoNCE: share of the direction a to b of a pair [a, b]; 0.5 in Turgut et al. 2025."""
    scale: ScaleSettings = ScaleSettings()
    """Logit scale; fixed at 10 in Turgut et al. 2025."""
    scale_per_pair: bool = False
    """Whether each pair has a scale of its own."""
    min_rows: int | None = Field(default=None, ge=2)
    """Rows of a batch below which a pair is left out of the step; if not given, 2, and 8 where
    the pairs are learned."""
    bias: float = -10.0
    """Sigmoid loss: the logit bias at the start (Zhai et al. 2023); learned if the scale is."""
    view: str = "augmented"
    """The view whose embeddings are compared."""

    @property
    def probe(self) -> ProbeRows | None:
        """Rows that no step may train on, where the pairs are learned."""
        return self.pairs.probe if isinstance(self.pairs, Learned) else None


class InModalSettings(Config):
    """What is contrasted, and how."""

    modality: str
    views: tuple[str, str] = Field(default=("augmented", "augmented_2"))
    """Two views of the same rows, disturbed independently."""
    negatives: Literal["cross", "all"] = "all"
    """``all``: other rows of both views (SimCLR); ``cross``: of the other view only."""
    weight: float = Field(default=0.5, ge=0, le=1)
    """Of ``cross``: share of the direction from the first view to the second. 1 with views
    ``[plain, augmented]``: CleanCLIP's term, where a record looks for its augmented view."""
    scale: ScaleSettings = ScaleSettings()
    """Logit scale; 10 = temperature 0.1, the ECG SimCLR baseline of Turgut et al. 2025."""


class MaskedSettings(Config):
    """What is rebuilt, and how it is judged."""

    modality: str
    view: str = "masked"
    """A view that masks the modality."""
    decoder: DecoderSettings = DecoderSettings()
    """Size of the decoder."""
    ncc_weight: float = Field(default=0.1, ge=0, le=1)
    """Share of the correlation; 0.1 in Turgut et al. 2025."""
    over: Literal["all", "masked"] = "all"
    """Patches of the squared error: all (Turgut et al. 2025) or masked (He et al. 2022)."""


class SupervisedSettings(Config):
    """What is predicted, and from what."""

    task: str
    modalities: tuple[str, ...] = Field(min_length=1)
    view: str = "augmented"
    """The view whose representation is used."""
    pooling: Literal["features", "mean", "attention"] = "features"
    """The encoder's own pooling; or the mean of tokens; or attention over them (the paper)."""
    join: Literal["concat", "mean"] = "concat"
    """Several modalities: side by side (rows need all), or their mean (rows need any)."""
    heads: int = Field(default=1, ge=1)
    """Attention heads of ``pooling: attention``; 6 in Turgut et al. 2025."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """0.1 for classification in the fine-tuning of Turgut et al. 2025."""
    class_weights: Literal["none", "balanced"] = "none"
    """Balanced weights shift predicted probabilities towards 1 / number of classes."""
    ties: Literal["efron", "breslow"] = "efron"
    """How tied survival times share their risk set."""

    @field_validator("modalities", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class SymileSettings(MultiwaySettings):
    """What is taken together, and how."""

    negatives: Literal["shifted", "all"] = "shifted"
    """Tuples that do not belong together: see `symile`."""
    rescale: bool = True
    """Multiply the inner product by D^((M - 2) / 2), so that random rows have logits as spread
    as two modalities have and the scale means the same."""


class GramSettings(MultiwaySettings):
    """What is taken together, and how."""

    anchor: str | None = None
    """The modality that looks for the others; the first one if not given."""
    cosine: float = Field(default=COSINE, ge=0)
    """Weight of the mean cosine beside the volume; 0 in the paper. Read what was trained: the
    volume less this cosine."""
    eps: float = Field(default=EPS, gt=0)


class CentroBindSettings(MultiwaySettings):
    """What is aligned. ``modalities``: rows with two of them or more are charged for."""


class RouterBalanceSettings(Config):
    """What is charged."""

    importance: bool = True
    """All experts have the same sum of gates (V-MoE)."""
    load: bool = True
    """All experts expect the same number of tokens (V-MoE)."""
    z: bool = True
    """Logits stay small (ST-MoE)."""
    gshard: bool = False
    """The balance loss of GShard and Switch, with the gates that routed."""
    local: tuple[str, ...] | None = None
    """Modalities whose tokens are to be sure; those of kind ``text`` if not given (2022:
    text, not images)."""
    min_experts: dict[str, float | None] | None = None
    """Modality to S, the experts it softly uses at least: the threshold is log S; null charges
    the entropy without a threshold. If not given every modality: 9 of 32 of the experts for
    kind ``text`` and 20 of 32 for others (2022)."""
    over_layers: Literal["mean", "sum"] = "mean"
    """Whether a term is the mean over layers with experts, or their sum."""
    view: str = "augmented"
    """The view whose routing is charged."""

    def refuse_unfit(
        self,
        modalities: Sequence[str],
        experts: int,
        where: str = "objective 'router'",
        fix: str = "leave the objective out",
    ) -> None:
        """Refuse what does not suit a model, from what a recipe says of it.

        Args:
            modalities: Modalities of the model.
            experts: Experts of its routers; 0: it has none.
            where: Place in the recipe, for the error.
            fix: How the objective is left out.

        Raises:
            ConfigError: There is no router, no such modality, or a number of experts is impossible.
        """
        if not experts:
            raise ConfigError(
                "the model has no routers to charge",
                where=where,
                fix=f"{fix}, or use a shared tower with experts (`shared:` in the recipe, with "
                "experts)",
            )
        known = {name: name for name in modalities}
        for name in self.local or ():
            lookup("modality", name, known, where=f"{where}: local")
        for name, least in (self.min_experts or {}).items():
            place = f"{where}: min_experts.{name}"
            lookup("modality", name, known, where=place)
            if least is not None and not 1 <= least < math.inf:
                raise ConfigError("a modality uses at least one expert", where=place, got=least)
            if least is not None and least > experts:
                raise ConfigError(
                    "a modality cannot use more experts than there are",
                    where=place,
                    got=least,
                    expected=f"at most {experts}",
                )


class ParSettings(Config):
    """How far, and from which view."""

    is_taught: ClassVar[bool] = True

    threshold: float = Field(default=2.15, gt=0, le=4)
    """Mean squared distance of unit embeddings (0 to 4) beyond which nothing is gained."""
    view: str = "augmented"
    """What the student sees."""


class DistilSettings(Config):
    """What is learned, and how much it counts."""

    is_taught: ClassVar[bool] = True

    vectors: float = Field(default=1.0, ge=0)
    """Weight of ``vectors``."""
    relations: float = Field(default=1.0, ge=0)
    """Weight of ``relations``."""
    view: str = "plain"
    """What the student sees."""

    @model_validator(mode="after")
    def _something(self) -> DistilSettings:
        if self.vectors == 0 and self.relations == 0:
            raise ValueError("vectors and relations are both 0: nothing would be learned")
        return self
