"""The model of a train stage: built at its first weights, then filled from where it starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, ComparesPairs, SharesScale
from medmcl.core.errors import ConfigError
from medmcl.core.rng import derive_seed
from medmcl.core.targets import Targets
from medmcl.encoders.encoded import TakesVectors
from medmcl.encoders.name_maps import is_upcycling, upcycle
from medmcl.encoders.shared.settings import TRUNK
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.towers import Towers
from medmcl.engine.loop import Learner
from medmcl.objectives import build_objective
from medmcl.objectives.pairwise.alignment import CrossModal
from medmcl.stages.recipe.model_settings import shared_settings, tower_settings, trunk_stage
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context
from medmcl.stages.train.file_weights import load_files
from medmcl.stages.train.spec import TowersSpec, TrainSpec


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
    teacher_widths: Mapping[str, int] | None = None,
) -> Learner:
    """Build towers and objectives of a stage; objectives are seeded by stage and label.

    Args:
        recipe: The recipe.
        spec: The stage.
        shapes: Modality to the shape of its input.
        tasks: Tasks whose labels it learns.
        seed: Of the run.
        teacher_widths: Modality to the width of the features of the stage that it learns from.
    """
    towers = spec.build(recipe, shapes, seed)
    shape = replace(towers.shape(shapes, tasks), teacher_widths=dict(teacher_widths or {}))
    objectives, weights = {}, {}
    for label, objective in spec.objectives.items():
        torch.manual_seed(derive_seed(seed, "objective", spec.name, label))
        objectives[label] = build_objective(objective.kind, objective.settings, shape)
        weights[label] = objective.loss_weight
    for label, objective in spec.objectives.items():
        of = objective.scale_option("of")
        if of is not None:  # that very scale
            objectives[label].scale = cast(SharesScale, objectives[of]).scale
    _refuse_other_widths(towers, objectives, f"stage {spec.name}")
    return Learner(towers, objectives, weights)


def _refuse_other_widths(towers: Towers, objectives: Mapping[str, nn.Module], where: str) -> None:
    """Refuse to compare what towers project to spaces of different widths."""
    widths = {}
    for name in towers.towers:
        tower = towers.tower(name)
        widths[name] = tower.facts.width if tower.head is None else tower.head.width
    for a, b in combinations(widths, 2):
        for label, one in objectives.items():
            if widths[a] != widths[b] and isinstance(one, ComparesPairs) and one.scale_of((a, b)):
                raise ConfigError(
                    f"'{a}' and '{b}' are compared, and their towers end in different widths",
                    where=f"{where}, objectives.{label}",
                    got=f"{a}: {widths[a]}, {b}: {widths[b]}",
                    fix=f"--set towers.{a}.head.out={widths[b]}, or the other way round",
                )


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
    learner: Learner, spec: TrainSpec, adapters: Mapping[str, Adapter], context: Context
) -> None:
    """Fill the model of a stage from weights files, earlier stages and tables of vectors.

    Scales of objectives start at the value that an earlier stage reached.
    """
    towers: Towers = learner.model  # type: ignore[assignment]  # built by build_learner
    for line in load_files(towers, spec, adapters):
        context.record.say(line)
    if isinstance(towers, SharedTower):
        _take_trunk(towers, spec, context)
    for name, stage in spec.start_from.items():
        if name != TRUNK:
            _take_tower(towers, name, stage, context.run)
    for name, stage in spec.vectors.items():
        _take_vectors(towers, name, stage, context.run)
    for label, one in spec.objectives.items():
        reached = one.scale_option("start_from")
        if reached is not None:
            scale = cast(SharesScale, learner.objectives[label]).scale
            scale.load_state_dict(context.run.scale(reached, label))


def _take_vectors(towers: Towers, name: str, stage: str, run: Run) -> None:
    """Start the code embeddings of a tower from the table that an earlier stage filled."""
    table = run.vectors(stage, name)
    assert table is not None  # as the checks of the recipe made sure
    cast(TakesVectors, towers.tower(name).encoder).take_vectors(table)  # as `dry_run` made sure


def _take_tower(towers: Towers, name: str, stage: str, run: Run) -> None:
    """Copy the weights of one tower from a finished stage; every name must fit."""
    towers.towers[name].load_state_dict(run.tower(stage, name))


def _take_trunk(towers: SharedTower, spec: TrainSpec, context: Context) -> None:
    """Copy what modalities share from the stage they start from; a dense one becomes experts."""
    stage = trunk_stage(spec)
    if stage is None:
        return
    own = context.run.trunk(stage)
    if is_upcycling(towers.trunk, own):
        upcycle(towers.trunk, own)
        context.record.say(f"{spec.name}: experts start as the MLPs of the dense stage {stage}")
    else:
        towers.trunk.load_state_dict(own)
