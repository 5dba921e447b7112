"""Moves what a rule moves after a step, and no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import nn

from medmcl.core.contracts import MovesAfterSteps
from medmcl.engine.world import World, total


@torch.no_grad()
def move(parts: Sequence[MovesAfterSteps], world: World, *, taken: bool) -> None:
    """Tell parts that a step has ended. All ranks must call it.

    Args:
        parts: Those that `moves` finds in a learner.
        world: The ranks.
        taken: Whether the optimiser moved.
    """
    for part in parts:
        part.after_step(partial(total, world=world), taken=taken)


def moves(learner: nn.Module) -> list[MovesAfterSteps]:
    """Every part that keeps `MovesAfterSteps`."""
    return [  # isinstance alone would take milliseconds a step
        cast(MovesAfterSteps, one) for one in learner.modules() if hasattr(type(one), "after_step")
    ]
