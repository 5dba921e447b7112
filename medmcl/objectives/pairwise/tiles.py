"""InfoNCE in tiles: never more of the similarities in memory than one, and each rank its share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 1024
"""Rows and columns of a tile: 4 MiB in float32, which stays in the cache of a CPU."""


@dataclass(frozen=True)
class Ranks:
    """Processes that hold the same rows, of whose tiles each takes a share.

    Attributes:
        rank: Number of this one, from 0.
        size: How many there are.
        total: Gives the sum of a tensor over them; all must call it.
        highest: Gives the maximum of each element; all must call it.
    """

    rank: int
    size: int
    total: Callable[[Tensor], Tensor]
    highest: Callable[[Tensor], Tensor]

    def logsumexp(self, x: Tensor) -> Tensor:
        """Give the logarithm of the sum of exponentials of each element over the ranks."""
        top = self.highest(x)
        return top + self.total((x - top).exp()).log()


ALONE = Ranks(0, 1, total=lambda x: x, highest=lambda x: x)
_sharing: ContextVar[Ranks] = ContextVar("ranks that share tiles", default=ALONE)


@contextmanager
def shared_tiles(ranks: Ranks) -> Iterator[None]:
    """Share the tiles of every InfoNCE inside. Ranks must ask for the same, in one order."""
    token = _sharing.set(ranks)
    try:
        yield
    finally:
        _sharing.reset(token)


def tiled_info_nce(a: Tensor, b: Tensor, scale: Tensor, weight: float, tile: int = TILE) -> Tensor:
    """Give what `info_nce` gives, never holding more than one tile of similarities.

    The forward pass keeps a running log-sum-exp of every row and column; the backward pass takes
    each tile once more. Value and gradient are those of the plain formula up to rounding.

    Inside `shared_tiles` a rank takes the tiles of its part of the rows. The value is whole on
    each; the gradient is its part times the number of ranks, so that the *mean* over ranks is that
    of one process, as it is where every rank computes the whole.

    Args:
        a: Embeddings of one side, (B, D), as they are compared.
        b: Embeddings of the other side, (B, D).
        scale: 1 / temperature, (1,).
        weight: Share of the a-to-b direction.
        tile: Rows and columns of a tile.

    Returns:
        Scalar, nats; lower is better.

    Source:
        Running log-sum-exp: Milakov and Gimelshein 2018, arXiv 1805.02867; tiles of a contrastive
        loss, by ranks: Cheng et al. 2024, arXiv 2410.17243. Differs: every rank holds all rows, so
        ranks exchange their sums once, not blocks in a ring; gradients by recomputation.
    """
    value: Tensor = _TiledInfoNCE.apply(a, b, scale, weight, tile, _sharing.get())
    return value


class _TiledInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, weight: float, tile: int, ranks: Ranks
    ) -> Tensor:
        here = slice(*(len(a) * (ranks.rank + end) // ranks.size for end in (0, 1)))
        over_b = a.new_full((len(a),), -math.inf)
        over_a = over_b.clone()
        for rows, columns in _tiles(here, len(b), tile):
            logits = scale * (a[rows] @ b[columns].T)
            over_b[rows] = torch.logaddexp(over_b[rows], logits.logsumexp(1))
            over_a[columns] = torch.logaddexp(over_a[columns], logits.logsumexp(0))
        over_a = ranks.logsumexp(over_a)
        ctx.save_for_backward(a, b, scale, over_b, over_a)
        ctx.weight, ctx.tile, ctx.here, ctx.size = weight, tile, here, ranks.size
        own = scale * (a[here] * b[here]).sum(1)
        part = weight * over_b[here] + (1 - weight) * over_a[here] - own
        return ranks.total(part.sum()) / len(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, over_b, over_a = ctx.saved_tensors
        # d loss / d logits is the mixed softmax minus the identity, over the number of rows.
        to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
        to_a[ctx.here], to_b[ctx.here] = -b[ctx.here], -a[ctx.here]
        for rows, columns in _tiles(ctx.here, len(b), ctx.tile):
            logits = scale * (a[rows] @ b[columns].T)
            share = ctx.weight * torch.exp(logits - over_b[rows, None])
            share += (1 - ctx.weight) * torch.exp(logits - over_a[columns])
            to_a[rows] += share @ b[columns]
            to_b[columns] += share.T @ a[rows]
        step = grad * ctx.size / len(a)
        to_scale = (step * (a * to_a).sum()).reshape(1)
        return step * scale * to_a, step * scale * to_b, to_scale, None, None, None


def _tiles(rows: slice, columns: int, tile: int) -> Iterator[tuple[slice, slice]]:
    for i in range(rows.start, rows.stop, tile):
        for j in range(0, columns, tile):
            yield slice(i, min(i + tile, rows.stop)), slice(j, j + tile)
