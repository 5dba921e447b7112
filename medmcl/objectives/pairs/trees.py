"""Graphs over nodes 0 .. M-1 from a symmetric matrix of scores: spanning tree, nearest neighbours.

Higher scores are better. A score of -inf or NaN means that there is no such edge, so a spanning
tree may be a forest. Ties are broken by the smaller (i, j): same scores, same graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.core.errors import MedmclError

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
