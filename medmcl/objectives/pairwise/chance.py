"""Chance levels: what contrastive losses are of embeddings that tell nothing, in nats.

Embeddings that are all one point have just these values, whatever the logit scale; the sigmoid loss
has it if its bias is the best one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def info_nce_chance(rows: int, groups: Tensor | None = None, views: int = 1) -> float | Tensor:
    """Give the chance level of `info_nce`, or with two views that of `nt_xent`.

    Args:
        rows: Rows that are compared.
        groups: Group of each, (rows,), where negatives are of a row's own.
        views: Views whose rows are candidates; of two a row is no candidate of its own.
    """
    if groups is None:
        return math.log(views * rows - (views - 1))
    return (views * _sizes(groups) - (views - 1)).log().mean()


def sigmoid_chance(rows: int, groups: Tensor | None = None) -> float | Tensor:
    """Give the chance level of `sigmoid_loss`: every pair has the logit of the share that match.

    Args:
        rows: Rows that are compared, at least two.
        groups: Group of each, (rows,), where negatives are of a row's own.
    """
    if groups is None:
        return math.log(rows) + (rows - 1) * math.log(rows / (rows - 1))
    pairs = _sizes(groups).sum()  # asked about; ``rows`` of them match
    others = pairs - rows
    return ((pairs / rows).log() * rows + torch.xlogy(others, pairs / others)) / rows


def _sizes(groups: Tensor) -> Tensor:
    """Rows of the group of each row."""
    _, own, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    return counts[own].float()
