"""How much two modalities know of one another, from embeddings of rows that have both.

Every score is symmetric, and higher = more alike. They are meant for rows that were not trained on:
on training rows a contrastive loss makes any two modalities look alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.batch import Embeddings

TEMPERATURES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Temperatures that the calibrated bound is tried at."""

Score = Callable[[Tensor, Tensor], float]


def cosine(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the pairs, in [-1, 1].

    Source:
        AutoBIND, arXiv 2410.06395, as reviews of it report. It knows no zero: two
        collapsed modalities have 1, whatever they share.
    """
    return float((_unit(a) * _unit(b)).sum(1).mean())


def margin(a: Tensor, b: Tensor) -> float:
    """Mean cosine of the pairs minus that of all other combinations of rows, in [-2, 2]."""
    similarity = _unit(a) @ _unit(b).T
    own, rows = similarity.diagonal().sum(), len(similarity)
    return float(own / rows - (similarity.sum() - own) / (rows * (rows - 1)))


def cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment, in [0, 1]; tells related modalities before any training.

    Source:
        Kornblith et al. 2019, eq. (3), arXiv 1905.00414. Differs: none.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    across = (a.T @ b).square().sum()
    own = torch.linalg.matrix_norm(a.T @ a) * torch.linalg.matrix_norm(b.T @ b)
    return float(across / own) if own > 0 else 0.0


def mutual_information(a: Tensor, b: Tensor) -> float:
    """Calibrated lower bound on the mutual information, nats, in [0, log B].

    log B - InfoNCE, the largest over `TEMPERATURES`, never below 0. At one temperature the bound is
    negative for weakly related modalities as soon as the model is too sure of itself, and the order
    of two modality pairs then says which was trained, not which is related.

    Source:
        van den Oord et al. 2018, section 2.3, arXiv 1807.03748 (the bound). Differs: the best of
        several temperatures; symmetric; floored.
    """
    similarity = _unit(a) @ _unit(b).T
    own = similarity.diagonal()
    best = 0.0
    for temperature in TEMPERATURES:
        logits = similarity / temperature
        spread = (logits.logsumexp(0) + logits.logsumexp(1)) / 2
        best = max(best, math.log(len(a)) - float((spread - own / temperature).mean()))
    return best


SCORES: dict[str, Score] = {
    "cosine": cosine,
    "margin": margin,
    "cka": cka,
    "mi": mutual_information,
}


def margin_in_null_sds(a: Tensor, b: Tensor) -> float:
    """How far `margin`'s pairs lie above pairs drawn at random, in standard deviations of those.

    The null is every way of pairing the rows anew, B! of them; its mean and standard deviation have
    a closed form, so nothing is drawn.

    Source:
        Hoeffding 1951, A combinatorial central limit theorem.
    """
    similarity = (_unit(a) @ _unit(b).T).double()
    whole = similarity.mean()
    rest = similarity - similarity.mean(0) - similarity.mean(1, keepdim=True) + whole
    deviation = (rest.square().sum() / (len(rest) - 1)).sqrt() / len(rest)
    above = similarity.diagonal().mean() - whole
    return float(above / deviation) if deviation > 1e-12 else 0.0


def score_pairs(
    embeddings: Embeddings, names: tuple[str, ...], score: Score, min_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score every two modalities over the rows that have both.

    Args:
        embeddings: Points of rows that no step trains on.
        names: Modalities, M of them.
        score: One of `SCORES`, or any function of two (B, D) tensors.
        min_rows: Pairs with fewer rows get no score.

    Returns:
        Scores (M, M), NaN where there is none and on the diagonal; rows that have both, (M, M).
    """
    size = len(names)
    scores, rows = np.full((size, size), math.nan), np.zeros((size, size), dtype=np.int64)
    for (i, first), (j, second) in combinations(enumerate(names), 2):
        both = embeddings.batch.both(first, second)
        rows[i, j] = rows[j, i] = int(both.sum())
        if rows[i, j] >= max(2, min_rows):
            a, b = (embeddings.pooled[name][both] for name in (first, second))
            scores[i, j] = scores[j, i] = score(a, b)
    return scores, rows


def by_pair(values: np.ndarray, names: tuple[str, ...]) -> Mapping[tuple[str, str], float]:
    """The upper half of a matrix (M, M), by pair of names."""
    return {
        (names[i], names[j]): float(values[i, j]) for i, j in combinations(range(len(names)), 2)
    }


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x.float(), dim=1)
