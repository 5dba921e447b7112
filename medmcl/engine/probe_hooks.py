"""Shows rows that no step trains on to those parts of objectives that learn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings
from medmcl.core.contracts import Watches
from medmcl.engine.world import World, broadcast


def watchers(objectives: nn.Module) -> dict[str, Watches]:
    """Every part of the objectives that keeps `Watches`, by its place."""
    return {
        name: part
        for name, part in objectives.named_modules()
        if hasattr(type(part), "observe")  # isinstance alone would take part of a small step
        and isinstance(part, Watches)
    }


def watch(
    objectives: nn.Module,
    encode: Callable[[], Sequence[Embeddings]],
    step: int,
    steps: int,
    world: World,
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Let every watcher that is due see the probe rows; give its line, and whether it changed.

    The first rank encodes and every rank is shown what it found, so all draw the same conclusions,
    whatever their devices are. All ranks must call, and take all that is given.

    Args:
        objectives: What may hold watchers.
        encode: Gives the embeddings of the probe rows, batch by batch; asked only if one is due.
        step: Steps done.
        steps: Steps of the stage.
        world: The ranks.
    """
    due = {name: one for name, one in watchers(objectives).items() if one.due(step, steps)}
    if not due:
        return
    seen = _shown(broadcast(_plain(encode()) if world.leads else None, world))
    for name, one in due.items():
        found = one.observe(seen, step, steps)
        yield {"watcher": name, **found.row}, found.changed


Plain = tuple[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]]


def _plain(parts: Sequence[Embeddings]) -> Plain:
    """Ids, presence and points of all batches, on the CPU."""

    def joined(found: Iterable[Tensor]) -> Tensor:
        return torch.from_numpy(host.read(torch.cat(list(found))))

    pooled = {name: joined(part.pooled[name].float() for part in parts) for name in parts[0].pooled}
    present = {name: joined(part.batch.present[name] for part in parts) for name in pooled}
    return joined(part.batch.ids for part in parts), present, pooled


def _shown(plain: Plain | None) -> Embeddings:
    assert plain is not None  # the first rank always has something to send
    ids, present, pooled = plain
    nothing = {name: torch.zeros((len(ids), 0), device="cpu") for name in pooled}
    batch = Batch(ids=ids, inputs=nothing, present=present)
    return Embeddings(batch=batch, pooled=pooled)
