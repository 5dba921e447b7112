"""Moves what a rule moves after a step, and no gradient."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import nn

from medmcl.core.contracts import MovesAfterSteps
from medmcl.engine.world import World, total


@torch.no_grad()
def move(learner: nn.Module, world: World, *, taken: bool) -> None:
    """Tell every part that keeps `MovesAfterSteps` that a step has ended. All ranks must call it.

    Args:
        learner: What may hold such parts.
        world: The ranks.
        taken: Whether the optimiser moved.
    """
    for part in moves(learner):
        part.after_step(partial(total, world=world), taken=taken)


def moves(learner: nn.Module) -> list[MovesAfterSteps]:
    """Every part that keeps `MovesAfterSteps`."""
    return [  # isinstance alone would take milliseconds a step
        cast(MovesAfterSteps, one) for one in learner.modules() if hasattr(type(one), "after_step")
    ]
