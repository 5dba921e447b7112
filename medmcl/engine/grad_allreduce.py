"""Gradients that ranks gathered over several backward passes, averaged once."""

from __future__ import annotations

import torch
from torch import nn

from medmcl.engine.world import World, total


@torch.no_grad()
def average_gradients(learner: nn.Module, world: World) -> None:
    """Do by hand, once, what DDP does in a backward pass. All ranks must call it, after theirs.

    Gradients become their mean over ranks; a parameter that no rank has used keeps none. Running
    statistics of batch norms become those of the first rank.
    """
    if world.size == 1:
        return
    trained = [p for p in learner.parameters() if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], device=world.device)
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    *sums, users = total(torch.cat([*flat, used]), world).split([*map(len, flat), len(used)])
    for p, summed, some in zip(trained, sums, users.tolist(), strict=True):
        p.grad = (summed / world.size).reshape(p.shape).to(p.dtype) if some else None
    for norm in learner.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for x in norm.buffers(recurse=False):
                x.copy_(total(x if world.leads else torch.zeros_like(x), world))
