"""Stages that a recipe has and a run does without: what cannot be, and what needs it.

A cluster stage may find that to train within its groups would not pay. The stages that would are
left out, and so is what needs them, or a stage that is wrecked; a join stage joins those that are
there and sound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medmcl.engine.checkpoint import Checkpoints
from medmcl.stages.recipe.expansion import needs
from medmcl.stages.recipe.spec import AnyStage
from medmcl.stages.train.spec import JoinSpec, TrainSpec

WRECKED = "wrecked"
"""Fact of a train stage that is: why (`medmcl.stages.train.wrecked`)."""
DEAD_END = "dead_end"
"""Fact of one that no stage can go on from: why."""
Look = Callable[[str], Checkpoints]
"""Name of a stage to its checkpoints."""


def why_left_out(spec: AnyStage, look: Look) -> str:
    """Say why a stage is left out; empty if it is not."""
    if isinstance(spec, JoinSpec):
        there = joined_spec(spec, look).of
        return "" if there else f"{', '.join(spec.of)} are left out or wrecked"
    for name in needs(spec):
        done = look(name).done or {}
        if DEAD_END in done:
            return f"{name} is wrecked, {done[DEAD_END]}"
        if "left_out" in done:
            return f"{name} was left out"
        is_grouped = isinstance(spec, TrainSpec) and spec.groups and spec.groups.stage == name
        if is_grouped and done.get("stopped"):
            return f"{name}: {done['stopped']}"
    return ""


def leave_out(spec: AnyStage, reason: str) -> dict[str, Any]:
    """Give the facts of a stage that is left out."""
    sentence = f"Stage {spec.name} left out: {reason}."
    return {"stage": spec.name, "left_out": reason, "sentence": sentence}


def joined_spec(spec: JoinSpec, look: Look) -> JoinSpec:
    """Give a join stage of those of its stages that something can be made of."""
    there = tuple(
        name for name in spec.of if not {"left_out", DEAD_END} & {*(look(name).done or {})}
    )
    return spec.model_copy(update={"of": there})
