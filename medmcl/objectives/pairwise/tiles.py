"""Contrastive losses in tiles: never more of the similarities in memory than one.

Where each of several ranks holds some of the rows, blocks of columns go round them in a ring: a
rank compares its rows with the block that it has, and passes the block on with what is summed up
for its columns. After as many steps as there are ranks a block has met all rows and is home again.
No rank ever holds more than its own rows and two blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 1024
"""Rows and columns of a tile: 4 MiB in float32, which stays in the cache of a CPU."""


@dataclass(frozen=True)
class Ranks:
    """Processes each of which holds some rows of a loss.

    Attributes:
        rank: Number of this one, from 0.
        size: How many there are.
        counts: How many rows each has; of this rank alone nothing.
        total: Gives the sum of a tensor over them; all must call it.
        pass_on: Sends tensors to the next rank, the last one's to the first; gives what waits for
            those of the rank before, which have as many rows as is said. All must call it.
    """

    rank: int
    size: int
    counts: tuple[int, ...]
    total: Callable[[Tensor], Tensor]
    pass_on: Callable[[Sequence[Tensor], int], Callable[[], list[Tensor]]]


ALONE = Ranks(0, 1, (), total=lambda x: x, pass_on=lambda own, _: lambda: [*own])
_ring: ContextVar[Ranks] = ContextVar("ranks that hold rows of a loss", default=ALONE)


@contextmanager
def rows_in_ring(ranks: Ranks) -> Iterator[None]:
    """Let every loss inside be over the rows of all ranks, where each is given its own.

    Ranks must ask for the same losses, in one order; also one without rows.
    """
    token = _ring.set(ranks)
    try:
        yield
    finally:
        _ring.reset(token)


@contextmanager
def some_in_ring(rows: np.ndarray) -> Iterator[None]:
    """Let losses inside be over some of the rows that ranks hold: (N,) int64, ascending, of all."""
    ring = _ring.get()
    before = np.searchsorted(rows, np.cumsum((0, *ring.counts)))
    with rows_in_ring(replace(ring, counts=tuple(np.diff(before).tolist()))):
        yield


def is_in_ring() -> bool:
    """Whether the rows of a loss that is asked for here are those of one rank among others."""
    return _ring.get().size > 1


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

    Inside `rows_in_ring` the rows are those of this rank, as many as it says. The value is that of
    all on each; the gradient is that of its rows times the number of ranks, so that the *mean* over
    ranks of what goes on into weights is that of one process.

    Args:
        a: Embeddings of one side, (B, D), as they are compared.
        b: Embeddings of the other side, (B, D).
        scale: 1 / temperature, (1,).
        weight: Share of the a-to-b direction.
        groups: Group of each row, (B,): only rows of one group are compared.
        itself: Row i of ``a`` is not compared with row i + ``itself`` of ``b``, counted in a ring:
            there it would meet itself. In `rows_in_ring` each row is there twice, so.
        tile: Rows and columns of a tile.

    Returns:
        Scalar, nats; lower is better.

    Source:
        Running log-sum-exp: Milakov and Gimelshein 2018, arXiv 1805.02867; tiles of a contrastive
        loss, blocks in a ring: Cheng et al. 2024, arXiv 2410.17243. Differs: the sums of columns
        travel with their block, so that both directions take one round; gradients by recomputation.
    """
    value: Tensor = _TiledInfoNCE.apply(
        _taking_part(a), b, scale, weight, _Blocks.of(len(a), tile, groups, itself)
    )
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

    Source:
        Exchange with the neighbour: Zhai et al. 2023, section 3.3, arXiv 2303.15343. Differs: a
        block is taken tile by tile, again in the backward pass.
    """
    value: Tensor = _TiledSigmoid.apply(
        _taking_part(a), b, scale, bias, _Blocks.of(len(a), tile, groups, None)
    )
    return value


def _taking_part(x: Tensor) -> Tensor:
    """Let a rank with nothing to learn take part in the backward pass, where others send to it."""
    if is_in_ring() and torch.is_grad_enabled() and not x.requires_grad:
        return x.detach().requires_grad_()
    return x


def pairs(tile: Tensor, rows: slice, columns: slice, ahead: int = 0) -> Tensor:
    """Give the view of a tile on pairs whose column is ``ahead`` of their row; may be empty."""
    return tile.diagonal(rows.start - columns.start + ahead)


@dataclass(frozen=True)
class _Blocks:
    """The blocks of columns, in the order in which this rank has them, and their tiles."""

    ranks: Ranks
    counts: list[int]
    tile: int
    groups: Tensor | None
    itself: int | None

    @classmethod
    def of(cls, rows: int, tile: int, groups: Tensor | None, itself: int | None) -> _Blocks:
        ranks = _ring.get()
        counts = [count * (1 if itself is None else 2) for count in ranks.counts] or [rows]
        if counts[ranks.rank] != rows:
            raise RuntimeError(f"a loss in a ring was given {rows} rows of {counts[ranks.rank]}")
        return cls(ranks, counts, tile, groups, itself)

    @property
    def rows(self) -> int:
        """Of all ranks."""
        return sum(self.counts)

    def room(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Give memory for two tiles, which all of them use in turn: anew, each costs its pages."""
        rows, columns = self.counts[self.ranks.rank], max(self.counts)
        size = min(rows, self.tile) * min(columns, self.tile)
        return like.new_empty(size), like.new_empty(size)

    def round(self, still: Sequence[Tensor], moving: list[Tensor]) -> Iterator[_Block]:
        """Give every block, this rank's own first.

        Args:
            still: What is known of this rank's columns; the block has that of its own.
            moving: What is added up for this rank's columns. It is that of the block meanwhile,
                and at the end, when all have added to it, that of this rank again.
        """
        ranks, still = self.ranks, list(still)
        more = [] if self.groups is None else [self.groups]
        for step in range(ranks.size):
            coming = self.counts[(ranks.rank - step - 1) % ranks.size]
            is_last = step + 1 == ranks.size
            comes = None if is_last else ranks.pass_on([*still, *more], coming)
            yield _Block(self, step == 0, still, more[0] if more else None)
            moving[:] = ranks.pass_on(moving, coming)()
            if comes is not None:
                came = comes()
                still, more = came[: len(still)], came[len(still) :]


@dataclass(frozen=True)
class _Block:
    """Columns of one rank, and which pairs with rows of this one are not compared."""

    blocks: _Blocks
    is_own: bool
    still: list[Tensor]
    groups: Tensor | None

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        blocks, size = self.blocks, self.blocks.tile
        rows, columns = blocks.counts[blocks.ranks.rank], len(self.still[0])
        for i in range(0, rows, size):
            for j in range(0, columns, size):
                yield slice(i, min(i + size, rows)), slice(j, min(j + size, columns))

    def logits(
        self,
        a: Tensor,
        rows: slice,
        columns: slice,
        scale: Tensor,
        room: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Give a tile; pairs that are not compared have minus infinity."""
        own, itself = self.blocks.groups, self.blocks.itself
        a, b = a[rows], self.still[0][columns]
        logits = torch.mm(a, b.T, out=_tile(room, len(a), len(b))).mul_(scale)
        if bias is not None:
            logits.add_(bias)
        if own is not None and self.groups is not None:
            logits.masked_fill_(own[rows, None] != self.groups[columns], -math.inf)
        if itself is not None and self.is_own:
            for ring in (0, len(self.still[0])):
                pairs(logits, rows, columns, itself - ring).fill_(-math.inf)
        return logits


def _tile(room: Tensor, rows: int, columns: int) -> Tensor:
    return room[: rows * columns].view(rows, columns)


def _logsumexp(x: Tensor, dim: int, room: Tensor) -> Tensor:
    """Give what `torch.logsumexp` gives, in memory that is there."""
    most = x.amax(dim, keepdim=True)
    most.masked_fill_(most.abs() == math.inf, 0)
    apart = torch.sub(x, most, out=_tile(room, *x.shape))
    return apart.exp_().sum(dim).log_().add_(most.squeeze(dim))


class _TiledInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, weight: float, blocks: _Blocks
    ) -> Tensor:
        over_b = a.new_full((len(a),), -math.inf)
        moving = [over_b.clone()] if weight < 1 else []
        room, more = blocks.room(a)
        for block in blocks.round([b], moving):
            for rows, columns in block.tiles():
                logits = block.logits(a, rows, columns, scale, room)
                over_b[rows] = torch.logaddexp(over_b[rows], _logsumexp(logits, 1, more))
                if weight < 1:
                    over_a = moving[0]
                    over_a[columns] = torch.logaddexp(over_a[columns], _logsumexp(logits, 0, more))
        part = weight * over_b - scale * (a * b).sum(1)
        if weight < 1:
            part = part + (1 - weight) * moving[0]
        ctx.save_for_backward(a, b, scale, over_b, *moving)
        ctx.weight, ctx.blocks = weight, blocks
        return blocks.ranks.total(part.sum()) / blocks.rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, over_b, *over_a = ctx.saved_tensors
        # d loss / d logits is the mixed softmax minus the identity, over the number of rows.
        to_a, moving = -b, [-a]
        room, more = ctx.blocks.room(a)
        for block in ctx.blocks.round([b, *over_a], moving):
            theirs, *over = block.still
            for rows, columns in block.tiles():
                logits = block.logits(a, rows, columns, scale, room)
                share = torch.sub(logits, over_b[rows, None], out=_tile(more, *logits.shape))
                share.exp_().mul_(ctx.weight)
                if over:
                    share += logits.sub_(over[0][columns]).exp_().mul_(1 - ctx.weight)
                to_a[rows] += share @ theirs[columns]
                moving[0][columns] += share.T @ a[rows]
        step = grad * ctx.blocks.ranks.size / ctx.blocks.rows
        to_scale = (step * (a * to_a).sum()).reshape(1)
        step = step * scale
        return to_a.mul_(step), moving[0].mul_(step), to_scale, None, None


class _TiledSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, blocks: _Blocks
    ) -> Tensor:
        total = torch.zeros_like(scale)
        room, more = blocks.room(a)
        for block in blocks.round([b], []):
            for rows, columns in block.tiles():
                logits = block.logits(a, rows, columns, scale, room, bias)
                if block.is_own:
                    pairs(logits, rows, columns).neg_()
                # log(1 + exp(x)); torch's softplus is linear from 20 on
                rest = torch.abs(logits, out=_tile(more, *logits.shape)).neg_().exp_().log1p_()
                total += rest.add_(logits.clamp_(min=0)).sum()
        ctx.save_for_backward(a, b, scale, bias)
        ctx.blocks = blocks
        return blocks.ranks.total(total.sum()) / blocks.rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias = ctx.saved_tensors
        to_a, to_bias, moving = torch.zeros_like(a), torch.zeros_like(bias), [torch.zeros_like(b)]
        room, _ = ctx.blocks.room(a)
        for block in ctx.blocks.round([b], moving):
            (theirs,) = block.still
            for rows, columns in block.tiles():
                share = block.logits(a, rows, columns, scale, room, bias).sigmoid_()
                if block.is_own:
                    pairs(share, rows, columns).sub_(1)
                to_a[rows] += share @ theirs[columns]
                moving[0][columns] += share.T @ a[rows]
                to_bias += share.sum()
        step = grad * ctx.blocks.ranks.size / ctx.blocks.rows
        to_scale = (step * (a * to_a).sum()).reshape(1)
        to_bias *= step
        step = step * scale
        return to_a.mul_(step), moving[0].mul_(step), to_scale, to_bias, None
