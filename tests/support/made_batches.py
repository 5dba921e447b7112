"""Batches of rows numbered from 0, and a loss in which every number of embeddings counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from medmcl.core.batch import Batch, Embeddings


def batch_of(inputs: Mapping[str, torch.Tensor], present: Any = None, **more: Any) -> Batch:
    """Give a batch of these inputs: who lacks one is said by ``present``, name to flags (N,)."""
    rows = len(next(iter(inputs.values())))
    flags = {
        name: torch.as_tensor((present or {}).get(name, [True] * rows), device="cpu").bool()
        for name in inputs
    }
    return Batch(ids=torch.arange(rows, device="cpu"), inputs=inputs, present=flags, **more)


def charged(seen: Embeddings) -> torch.Tensor:
    """Give a sum over every point, feature and token, each with a weight of its own."""
    total = torch.zeros((), device="cpu")
    for group in (seen.pooled, seen.features, seen.tokens):
        for number, tensor in enumerate(group.values()):
            weights = torch.arange(tensor.numel(), device="cpu").reshape(tensor.shape)
            total = total + (tensor * (weights + number).sin()).sum()
    return total
