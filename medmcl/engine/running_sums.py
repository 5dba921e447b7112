"""What encoders report of rows, summed over rows, steps and ranks.

Of `medmcl.core.batch.Embeddings.stats` the engine knows no more than that it adds up. What the sums
mean, whoever calls `medmcl.engine.loop.fit` says (``summarise``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medmcl.core.batch import Embeddings
from medmcl.engine.world import World, total

Sums = dict[str, Tensor]


def row_sums(seen: Mapping[str, Embeddings]) -> Sums:
    """Sum ``stats`` over the rows of every view, in float64 and without gradient."""
    found: Sums = {}
    for embeddings in seen.values():
        found = added(
            found, {n: x.detach().sum(0, dtype=torch.float64) for n, x in embeddings.stats.items()}
        )
    return found


def added(sums: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> Sums:
    """Add sums by name; one that only one side has is taken as it is."""
    return {**sums, **{n: sums[n] + x if n in sums else x for n, x in more.items()}}


def over_ranks(sums: Sums, world: World) -> Sums:
    """Sums over all ranks, on each of them. All ranks must call it, with the same names."""
    if world.size == 1 or not sums:
        return sums
    whole = total(torch.cat([x.reshape(-1) for x in sums.values()]), world)
    parts = whole.split([x.numel() for x in sums.values()])
    return {n: part.reshape(x.shape) for (n, x), part in zip(sums.items(), parts, strict=True)}


def on_the_first(sums: Sums, world: World) -> Sums:
    """Move what all ranks hold to the first, which alone is saved; the others hold zeros."""
    whole = over_ranks(sums, world)
    return whole if world.leads else {name: torch.zeros_like(x) for name, x in whole.items()}
