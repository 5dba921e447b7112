"""Pair graphs: which modalities are aligned with which, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError
from medmcl.objectives.pairs.settings import Star, readable_pairs
from medmcl.objectives.pairs.trees import nearest_neighbours, spanning_tree

__all__ = [
    "FixedPairs",
    "Pair",
    "Star",
    "complete_pairs",
    "explicit_pairs",
    "nearest_neighbours",
    "pair_graph",
    "readable_pairs",
    "spanning_tree",
    "star_pairs",
]

Pair = tuple[str, str]


class FixedPairs:
    """A pair graph that does not depend on the batch.

    Args:
        weights: Pair to its weight; the order of pairs and of the names in them is kept.
    """

    def __init__(self, weights: dict[Pair, float]) -> None:
        seen: set[frozenset[str]] = set()
        for (a, b), weight in weights.items():
            if a == b:
                raise ConfigError(f"'{a}' is paired with itself", fix="use the objective in_modal")
            if frozenset((a, b)) in seen:
                raise ConfigError(f"the pair {a}~{b} stands twice")
            if not weight > 0:
                raise ConfigError("the weight of a pair must be above 0", where=f"{a}~{b}",
                                  got=weight)  # fmt: skip
            seen.add(frozenset((a, b)))
        if not weights:
            raise ConfigError("there is no pair of modalities to align",
                              expected="at least two modalities with a tower")  # fmt: skip
        self.weights = dict(weights)

    @property
    def possible(self) -> tuple[Pair, ...]:
        """Every pair it may align."""
        return tuple(self.weights)

    def __call__(
        self,
        embeddings: Embeddings,  # noqa: ARG002  (the contract's signature)
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[Pair, float]:
        """Give the same pairs and weights for every batch."""
        return self.weights


def explicit_pairs(pairs: Sequence[tuple[str, str] | tuple[str, str, float]]) -> FixedPairs:
    """Align the pairs named, each with weight 1 unless a third element gives another."""
    weights: dict[Pair, float] = {}
    for pair in pairs:
        key = (pair[0], pair[1])
        if key in weights:
            raise ConfigError(f"the pair {key[0]}~{key[1]} stands twice")
        weights[key] = float(pair[2]) if len(pair) == 3 else 1.0
    return FixedPairs(weights)


def star_pairs(anchor: str, modalities: Sequence[str]) -> FixedPairs:
    """Align ``anchor`` with every other modality."""
    return FixedPairs({(anchor, other): 1.0 for other in modalities if other != anchor})


def complete_pairs(modalities: Sequence[str]) -> FixedPairs:
    """Align every two modalities, in the order they are given."""
    return FixedPairs(dict.fromkeys(combinations(modalities, 2), 1.0))


def pair_graph(
    pairs: str | Star | Sequence[tuple[str, str] | tuple[str, str, float]],
    modalities: Sequence[str],
) -> FixedPairs:
    """Build the graph a recipe asks for: a list of pairs, ``all``, or ``{star: anchor}``.

    Raises:
        ConfigError: If a name has no tower (with the nearest that has), or a pair stands twice.
    """
    known = {name: name for name in modalities}
    if isinstance(pairs, str):
        return complete_pairs(modalities)
    if isinstance(pairs, Star):
        return star_pairs(lookup("modality", pairs.star, known), modalities)
    for a, b, *_ in pairs:
        lookup("modality", a, known)
        lookup("modality", b, known)
    return explicit_pairs(pairs)
