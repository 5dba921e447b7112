"""The model of a train stage: built at its first weights, then filled from where it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, ComparesPairs
from medmcl.core.errors import ConfigError
from medmcl.core.rng import derive_seed
from medmcl.core.targets import Targets
from medmcl.encoders.encoded import TakesVectors
from medmcl.encoders.shared.settings import TRUNK
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.shared.upcycling import is_upcycling, upcycle
from medmcl.encoders.towers import Towers
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.loop import Learner
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.objectives import build_objective
from medmcl.objectives.pairwise.cross_modal import CrossModal
from medmcl.stages.recipe.model_settings import shared_settings, tower_settings, trunk_stage
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.file_weights import load_files
from medmcl.stages.train.kept_weights import kept_weights
from medmcl.stages.train.scales import tie_scales
from medmcl.stages.train.spec import TowersSpec, TrainSpec


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all stages of a run share."""

    recipe: RecipeSpec
    seed: int
    precision: str
    world: World
    folder: Path
    record: Record
    stop: StopRequest
    keep: Path | None = None
    """Keep file that ``--keep`` named."""
    evaluations: list[Any] = field(default_factory=list)
    """What evaluate stages found, for the report."""

    def checkpoints(self, stage: str) -> Checkpoints:
        """Checkpoints of a stage of this run."""
        return Checkpoints(self.folder / "checkpoint" / stage)


def first_towers(
    recipe: RecipeSpec, spec: TowersSpec, shapes: Mapping[str, InputShape], seed: int
) -> Towers:
    """Build towers at their first weights, which depend on seed, restart and modality only."""
    start = () if spec.restart == 0 else (spec.restart,)
    if recipe.shared is not None:
        return SharedTower.build(
            {name: lookup("modality", name, shapes) for name in spec.towers},
            shared_settings(recipe, spec),
            frozen=spec.frozen,
            seed=lambda part: torch.manual_seed(derive_seed(seed, "init", part, *start)),
        )
    built: dict[str, nn.Module] = {}
    for name in spec.towers:
        settings = tower_settings(recipe, spec, name)
        torch.manual_seed(derive_seed(seed, "init", name, *start))
        built[name] = Towers.build({name: shapes[name]}, {name: settings}).towers[name]
    return Towers(built)


def build_learner(
    recipe: RecipeSpec,
    spec: TowersSpec,
    shapes: Mapping[str, InputShape],
    tasks: Mapping[str, Targets],
    seed: int,
    taught: Mapping[str, int] | None = None,
) -> Learner:
    """Build towers and objectives of a stage; objectives are seeded by stage and label.

    Args:
        recipe: The recipe.
        spec: The stage.
        shapes: Modality to the shape of its input.
        tasks: Tasks whose labels it learns.
        seed: Of the run.
        taught: Modality to the width of the features of the stage that it learns from.
    """
    towers = spec.build(recipe, shapes, seed)
    shape = replace(towers.shape(shapes, tasks), taught=dict(taught or {}))
    objectives, weights = {}, {}
    for label, objective in spec.objectives.items():
        torch.manual_seed(derive_seed(seed, "objective", spec.name, label))
        objectives[label] = build_objective(objective.kind, objective.settings, shape)
        weights[label] = objective.loss_weight
    tie_scales(objectives, spec)
    return Learner(towers, objectives, weights)


def scale_of(learner: Learner, pair: tuple[str, str]) -> Callable[[], Tensor] | None:
    """The logit scale at which two modalities are aligned; 1 / its value is the temperature.

    It is that of the first cross_modal objective that aligns them; without one, of the first that
    takes them together with others. None if no objective compares them.
    """
    able = [one for one in learner.objectives.values() if isinstance(one, ComparesPairs)]
    for objective in sorted(able, key=lambda one: not isinstance(one, CrossModal)):
        scale = objective.scale_of(pair)
        if scale is not None:
            return scale
    return None


def temperature_of(learner: Learner, pair: tuple[str, str], where: str) -> float:
    """The temperature to which a teacher was trained to tell pairs.

    Raises:
        ConfigError: None of its objectives aligns the pair.
    """
    scale = scale_of(learner, pair)
    if scale is None:
        raise ConfigError(
            "the teacher has no temperature of its own",
            where=where,
            got=f"objectives: {', '.join(learner.objectives) or 'none'}; none of them aligns "
            f"{' and '.join(pair)}",
            expected="a teacher trained with cross_modal on this pair",
            fix="name one: temperature: 0.07",
        )
    return 1 / float(scale().detach())


def take_weights(
    learner: Learner, spec: TrainSpec, adapters: Mapping[str, Adapter], setting: Setting
) -> None:
    """Fill the model of a stage from weights files, earlier stages and tables of vectors."""
    towers: Towers = learner.model  # type: ignore[assignment]  # built by build_learner
    for line in load_files(towers, spec, adapters):
        setting.record.say(line)
    if isinstance(towers, SharedTower):
        _take_trunk(towers, spec, setting)
    for name, stage in spec.start_from.items():
        if name != TRUNK:
            take_tower(towers, name, stage, setting)
    for name, stage in spec.vectors.items():
        take_vectors(towers, name, stage, setting)


def take_vectors(towers: Towers, name: str, stage: str, setting: Setting) -> None:
    """Start the code embeddings of a tower from the table that an earlier stage filled."""
    saved = setting.checkpoints(stage).weights("last")
    table = saved.get(f"model.towers.{name}.encoder.table.weight")
    if table is None:
        raise ConfigError(
            f"stage '{stage}' has no table of vectors for '{name}'",
            where="vectors",
            expected="a factorise stage with that modality",
        )
    cast(TakesVectors, towers.tower(name).encoder).take_vectors(table)  # as `dry_run` made sure


def take_tower(towers: Towers, name: str, stage: str, setting: Setting) -> None:
    """Copy the weights of one tower from a finished stage; every name must fit."""
    own = kept_weights(stage, f"{_model_of(stage, setting)}towers.{name}.", setting)
    if not own:
        raise ConfigError(f"stage '{stage}' has no tower '{name}' to start from")
    towers.towers[name].load_state_dict(own)


def _take_trunk(towers: SharedTower, spec: TrainSpec, setting: Setting) -> None:
    """Copy what modalities share from the stage they start from; a dense one becomes experts."""
    stage = trunk_stage(spec)
    if stage is None:
        return
    own = kept_weights(stage, f"{_model_of(stage, setting)}trunk.", setting)
    if is_upcycling(towers.trunk, own):
        upcycle(towers.trunk, own)
        setting.record.say(f"{spec.name}: experts start as the MLPs of the dense stage {stage}")
    else:
        towers.trunk.load_state_dict(own)


def _model_of(stage: str, setting: Setting) -> str:
    """Prefix of the model that a stage gives to start from: of joined ones the last."""
    parts = (setting.checkpoints(stage).done or {}).get("parts")
    return "model." if parts is None else f"model.parts.{len(parts) - 1}."
