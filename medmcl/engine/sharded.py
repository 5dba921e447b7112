"""An optimiser whose state ranks share out: each steps, and remembers, its part of the weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medmcl.engine.muon import Pair
from medmcl.engine.saver import copied
from medmcl.engine.world import World


class Sharded(torch.optim.Optimizer):
    """An optimiser that on each rank moves the parameters of that rank, and gives them to all.

    Every rank has all weights and gradients, as without it, so the same weights come of a step, bit
    for bit; what is remembered between steps (two numbers a weight of AdamW) is divided by the
    ranks. What is saved is whole, and can be read by any number of ranks.

    Source:
        Rajbhandari et al. 2020 (ZeRO, stage 1), arXiv 1910.02054. Differs: whole parameters are
        shared out, not pieces of them; gradients are averaged whole, as DDP does it.

    Args:
        inner: Of all parameters, with nothing to remember yet.
        world: The ranks.
    """

    found_inf: Tensor | None = None
    """Whether a step is to be skipped, as fused optimisers of torch ask: 1 if so."""

    def __init__(self, inner: torch.optim.Optimizer, world: World) -> None:
        self.inner, self._world = inner, world
        self._parts: list[list[nn.Parameter]] = [[] for _ in range(world.size)]
        sizes = [0] * world.size
        every = [p for group in inner.param_groups for p in group["params"]]
        for p in sorted(every, key=lambda one: one.numel(), reverse=True):
            rank = sizes.index(min(sizes))
            self._parts[rank].append(p)
            sizes[rank] += p.numel()
        self._own = {id(p) for p in self._parts[world.rank]}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # of the inner one
        """The groups of all parameters."""
        return self.inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        self.inner.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is given
        """Move this rank's parameters, and take those of the others. All ranks must call it."""
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if id(p) not in self._own:
                    p.grad = None
        self.inner.found_inf = self.found_inf  # type: ignore[attr-defined]  # of fused ones
        self.inner.step()
        for rank, part in enumerate(self._parts):
            if not part:
                continue
            flat = torch.cat([p.reshape(-1) for p in part])
            dist.broadcast(flat, rank, group=self._world.group)
            if rank != self._world.rank:
                for p, moved in zip(part, flat.split([p.numel() for p in part]), strict=True):
                    p.copy_(moved.view_as(p))

    def state_dict(self) -> dict[str, Any]:
        """Give what the inner one of a lone rank would: whole on the first. All must call it.

        One rank at a time sends what it remembers, so that the first needs no more than one part
        beside the whole.
        """
        world, own = self._world, self.inner.state_dict()
        device, group = world.device, world.group
        if world.rank:
            parts = [copied(one["state"]) for one in _members(own)]
            dist.send_object_list([parts], 0, group=group, device=device)
            return own
        whole: dict[str, Any] = copied(own)
        for rank in range(1, world.size):
            box: list[Any] = [None]
            dist.recv_object_list(box, rank, group=group, device=device)
            for one, part in zip(_members(whole), box[0], strict=True):
                one["state"] |= part
        for one in _members(whole):
            one["state"] = dict(sorted(one["state"].items()))
        return whole

    def own(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Give what this rank keeps of a state that is whole."""
        inner = self.inner.members if isinstance(self.inner, Pair) else [self.inner]
        parts = []
        for optimiser, one in zip(inner, _members(saved), strict=True):
            every = [p for group in optimiser.param_groups for p in group["params"]]
            kept = {n: x for n, x in one["state"].items() if id(every[n]) in self._own}
            parts.append({**one, "state": kept})
        return {"members": parts} if isinstance(self.inner, Pair) else parts[0]


def _members(state: dict[str, Any]) -> list[dict[str, Any]]:
    """States of the optimisers of torch that a state is of."""
    members: list[dict[str, Any]] = state.get("members", [state])
    return members
