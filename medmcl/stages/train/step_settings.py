"""How a step is computed, as a stage asks for it: parts of a batch, layout, compiled blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.rng import RowGenerator, torch_generator
from medmcl.core.sealed import read_sealed, sealed
from medmcl.data.loading.worker_pool import lent
from medmcl.encoders.build import ENCODERS
from medmcl.encoders.towers import Towers
from medmcl.engine.compiling import blocks_to_compile, compile_blocks, compiles
from medmcl.engine.feed import Feed
from medmcl.engine.fitting import FEW, fewest_parts, look_at_rows, room_of
from medmcl.engine.layout import clock_of, is_faster, lies_channels_last
from medmcl.engine.loop import Learner, autocast
from medmcl.engine.onednn import linear_by_onednn, require_onednn
from medmcl.engine.recompute import blocks_to_recompute
from medmcl.engine.world import broadcast
from medmcl.objectives.build import OBJECTIVES
from medmcl.stages.run.run import bears_copies
from medmcl.stages.stage import Context
from medmcl.stages.train.checks import refuse_empty_parts
from medmcl.stages.train.spec import TrainSpec

TIMED_ROWS = 16
"""Most rows of the batch that layouts are timed with."""
COPIES = {"sgd": 2, "muon": 3}
"""Of each weight, numbers beside it: its gradient, and what the optimiser keeps; 3 of others."""
Views = dict[str, Any]


def settle_step(
    spec: TrainSpec, learner: Learner, feed: Feed, views: Views, rows: np.ndarray, context: Context
) -> tuple[TrainSpec, dict[str, Any]]:
    """Choose what is left to choose, lay out and compile what trains, in place, on its device.

    What a run has chosen once it keeps when it goes on: another choice would be other bits.

    Args:
        spec: The stage.
        learner: On the device, at its first weights.
        feed: Loads rows.
        views: What makes each view of a batch.
        rows: Those of a batch.
        context: Of the run.

    Returns:
        The stage, its ``accumulate`` a number, and what is to be recorded.
    """
    facts: dict[str, Any] = {}
    if spec.accumulate == "auto":
        found = _once(spec, context, f"accumulate.{context.world.size}", partial(
            _parts_that_fit, spec, learner, feed, views, rows, context))  # fmt: skip
        facts["accumulate"] = found
        context.record.say(f"{spec.name}: {found['said']}")
        spec = spec.model_copy(update={"accumulate": found["parts"]})
        refuse_empty_parts(spec, len(rows), context.world.size)
    if spec.channels_last == "auto":
        facts["channels_last"] = _timed_layouts(spec, learner, context)
    elif spec.channels_last:
        lies_channels_last(learner)
    if spec.onednn:
        linear_by_onednn(learner)
        if context.world.device.type != "cpu" or context.run.precision != "fp32":
            context.record.say(f"{spec.name}: onednn changes nothing but float32 on a CPU")
    if spec.compile and compiles(spec.compile, context.world.device):
        facts["compiled_blocks"] = compile_blocks(
            learner, f"stage {spec.name}, compile", any_length=spec.length_groups is not None
        )
    return spec, facts


def refuse_step(spec: TrainSpec, learner: Learner) -> None:
    """Refuse before anything is trained what cannot be as a step is asked for.

    Raises:
        ConfigError: Names the setting.
    """
    where = f"stage {spec.name}"
    if spec.accumulate != 1:
        _refuse_norms(spec, learner)
    if spec.recompute:
        blocks_to_recompute(learner.model, f"{where}, recompute")
    if spec.compile is True:
        blocks_to_compile(learner, f"{where}, compile")
    if spec.onednn:
        require_onednn()
    if spec.length_groups and not _cuts_rows(learner.model):
        raise ConfigError(
            "no encoder reads rows that may be cut where their padding begins",
            where=f"{where}, length_groups", fix="leave length_groups out",
        )  # fmt: skip
    if spec.channels_last is True and not any(map(_is_spread, learner.modules())):
        raise ConfigError(
            "no encoder has convolutions in two or three dimensions",
            where=f"{where}, channels_last", fix="leave channels_last out",
        )  # fmt: skip


def tower_threads(spec: TrainSpec, context: Context) -> int:
    """Say how many towers are encoded at the same time: where that changes no bit.

    Not where a tower computes by several threads, a cast of a weight is kept for all threads
    (autocast), random numbers of a pass are put back in the next (recomputation), nor while the
    processors do other stages; nor with an encoder or objective of another package, of whom nobody
    knows what else they share, draw or differentiate.
    """
    alone = context.world.size == 1 and not context.record.is_shared
    plain = context.run.precision == "fp32" and spec.compile is not True and not spec.recompute
    towers = context.run.recipe.towers
    encoders = {towers.get(name, {}).get("encoder", {}).get("name") for name in spec.towers}
    objectives = {one.kind for one in spec.objectives.values()}
    own = encoders.isdisjoint(ENCODERS.outside) and objectives.isdisjoint(OBJECTIVES.outside)
    if not (alone and plain and own and bears_copies(context.world.device)):
        return 1
    return min(lent(), len(spec.towers))


def _cuts_rows(model: torch.nn.Module) -> bool:
    """Whether a tower of its own takes rows of like length together; a shared one does not."""
    return type(model) is Towers and any(model.tower(name).takes_cut_rows for name in model.towers)


def _is_spread(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)


def _once(
    spec: TrainSpec, context: Context, what: str, find: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Give what was found when the stage began, on the first process if they differ.

    Raises:
        ArtefactError: What a run that goes on had found is damaged.
    """
    path = context.run.path / "step" / f"{spec.name}.{what}.json"
    if broadcast(path.is_file(), context.world):
        found = _kept(path) if context.world.leads else {}
    else:
        found = find()
        if context.world.leads:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(sealed(found)))
    same: dict[str, Any] = broadcast(found, context.world)
    return same


def _kept(path: Path) -> dict[str, Any]:
    try:
        return read_sealed(path)
    except ArtefactError as error:
        why = error.args[0].splitlines()[0]
        raise ArtefactError(
            f"how this stage computes a step can no longer be read ({why})",
            where=path,
            fix="delete it: it is chosen anew, by what is free or faster now",
        ) from None


def _refuse_norms(spec: TrainSpec, learner: Learner) -> None:
    by_memory = spec.accumulate == "auto"
    cut = spec.model_copy(update={"accumulate": 2}) if by_memory else spec
    if not norms_of_parts(cut, cast(Towers, learner.model)) or (spec.part_norms and not by_memory):
        return
    why = "memory would decide" if by_memory else "loss and gradient are not those of the batch"
    name = f"--set stages.{spec.name}"
    raise ConfigError(
        f"batch norm sees the rows of a part, so {why}",
        where=f"stage {spec.name}, accumulate", got=spec.accumulate,
        fix=f"{name}.accumulate=1, an encoder and a head without batch norm, or, if that is what "
        f"is wanted, {'a number and ' if by_memory else ''}{name}.part_norms=true",
    )  # fmt: skip


def _parts_that_fit(
    spec: TrainSpec, learner: Learner, feed: Feed, views: Views, rows: np.ndarray, context: Context
) -> dict[str, Any]:
    """Look at a few rows with most modalities, and at the free memory."""
    world, where = context.world, f"stage {spec.name}, accumulate"
    batch = feed.load(rows[: 16 * FEW])
    has = torch.stack(list(batch.present.values())).sum(0)
    batch = batch[has.argsort(descending=True, stable=True)[:FEW]].to(world.device)
    batch = replace(batch, lengths={})  # the memory of rows that are full

    def shown(name: str) -> Callable[[Any], Any]:
        source = torch_generator(context.run.seed, spec.name, "fits", device=world.device)
        return lambda part: views[name](part, RowGenerator(source, first=0, total=len(part)))

    learner.train()
    held = look_at_rows(
        learner, {name: shown(name) for name in views}, batch,
        partial(autocast, context.run.precision, world.device),
        COPIES.get(spec.optimiser.name, 3) + (spec.ema is not None),
    )  # fmt: skip
    share = -(-len(rows) // world.size)
    room = room_of(world)
    parts = fewest_parts(held, share, room)
    each = (sum(held.views.values()) + held.charged) / 1e6
    said = f"a row holds {each:.3g} MB, {room / 1e9:.3g} GB are for a step"
    if parts is None:
        raise ConfigError(
            "a batch does not fit in memory, in however many parts", where=where,
            got=f"{share} rows; {said}", fix="take a smaller batch_size, or recompute: true",
        )  # fmt: skip
    said = f"batches of {share:,} rows are encoded in {parts} part{'s'[: parts > 1]}: {said}"
    return {"parts": parts, "said": said}


def _timed_layouts(spec: TrainSpec, learner: Learner, context: Context) -> dict[str, Any]:
    """Time each tower with convolutions both ways, and lay out those that are faster so."""
    chosen = _once(spec, context, "channels_last", partial(_times, spec, learner, context))
    for name, one in chosen.items():
        if one["chosen"]:
            lies_channels_last(learner.model.tower(name))  # type: ignore[operator]  # Towers
        say = "channels last" if one["chosen"] else "as it is"
        context.record.say(
            f"{spec.name}: {name} {say}: {one['seconds_plain']:.3g} s as it is, "
            f"{one['seconds_channels_last']:.3g} s channels last"
        )
    return chosen


def _times(spec: TrainSpec, learner: Learner, context: Context) -> dict[str, Any]:
    device, model, found = context.world.device, learner.model, {}
    rows = max(2, min(TIMED_ROWS, spec.batch_size // context.world.size))
    for name in model.towers if isinstance(model, Towers) else ():
        tower = cast(Towers, model).tower(name)
        if not any(map(_is_spread, tower.modules())):
            continue
        x = torch.zeros(rows, *tower.shape, device=device)
        cast_down = partial(autocast, context.run.precision, device)
        plain, last = is_faster(tower, x, cast_down, clock_of(device))
        found[name] = {
            "chosen": last < plain, "seconds_plain": plain, "seconds_channels_last": last,
        }  # fmt: skip
    return found


def norms_of_parts(spec: TrainSpec, model: Towers) -> list[str]:
    """Give a sentence for each tower whose batch norms will see a part of a batch at a time."""
    if spec.parts == 1:
        return []
    norms = torch.nn.modules.batchnorm._BatchNorm
    return [
        f"{spec.name}: batch norm in the tower of '{name}' sees the rows of a part "
        f"(accumulate: {spec.accumulate}), so it does not train as with the whole batch at once"
        for name, tower in model.towers.items()
        if any(isinstance(part, norms) and part.training for part in tower.modules())
    ]
