"""Pair graphs: which modalities are aligned with which, and how strongly.

Spanning trees and nearest neighbours are over nodes 0 .. M-1, from a symmetric matrix of scores.
Higher scores are better. A score of -inf or NaN means that there is no such edge, so a spanning
tree may be a forest. Ties are broken by the smaller (i, j): same scores, same graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives.settings import Star, readable_pairs

Edge = tuple[int, int]


def spanning_tree(scores: Any) -> list[Edge]:
    """Give the spanning tree whose scores add up to most (Kruskal).

    Args:
        scores: (M, M) array, tensor or nested lists, symmetric; higher = rather an edge. -inf and
            NaN mean no edge. The diagonal is not read.

    Returns:
        Edges (i, j) with i < j, sorted: M - 1 of them, fewer where the graph falls apart.

    Raises:
        MedmclError: If the matrix is not square or not symmetric, or holds +inf.

    Source:
        Kruskal 1956. AutoBIND, arXiv 2410.06395, takes the shortest tree of 1 / similarity.
        Differs: the maximum tree of the similarity itself; its inverse has no order around zero.
    """
    values = as_scores(scores)
    order = sorted(_edges(values), key=lambda edge: (-values[edge], edge))
    return sorted(_joining(order, len(values)))


def nearest_neighbours(scores: Any, k: int) -> list[Edge]:
    """Give the edges from each node to the ``k`` others with the highest scores.

    Args:
        scores: As `spanning_tree`.
        k: Neighbours of a node, at least 1; an edge counts if either end chose it.

    Returns:
        Edges (i, j) with i < j, sorted.
    """
    if k < 1:
        raise MedmclError("k must be at least 1", got=k)
    values = as_scores(scores)
    chosen: set[Edge] = set()
    for node in range(len(values)):
        mine = [edge for edge in _edges(values) if node in edge]
        chosen.update(sorted(mine, key=lambda edge: (-values[edge], edge))[:k])
    return sorted(chosen)


def as_scores(scores: Any) -> np.ndarray:
    """Give scores as a symmetric float64 matrix (M, M); NaN becomes -inf, and so the diagonal."""
    if hasattr(scores, "detach"):
        scores = scores.detach().cpu().numpy()
    values = np.array(scores, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise MedmclError("scores must be a square matrix (M, M)", got=values.shape)
    values[np.isnan(values)] = -math.inf
    np.fill_diagonal(values, -math.inf)
    if np.isposinf(values).any():
        raise MedmclError("a score cannot be +inf", fix="write a large number, or -inf for none")
    unlike = ~np.isclose(values, values.T, rtol=1e-6, atol=1e-9)
    if unlike.any():
        i, j = np.argwhere(unlike)[0].tolist()
        raise MedmclError(
            "scores must be symmetric: the edge i~j has one score",
            where=f"scores[{i}, {j}]",
            got=f"{values[i, j]} and {values[j, i]}",
        )
    return values


def _edges(values: np.ndarray) -> list[Edge]:
    size = len(values)
    return [(i, j) for i in range(size) for j in range(i + 1, size) if values[i, j] > -math.inf]


def _joining(order: Sequence[Edge], size: int) -> list[Edge]:
    """Take each edge that joins two parts which are not yet one."""
    part = list(range(size))
    taken = []
    for i, j in order:
        if part[i] != part[j]:
            old, new = part[j], part[i]
            part = [new if one == old else one for one in part]
            taken.append((i, j))
    return taken


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

    def __call__(self, *_: Embeddings | Batch) -> dict[Pair, float]:
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
