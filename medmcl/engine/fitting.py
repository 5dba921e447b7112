"""How many parts a batch must be encoded in to fit in memory, from what a few rows hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.limits import free_memory
from medmcl.engine.world import World, highest

FEW = 4
"""Rows that are looked at; half of them as well, so that what does not grow with rows is known."""
ROOM = 0.7
"""Share of the free memory that a step may take: gradients that come and go, and what kernels
borrow, are not counted."""


@dataclass(frozen=True)
class Held:
    """Bytes of a row that the backward pass waits for, and bytes whatever the rows.

    Attributes:
        views: View to those of its encoders.
        charged: Of all objectives, and the row's inputs.
        fixed: Gradients and the state of the optimiser, a mean of the weights among them.
    """

    views: Mapping[str, float]
    charged: float
    fixed: float

    def at_peak(self, rows: int, parts: int) -> float:
        """Bytes of a step of ``rows``; in parts one view of one part is held at a time.

        Beside it stand inputs and embeddings of the whole batch.
        """
        if parts == 1:
            return self.fixed + rows * (sum(self.views.values()) + self.charged)
        part = math.ceil(rows / parts) * max(self.views.values())
        return self.fixed + rows * self.charged + part


def fewest_parts(held: Held, rows: int, room: float) -> int | None:
    """Give the fewest parts, a power of two or one row each, that fit; None if none does."""
    counts = [2**power for power in range(rows.bit_length()) if 2**power < rows] + [rows]
    return next((one for one in counts if held.at_peak(rows, one) <= room), None)


def look_at_rows(
    learner: nn.Module,
    views: Mapping[str, Callable[[Batch], Batch]],
    batch: Batch,
    autocast: Callable[[], AbstractContextManager[object]],
    copies: int,
) -> Held:
    """Encode and charge a few rows, and see what is held for the backward pass; nothing is learned.

    Args:
        learner: `medmcl.engine.loop.Learner`.
        views: What makes each view of a batch.
        batch: `FEW` rows on the device.
        autocast: Gives the context in which to encode.
        copies: Numbers beside each weight: its gradient, what the optimiser keeps.
    """
    own = cast(Any, learner)
    counts = []
    for rows in (len(batch) // 2, len(batch)):
        part, seen, held = batch[:rows], dict[str, Embeddings](), dict[str, int]()
        with autocast():
            for name, view in views.items():
                shown = view(part)
                with _Saved(learner) as saved:
                    seen[name] = own.model(shown)
                held[name] = saved.bytes
            with _Saved(learner) as saved:
                own.charge(seen, part, World(device=part.ids.device))
        counts.append((held, saved.bytes))
    (few, few_charged), (more, more_charged) = counts
    grown = len(batch) - len(batch) // 2
    inputs = sum(x[:1].numel() * x.element_size() for x in batch.inputs.values())
    trained = sum(p.numel() * p.element_size() for p in learner.parameters() if p.requires_grad)
    return Held(
        views={name: (more[name] - few[name]) / grown for name in more},
        charged=(more_charged - few_charged) / grown + inputs * (1 + len(views)),
        fixed=copies * trained + max(0, 2 * sum(few.values()) - sum(more.values())),
    )


def room_of(world: World) -> float:
    """Give the bytes that a step of this process may take; the least over all processes."""
    if world.device.type == "cuda":
        cuda, place = torch.cuda, world.device
        idle = cuda.memory_reserved(place) - cuda.memory_allocated(place)  # of torch's own cache
        free: float = cuda.mem_get_info(place)[0] + idle
    else:
        free = (free_memory() or math.inf) / world.size
    least = -highest(torch.tensor([-free], dtype=torch.float64, device=world.device), world)
    return ROOM * float(least)


class _Saved:
    """Bytes that autograd keeps while it is entered, each storage once, weights left out."""

    def __init__(self, learner: nn.Module) -> None:
        self.known = {x.untyped_storage()._cdata for x in learner.parameters()}
        self.bytes = 0
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda x: x)
        self.kept: list[Tensor] = []

    def __enter__(self) -> _Saved:
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)

    def _keep(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.kept.append(x)
            self.bytes += storage.nbytes()
        return x
