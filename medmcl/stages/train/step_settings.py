"""How a step is computed, as a stage asks for it: layout of convolutions, compiled blocks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medmcl.core.atomic import write_atomically
from medmcl.encoders.towers import Towers
from medmcl.engine.compiling import compile_blocks, compiles
from medmcl.engine.layout import clock_of, is_faster, lies_channels_last
from medmcl.engine.loop import Learner, autocast
from medmcl.engine.onednn import linear_by_onednn
from medmcl.engine.world import broadcast
from medmcl.stages.stage import Context
from medmcl.stages.train.spec import TrainSpec

TIMED_ROWS = 16
"""Most rows of the batch that layouts are timed with."""


def settle_step(spec: TrainSpec, learner: Learner, context: Context) -> dict[str, Any]:
    """Lay out and compile what trains, in place, on its device; give what is to be recorded."""
    facts: dict[str, Any] = {}
    if spec.channels_last == "auto":
        facts["channels_last"] = _timed_layouts(spec, learner, context)
    elif spec.channels_last:
        lies_channels_last(learner)
    if spec.onednn:
        linear_by_onednn(learner)
    if compiles(spec.compile, context.world.device):
        facts["compiled_blocks"] = compile_blocks(learner, f"stage {spec.name}, compile")
    return facts


def _timed_layouts(spec: TrainSpec, learner: Learner, context: Context) -> dict[str, Any]:
    """Time each tower with convolutions both ways once a run; the first process chooses.

    A run that goes on keeps its choice: another would be other bits.
    """
    path, world = context.run.path / "layout" / f"{spec.name}.json", context.world
    if world.leads and not path.is_file():
        found = _times(spec, learner, context) if isinstance(learner.model, Towers) else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(found))
    chosen: dict[str, Any] = broadcast(_read(path) if world.leads else {}, world)
    for name, one in chosen.items():
        if one["chosen"]:
            lies_channels_last(learner.model.tower(name))  # type: ignore[operator]  # Towers
        say = "channels last" if one["chosen"] else "as it is"
        context.record.say(
            f"{spec.name}: {name} {say}: {one['seconds_plain']:.3g} s as it is, "
            f"{one['seconds_channels_last']:.3g} s channels last"
        )
    return chosen


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def _times(spec: TrainSpec, learner: Learner, context: Context) -> dict[str, Any]:
    device = context.world.device
    rows = max(2, min(TIMED_ROWS, spec.batch_size // context.world.size))
    found = {}
    for name in learner.model.towers:  # type: ignore[union-attr]  # Towers
        tower = learner.model.tower(name)  # type: ignore[operator]  # Towers
        if not any(part.weight.ndim in (4, 5) for part in tower.modules() if _is_conv(part)):
            continue
        x = torch.zeros(rows, *tower.shape, device=device)
        cast_down = partial(autocast, context.run.precision, device)
        plain, last = is_faster(tower, x, cast_down, clock_of(device))
        found[name] = {
            "chosen": last < plain, "seconds_plain": plain, "seconds_channels_last": last,
        }  # fmt: skip
    return found


def _is_conv(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d)
