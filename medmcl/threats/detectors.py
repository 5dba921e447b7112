"""Detectors of poisoned records: what is odd about the neighbours of an embedding.

**Higher = more suspect**, the one exception in medmcl to "higher = keep". Give image embeddings, of
a whole table or of a batch; distances are Euclidean, so scale embeddings as you mean to compare
them.

Source: Huang et al. 2025 (ICLR, "Detecting Backdoor Samples in Contrastive Language Image
Pretraining") and their code, for k = 16. In it a row's neighbours are numbered without the row
itself but looked up with it, so every later one is its successor, and the distance of a row is to
its (k+1)-th neighbour where those of its neighbours are to the k-th. ``neighbours="official"`` does
the same; ``"corrected"`` finds the right rows and compares k-th distances with k-th ones.

No corrected score but `knn_distance` is above `FAR`, which a row gets of which nothing can be told:
one whose k nearest are copies of it (all of them at distance 0), by `slof` and `dao` also one with
such a neighbour, by `lid` also one whose k + 1 nearest are all equally far. Where several rows are
the k-th neighbour equally, any of them is taken: `slof` and `dao` of such rows depend on which.

`suspicion` is every detector over a table, whole or in batches that are drawn by seed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medmcl.core.config import refuse_absent
from medmcl.core.errors import MedmclError
from medmcl.core.rng import numpy_generator
from medmcl.threats.neighbours import dimension, embeddings_of, nearest, refuse_few

Neighbours = Literal["corrected", "official"]
Estimator = Literal["mle", "mom"]
FAR = 1000.0
"""What a score is that cannot be told: what is near is all in one point, or all equally far."""


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
    """Give the local intrinsic dimension around each row.

    Official and corrected are the same but at the top. A dimension is the larger, the more alike
    the distances to the nearest k + 1 are. Official by ``mle`` it turns negative before they are
    equal (-10,000 where they are), so that what should be most suspect ranks last; corrected it is
    never below 0 and never above `FAR`, which it is where all are equal. It is that, too, where the
    k nearest are copies (official: .1, the least, or 1,000 with k + 1 copies).

    Args:
        embeddings: (N, E), N > k + 1.
        k: Neighbours; with one alone the dimension is so rough that some rows in a hundred
            reach `FAR`.
        neighbours: As above.
        estimator: ``mle`` or ``mom``, see `dimension`.

    Returns:
        (N,), corrected 0 to `FAR`; higher = more suspect.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    most = None if _is_official(neighbours) else FAR
    x = embeddings_of(embeddings, k)
    return _told(dimension(nearest(x, x, k).distances, k, estimator, most))


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
            neighbours too, but never of their own image. Corrected, images and texts are
            compared alike: d_k of a neighbour leaves out that neighbour's other half as d_k of
            the row does. The authors' code leaves it out of d_k(i) only: where texts lie next to
            their images d_k(j) is too small, and every row looks like an outlier.

    Returns:
        (N,), 1 = as dense as around its neighbours; higher = more suspect, corrected `FAR` at most.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    official = _is_official(neighbours)
    own, others, _ = _compared(embeddings, k, official, texts, "mle")
    scores = _told((own[:, None] / others).mean(dim=1))
    return scores if official else _bounded(scores, own)


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
        (N,), 0 = as dense as around its neighbours; higher = more suspect, corrected `FAR` at most.

    Raises:
        MedmclError: Embeddings of another shape or not finite, too few rows, another word.
    """
    official = _is_official(neighbours)
    own, others, dimensions = _compared(embeddings, k, official, texts, estimator)
    scores = _told((dimensions * torch.log(own[:, None] / others)).mean(dim=1))
    return scores if official else _bounded(scores, own)


DETECTORS = {"knn_distance": knn_distance, "lid": lid, "slof": slof, "dao": dao}
"""Name to ``detector(embeddings, k, neighbours=...)``, higher = more suspect."""


def _compared(
    embeddings: object, k: int, official: bool, texts: object | None, estimator: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Distance of each row, (N,), and of its neighbours, (N, k), and their dimension, (N, k)."""
    x = embeddings_of(embeddings, k)
    table = x if texts is None else torch.cat([x, _texts_of(x, texts)])
    pair = (0,) if texts is None else (0, len(x))
    if not official:
        every = nearest(table, table, k, pair)  # of a text its image is the pair
        rows = every.rows[: len(x), :k]
        dimensions = dimension(every.distances, k, estimator, FAR)
        at_k = every.distances[:, k - 1]
        return at_k[: len(x)], at_k[rows], dimensions[rows]
    near = nearest(x, table, k, pair)
    every = near if texts is None else nearest(table, table, k)
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


def _bounded(scores: Tensor, own: Tensor) -> Tensor:
    """Corrected scores: what cannot be told is the most, and that is also a row of k copies."""
    return torch.where(own > 0, scores, FAR).clamp(max=FAR)


def _is_official(neighbours: str) -> bool:
    known = ("corrected", "official")
    refuse_absent(neighbours, known, f"there are no such neighbours: {neighbours}")
    return neighbours == "official"


def suspicion(
    embeddings: np.ndarray,
    k: int = 16,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Score rows by every one of `DETECTORS`, with corrected neighbours.

    Args:
        embeddings: (N, E), N >= k + 2.
        k: Neighbours.
        batch: Rows of a batch within which neighbours are looked for; all N if not given, or if it
            is N or more. N is parted evenly, so that batches have so many rows or a few more.
        seed: Of the batches.

    Returns:
        Name to (N,) float64, higher = more suspect.

    Raises:
        ConfigError: Fewer rows, or rows of a batch, than k + 2.
        MedmclError: Embeddings that are not finite.
    """
    count = len(embeddings)
    refuse_few(count, k, batch)
    found = {name: np.empty(count) for name in DETECTORS}
    for rows in batches_of(count, batch, seed):
        for name, detector in DETECTORS.items():
            found[name][rows] = detector(embeddings[rows], k).cpu().numpy()
    return found


def batches_of(count: int, batch: int | None, seed: int) -> list[np.ndarray]:
    """Part ``count`` rows into drawn batches of at least ``batch`` rows; one of all without."""
    if batch is None or batch >= count:
        return [np.arange(count)]
    order = numpy_generator(seed, "batches of detectors").permutation(count)
    return [np.sort(part) for part in np.array_split(order, count // batch)]
