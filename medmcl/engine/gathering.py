"""Rows of all ranks on every rank, with gradients that find their way back.

What is gathered is padded to one size with rows that are then dropped: collectives of unequal size
hang. One small collective says first how many rows each rank has, and that all hold alike tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings
from medmcl.core.errors import MedmclError
from medmcl.encoders.shared.ranks import Ranks, tokens_of_ranks
from medmcl.engine.world import World

Tensors = Mapping[tuple[str, str], Tensor]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        rows = x.new_empty((world.size * len(x), *x.shape[1:]))
        dist.all_gather(list(rows.chunk(world.size)), x, group=world.group)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        world: World = ctx.world
        parts = list(grad.contiguous().chunk(world.size))
        own = torch.empty_like(parts[0])
        dist.reduce_scatter(own, parts, group=world.group)
        return own, None


def gather_rows(x: Tensor, world: World) -> Tensor:
    """Stack the rows of all ranks in rank order; gradients flow back to the rank a row came from.

    The gradient of a row is the *sum* over ranks of what each does with it. All ranks must call it,
    with one shape and type.

    Args:
        x: (B, ...), the same on every rank.
        world: The ranks.

    Returns:
        (ranks * B, ...).
    """
    if world.size == 1:
        return x
    if torch.is_grad_enabled() and x.is_floating_point() and not x.requires_grad:
        # The backward pass is a collective too: a rank with nothing to learn takes part in it.
        x = x.detach().requires_grad_()
    rows: Tensor = _GatherRows.apply(x.contiguous(), world)
    return rows


def gather_embeddings(embeddings: Embeddings, fields: Iterable[str], world: World) -> Embeddings:
    """Give the embeddings of the global batch, in rank order, differentiably.

    Ranks may hold different numbers of rows. Presence, targets and what is known come along;
    inputs and masks do not: empty tensors stand where inputs were. ``stats`` stay this rank's
    unless they are asked for; then each must have a row for every row of the batch.

    Args:
        embeddings: What this rank's model gave.
        fields: Which of ``pooled``, ``features``, ``tokens``, ``stats`` to gather.
        world: The ranks; all must call with the same fields.

    Raises:
        MedmclError: On every rank, if ranks differ in modalities, tasks or shapes.
    """
    if world.size == 1:
        return embeddings
    values = {
        (group, name): getattr(embeddings, group)[name]
        for group in sorted(set(fields))
        for name in sorted(getattr(embeddings, group))
    }
    facts = _facts(embeddings, with_padding="tokens" in set(fields))
    points = {("pooled", name): x for name, x in sorted(embeddings.pooled.items())}  # may go round
    counts = _agree(embeddings, {**values, **points}, facts, world)
    gathered_facts = _unpack(_of_all(_pack(facts, torch.float64), counts, world), facts)
    gathered = {key: _of_all(value, counts, world) for key, value in values.items()}
    return _rebuild(embeddings, gathered_facts, gathered, sum(counts))


def _of_all(x: Tensor, counts: list[int], world: World) -> Tensor:
    """Rows of all ranks, which hold as many as is said: what they are padded with is dropped."""
    most = max(counts)
    if min(counts) == most:
        return gather_rows(x, world)
    padding = [0, 0] * (x.ndim - 1) + [0, most - len(x)]
    parts = gather_rows(functional.pad(x, padding), world).chunk(world.size)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def routed_as_one(world: World, first: int, noise: torch.Generator) -> AbstractContextManager[None]:
    """Let routers that train inside do with the tokens of all ranks what one process would do.

    Args:
        world: The ranks; all must encode the same views inside.
        first: Place of the first row here among those of the global batch.
        noise: Source of the routers' noise, in one state on all ranks; one process draws from
            torch's own.
    """
    gather = torch.no_grad()(partial(_of_all, world=world))
    return tokens_of_ranks(
        Ranks(rank=world.rank, size=world.size, first=first, gather=gather, noise=noise)
    )


def _facts(embeddings: Embeddings, *, with_padding: bool) -> dict[tuple[str, str], Tensor]:
    batch = embeddings.batch
    facts = {("ids", ""): batch.ids}
    for group in ("present", "targets", "known"):
        named = getattr(batch, group)
        facts.update({(group, name): named[name] for name in sorted(named)})
    if with_padding:
        facts.update({("padding", n): embeddings.padding[n] for n in sorted(embeddings.padding)})
    return facts


def _agree(embeddings: Embeddings, values: Tensors, facts: Tensors, world: World) -> list[int]:
    """Rows of every rank; raises on all ranks at once if what they hold is not alike."""
    layout = [
        (key, tuple(tensor.shape[1:]), str(tensor.dtype))
        for tensors in (facts, values)
        for key, tensor in tensors.items()
    ]
    digest = hashlib.blake2b(repr(layout).encode(), digest_size=7).digest()
    mine = [len(embeddings.batch), int.from_bytes(digest, "big")]
    told = torch.empty(world.size, 2, dtype=torch.int64, device=world.device)
    parts = list(told.split(1))
    dist.all_gather(
        parts, torch.tensor([mine], dtype=torch.int64, device=world.device), group=world.group
    )
    counts, digests = zip(*host.read(torch.cat(parts)).tolist(), strict=True)
    if len(set(digests)) > 1:
        raise MedmclError(
            "ranks hold embeddings of different modalities, tasks or shapes",
            where=f"rank {world.rank} of {world.size}",
            got=layout,
            expected="the same names, shapes and types on every rank; only rows may differ",
        )
    return list(counts)


def _pack(tensors: Tensors, dtype: torch.dtype) -> Tensor:
    """Lay tensors side by side, (B, columns)."""
    flat = [t.reshape(len(t), t.shape[1:].numel()).to(dtype) for t in tensors.values()]
    return torch.cat(flat, 1)


def _unpack(packed: Tensor, like: Tensors) -> dict[tuple[str, str], Tensor]:
    widths = [tensor.shape[1:].numel() for tensor in like.values()]
    return {
        key: part.reshape(len(packed), *tensor.shape[1:]).to(tensor.dtype)
        for (key, tensor), part in zip(like.items(), packed.split(widths, 1), strict=True)
    }


def _rebuild(local: Embeddings, facts: Tensors, values: Tensors, rows: int) -> Embeddings:
    def named(tensors: Tensors, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensors[group, name] for name in like if (group, name) in tensors}

    old, present = local.batch, named(facts, "present", local.batch.present)
    known_here = host.read(torch.stack([*present.values()])) if present else ()  # waited for once
    batch = Batch(
        ids=facts["ids", ""],
        inputs={name: x.new_zeros((rows, 0)) for name, x in old.inputs.items()},
        present=present,
        targets=named(facts, "targets", old.targets),
        known=named(facts, "known", old.known),
        known_here=tuple(zip(present.values(), known_here, strict=True)),
    )
    return Embeddings(
        batch=batch,
        pooled=named(values, "pooled", local.pooled),
        features=named(values, "features", local.features),
        tokens=named(values, "tokens", local.tokens),
        padding=named(facts, "padding", local.padding),
        stats={**local.stats, **named(values, "stats", local.stats)},
    )
