"""Which pairs of modalities a recipe may ask for: named, all, a star, or learned in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config, closest
from medmcl.core.contracts import ProbeRows

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
