"""Detectors of poisoned records: what is odd about the neighbours of an embedding.

**Higher = more suspect**, the one exception in medmcl to "higher = keep". Give image embeddings, of
a whole table or of a batch; distances are Euclidean, so scale embeddings as you mean to compare
them.

Source: Huang et al. 2025 (ICLR, "Detecting Backdoor Samples in Contrastive Language Image
Pretraining") and their code, for k = 16. In it a row's neighbours are numbered without the row
itself but looked up with it, so every later one is its successor, and the distance of a row is to
its (k+1)-th neighbour where those of its neighbours are to the k-th. ``neighbours="official"`` does
the same; ``"corrected"`` finds the right rows and compares k-th distances with k-th ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.threats.neighbours import dimension, embeddings_of, nearest

Neighbours = Literal["corrected", "official"]
Estimator = Literal["mle", "mom"]
FAR = 1000.0
"""What a score is that cannot be told: the neighbours of a neighbour are all in one point."""


def knn_distance(embeddings: object, k: int = 16, neighbours: Neighbours = "corrected") -> Tensor:
    """Give the distance to the k-th neighbour; official: to the (k+1)-th.

    Args:
        embeddings: (N, E), N > k + 1.
        k: Neighbours.
        neighbours: As above.

    Returns:
        (N,), 0 and more, higher = more suspect.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    x = embeddings_of(embeddings, k)
    found = nearest(x, x, k).distances
    return found[:, k if _is_official(neighbours) else k - 1]


def lid(
    embeddings: object,
    k: int = 16,
    neighbours: Neighbours = "corrected",
    estimator: Estimator = "mle",
) -> Tensor:
    """Give the local intrinsic dimension around each row; official and corrected are the same.

    Args:
        embeddings: (N, E), N > k + 1.
        k: Neighbours.
        neighbours: As above.
        estimator: ``mle`` or ``mom``, see `dimension`.

    Returns:
        (N,), higher = more suspect.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    _is_official(neighbours)
    x = embeddings_of(embeddings, k)
    return _told(dimension(nearest(x, x, k).distances, k, estimator))


def slof(
    embeddings: object,
    k: int = 16,
    neighbours: Neighbours = "corrected",
    texts: object | None = None,
) -> Tensor:
    """Give the simplified local outlier factor: mean over k neighbours j of d_k(i) / d_k(j).

    Args:
        embeddings: (N, E), N > k + 1.
        k: Neighbours.
        neighbours: As above.
        texts: Embeddings of the texts of the same pairs, (N, E), in the same space: they can be
            neighbours too, but of its own pair.

    Returns:
        (N,), 1 = as dense as around its neighbours; higher = more suspect.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    own, others, _ = _compared(embeddings, k, _is_official(neighbours), texts, "mle")
    return _told((own[:, None] / others).mean(dim=1))


def dao(
    embeddings: object,
    k: int = 16,
    neighbours: Neighbours = "corrected",
    estimator: Estimator = "mle",
    texts: object | None = None,
) -> Tensor:
    """Give the dimensionality-aware outlier score: mean_j LID_j log(d_k(i) / d_k(j)).

    Args:
        embeddings: (N, E), N > k + 1.
        k: Neighbours.
        neighbours: As above.
        estimator: Of the neighbours' LID, see `dimension`.
        texts: As of `slof`.

    Returns:
        (N,), 0 = as dense as around its neighbours; higher = more suspect.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    own, others, dimensions = _compared(embeddings, k, _is_official(neighbours), texts, estimator)
    return _told((dimensions * torch.log(own[:, None] / others)).mean(dim=1))


DETECTORS = {"knn_distance": knn_distance, "lid": lid, "slof": slof, "dao": dao}
"""Name to ``detector(embeddings, k, neighbours=...)``, higher = more suspect."""


def _compared(
    embeddings: object, k: int, official: bool, texts: object | None, estimator: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of each row, (N,), and of its neighbours, (N, k), and their dimension, (N, k)."""
    x = embeddings_of(embeddings, k)
    table = x if texts is None else torch.cat([x, _texts_of(x, texts)])
    near = nearest(x, table, k, (0,) if texts is None else (0, len(x)))
    every = near if texts is None else nearest(table, table, k)
    if not official:
        rows = near.rows[:, :k]
        dimensions = dimension(every.distances, k, estimator)
        return near.distances[:, k - 1], every.distances[:, k - 1][rows], dimensions[rows]
    rows = _as_published(near.rows[:, :k], len(x), texts is not None)
    with_itself = torch.cat([torch.zeros_like(every.distances[:, :1]), every.distances], dim=1)
    dimensions = dimension(with_itself[:, : k + 1], k, estimator)
    return near.distances[:, k], with_itself[:, k][rows], dimensions[rows]


def _texts_of(x: Tensor, texts: object) -> Tensor:
    found = embeddings_of(texts, 1).to(x)
    if found.shape != x.shape:
        raise MedmclError(
            "every pair has an image and a text, in one space",
            got=f"images {tuple(x.shape)}, texts {tuple(found.shape)}",
        )
    return found


def _as_published(rows: Tensor, count: int, is_paired: bool) -> Tensor:
    """The rows that the authors' code looks up: numbered in a table without the row itself.

    With texts beside the images it takes row i out of both, so a text is numbered two lower.
    """
    own = torch.arange(count, device=rows.device)[:, None]
    if not is_paired:
        return rows - (rows > own).long()
    texts = rows >= count
    return rows - (rows > own).long() - (texts & (rows > own + count)).long()


def _told(scores: Tensor) -> Tensor:
    """Scores with a number everywhere: duplicates make quotients of nothing."""
    return torch.nan_to_num(scores, nan=FAR, posinf=FAR, neginf=0.0)


def _is_official(neighbours: str) -> bool:
    if neighbours not in ("corrected", "official"):
        raise MedmclError(
            "there are no such neighbours",
            got=f"neighbours={neighbours!r}",
            expected="corrected or official",
        )
    return neighbours == "official"
