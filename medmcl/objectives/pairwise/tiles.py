"""Contrastive losses in tiles: never more of the similarities in memory than one, ranks share."""

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
from torch.nn import functional

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

    def part(self, rows: int) -> slice:
        """Give the rows whose tiles this rank takes."""
        return slice(*(rows * (self.rank + end) // self.size for end in (0, 1)))

    def logsumexp(self, x: Tensor) -> Tensor:
        """Give the logarithm of the sum of exponentials of each element over the ranks."""
        top = self.highest(x)
        return top + self.total((x - top).exp()).log()


ALONE = Ranks(0, 1, total=lambda x: x, highest=lambda x: x)
_sharing: ContextVar[Ranks] = ContextVar("ranks that share tiles", default=ALONE)


@contextmanager
def shared_tiles(ranks: Ranks) -> Iterator[None]:
    """Share the tiles of every loss inside. Ranks must ask for the same, in one order."""
    token = _sharing.set(ranks)
    try:
        yield
    finally:
        _sharing.reset(token)


def ranks_that_share() -> int:
    """Give how many ranks share the tiles of a loss that is asked for here."""
    return _sharing.get().size


def tiled_info_nce(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    weight: float,
    *,
    groups: Tensor | None = None,
    itself: int | None = None,
    tile: int = TILE,
) -> Tensor:
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
        groups: Group of each row, (B,): only rows of one group are compared.
        itself: Row i of ``a`` is not compared with row i + ``itself`` of ``b``, counted in a ring:
            there it would meet itself.
        tile: Rows and columns of a tile.

    Returns:
        Scalar, nats; lower is better.

    Source:
        Running log-sum-exp: Milakov and Gimelshein 2018, arXiv 1805.02867; tiles of a contrastive
        loss, by ranks: Cheng et al. 2024, arXiv 2410.17243. Differs: every rank holds all rows, so
        ranks exchange their sums once, not blocks in a ring; gradients by recomputation.
    """
    ranks = _sharing.get()
    tiles = _Tiles(ranks.part(len(a)), len(a), tile, groups, itself)
    value: Tensor = _TiledInfoNCE.apply(a, b, scale, weight, tiles, ranks)
    return value


def tiled_sigmoid(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    groups: Tensor | None = None,
    tile: int = TILE,
) -> Tensor:
    """Give what `sigmoid_loss` gives, in tiles and by ranks as `tiled_info_nce` does.

    Args:
        a: Embeddings of one side, (B, D), as they are compared.
        b: Embeddings of the other side, (B, D).
        scale: 1 / temperature, (1,).
        bias: Added to every logit, (1,).
        groups: Group of each row, (B,): only rows of one group are compared.
        tile: Rows and columns of a tile.

    Returns:
        Scalar, nats a row; lower is better.
    """
    ranks = _sharing.get()
    tiles = _Tiles(ranks.part(len(a)), len(a), tile, groups, None)
    value: Tensor = _TiledSigmoid.apply(a, b, scale, bias, tiles, ranks)
    return value


@dataclass(frozen=True)
class _Tiles:
    """The tiles of some rows with all columns, and which pairs of a tile are not compared."""

    here: slice
    columns: int
    size: int
    groups: Tensor | None
    itself: int | None

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        for i in range(self.here.start, self.here.stop, self.size):
            for j in range(0, self.columns, self.size):
                yield (
                    slice(i, min(i + self.size, self.here.stop)),
                    slice(j, min(j + self.size, self.columns)),
                )

    def hide(self, logits: Tensor, rows: slice, columns: slice) -> Tensor:
        """Set the pairs of a tile that are not compared to minus infinity, in place."""
        if self.groups is not None:
            other = self.groups[rows, None] != self.groups[columns]
            logits.masked_fill_(other, -math.inf)
        if self.itself is not None:
            for ring in (0, self.columns):
                pairs(logits, rows, columns, self.itself - ring).fill_(-math.inf)
        return logits


def pairs(tile: Tensor, rows: slice, columns: slice, ahead: int = 0) -> Tensor:
    """Give the view of a tile on pairs whose column is ``ahead`` of their row; may be empty."""
    return tile.diagonal(rows.start - columns.start + ahead)


class _TiledInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, weight: float, tiles: _Tiles, ranks: Ranks
    ) -> Tensor:
        here = tiles.here
        over_b = a.new_full((len(a),), -math.inf)
        over_a = over_b.clone()
        for rows, columns in tiles:
            logits = tiles.hide(scale * (a[rows] @ b[columns].T), rows, columns)
            over_b[rows] = torch.logaddexp(over_b[rows], logits.logsumexp(1))
            if weight < 1:
                over_a[columns] = torch.logaddexp(over_a[columns], logits.logsumexp(0))
        own = scale * (a[here] * b[here]).sum(1)
        part = weight * over_b[here] - own
        if weight < 1:
            over_a = ranks.logsumexp(over_a)
            part = part + (1 - weight) * over_a[here]
        ctx.save_for_backward(a, b, scale, over_b, over_a)
        ctx.weight, ctx.tiles, ctx.size = weight, tiles, ranks.size
        return ranks.total(part.sum()) / len(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, over_b, over_a = ctx.saved_tensors
        # d loss / d logits is the mixed softmax minus the identity, over the number of rows.
        to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
        here = ctx.tiles.here
        to_a[here], to_b[here] = -b[here], -a[here]
        for rows, columns in ctx.tiles:
            logits = ctx.tiles.hide(scale * (a[rows] @ b[columns].T), rows, columns)
            share = ctx.weight * torch.exp(logits - over_b[rows, None])
            if ctx.weight < 1:
                share += (1 - ctx.weight) * torch.exp(logits - over_a[columns])
            to_a[rows] += share @ b[columns]
            to_b[columns] += share.T @ a[rows]
        step = grad * ctx.size / len(a)
        to_scale = (step * (a * to_a).sum()).reshape(1)
        step = step * scale
        return to_a.mul_(step), to_b.mul_(step), to_scale, None, None, None


class _TiledSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, tiles: _Tiles, ranks: Ranks
    ) -> Tensor:
        total = torch.zeros_like(scale)
        for rows, columns in tiles:
            logits = tiles.hide(scale * (a[rows] @ b[columns].T) + bias, rows, columns)
            pairs(logits, rows, columns).neg_()
            total -= functional.logsigmoid(-logits).sum()  # softplus is linear from 20 on
        ctx.save_for_backward(a, b, scale, bias)
        ctx.tiles, ctx.size = tiles, ranks.size
        return ranks.total(total.sum()) / len(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias = ctx.saved_tensors
        to_a, to_b, to_bias = torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(bias)
        for rows, columns in ctx.tiles:
            logits = ctx.tiles.hide(scale * (a[rows] @ b[columns].T) + bias, rows, columns)
            share = logits.sigmoid_()
            pairs(share, rows, columns).sub_(1)
            to_a[rows] += share @ b[columns]
            to_b[columns] += share.T @ a[rows]
            to_bias += share.sum()
        step = grad * ctx.size / len(a)
        to_scale = (step * (a * to_a).sum()).reshape(1)
        to_bias *= step
        step = step * scale
        return to_a.mul_(step), to_b.mul_(step), to_scale, to_bias, None, None
