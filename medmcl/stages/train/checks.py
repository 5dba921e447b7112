"""What can be known of a stage's towers and of what it trains on before any record is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from medmcl.core.config import check, closest, lookup, nearest, refuse_absent, refuse_unknown
from medmcl.core.contracts import LearnsFromTeacher
from medmcl.core.errors import ConfigError
from medmcl.core.path_suggestions import instead_of
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.encoders.build import check_encoder, check_input_projection
from medmcl.encoders.shared.settings import TRUNK
from medmcl.modalities import augment_settings
from medmcl.objectives.build import OBJECTIVES, check_objective
from medmcl.objectives.settings import RouterBalanceSettings
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.model_settings import (
    encoder_key,
    input_projections_of,
    shared_settings,
    tower_settings,
    trunk_stage,
)
from medmcl.stages.recipe.resolve_modalities import refuse_unread
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.stage import Check, StageSpec, named
from medmcl.stages.train.spec import ObjectiveSpec, TowersSpec, TrainSpec, WeightsSpec

_SHOWN = 3
"""Weights files of a run that are named."""


def source_checks(spec: TrainSpec, before: Sequence[StageSpec]) -> Iterable[Check]:
    """Give the checks of the stages that a train stage reads."""
    for key, what, kind in (
        ("selected_by", "select", SelectSpec),
        ("poisoned_by", "poison", PoisonSpec),
    ):
        name = getattr(spec, key)
        if name is not None:
            said, none = f"'{name}' is no {what} stage before it", f"the name of a {what} stage"
            where = f"stage {spec.name}, {key}"
            yield partial(
                refuse_absent, name, tuple(named(before, kind)), said, where=where, none=none
            )
    if spec.without_fold is not None:
        yield partial(_refuse_fold, spec, int(spec.without_fold))
    yield partial(
        _refuse_groups_and_teacher, spec, named(before, TowersSpec), named(before, ClusterSpec)
    )


def tower_checks(
    recipe: RecipeSpec, spec: TowersSpec, made: Mapping[str, TowersSpec], kinds: Mapping[str, str]
) -> Iterable[Check]:
    """Give the checks of the towers and objectives of a stage, under the name it is written by."""
    yield partial(_refuse_names, recipe, spec)
    yield partial(_refuse_starts, recipe, spec, made)
    if recipe.shared is not None:
        yield partial(shared_settings, recipe, spec)
    for name in spec.towers:
        if name in recipe.inputs:
            yield partial(_check_tower, recipe, spec, name, kinds.get(name))
    if any("scale" in one.settings for one in spec.objectives.values()):
        yield partial(_refuse_scales, spec, made)
    for label, objective in spec.objectives.items():
        yield partial(_check_objective, recipe, spec, label, objective)
    if isinstance(spec, TrainSpec):
        if spec.accumulate != 1:
            yield partial(refuse_parts, recipe, spec)
        for name, view in spec.views.items():
            yield partial(refuse_view, f"stages.{spec.name}.views.{name}", view, recipe, kinds)
        for name, source in spec.weights.items():
            yield partial(_check_file, spec, name, source)


def _refuse_names(recipe: RecipeSpec, spec: TowersSpec) -> None:
    """Refuse keys of a stage that name no tower of it."""
    refuse_unread(spec.towers, recipe, f"stage {spec.name}, towers")
    whole = [*spec.towers, *([] if recipe.shared is None else [TRUNK])]
    named: dict[str, Iterable[str]] = {
        "frozen": spec.frozen, "encoder": spec.encoder, "start_from": spec.start_from
    }  # fmt: skip
    if isinstance(spec, TrainSpec):
        named["weights"] = spec.weights
        refuse_unknown(
            spec.vectors, spec.towers, f"stage {spec.name}, vectors", "the stage has no tower"
        )
    for key, names in named.items():
        refuse_unknown(names, whole, f"stage {spec.name}, {key}", "the stage has no tower")


def _refuse_starts(recipe: RecipeSpec, spec: TowersSpec, made: Mapping[str, TowersSpec]) -> None:
    """Refuse to start a tower from a stage that has none, or that is no stage of towers."""
    where = f"stage {spec.name}, start_from"
    for name, stage in spec.start_from.items():
        if stage not in made or (name != TRUNK and name not in made[stage].towers):
            has = ", ".join(made[stage].towers) if stage in made else "no towers"
            raise ConfigError(
                f"stage '{stage}' has no tower '{name}' to start from", where=where, got=has
            )
    if not isinstance(spec, TrainSpec):
        return
    for name, stage in spec.vectors.items():
        if stage not in made or name not in made[stage].tables_filled:
            raise ConfigError(
                f"stage '{stage}' has no table of vectors for '{name}'",
                where=f"stage {spec.name}, vectors",
                expected="a factorise stage with that modality",
            )
    if recipe.shared is not None:
        trunk_stage(spec)


def _check_tower(recipe: RecipeSpec, spec: TowersSpec, name: str, kind: str | None) -> None:
    """Check a tower, or an input projection; what only the kind of input says needs the kind."""
    if recipe.shared is None:
        given = tower_settings(recipe, spec, name)
        _check_where_it_stands(recipe, spec, name, partial(check_encoder, given.encoder))
        return
    changed = spec.encoder.get(name, {})
    projection = {**input_projections_of(recipe.shared).get(name, {}), **changed}
    if kind is not None:
        _check_where_it_stands(
            recipe, spec, name, partial(check_input_projection, kind, projection)
        )


def _check_where_it_stands(
    recipe: RecipeSpec, spec: TowersSpec, name: str, one: Callable[[str], object]
) -> None:
    """Check settings of an encoder; what the stage's ``encoder.NAME`` changed is named there."""
    try:
        one(encoder_key(recipe, spec, name, ""))
    except ConfigError as error:
        quoted = re.findall(r"'([\w.]+)'", error.what)
        prefix = encoder_key(recipe, spec, name, "") + "."
        keys = [key.removeprefix(prefix).split(".")[0] for key in quoted if key.startswith(prefix)]
        if not keys or not all(key in spec.encoder.get(name, {}) for key in keys):
            raise
        one(encoder_key(recipe, spec, name, keys[0]))


def _check_objective(
    recipe: RecipeSpec, spec: TowersSpec, label: str, objective: ObjectiveSpec
) -> None:
    where = f"stages.{spec.name}.objectives.{label}"
    near = closest("kind", objective.settings)
    if near is not None and objective.kind == label and label not in OBJECTIVES:
        what = f"unknown key '{where}.{near}'; did you mean 'kind'?"
        raise ConfigError(what, where=f"stage {spec.name}, objectives.{label}")
    own = lookup("objective", objective.kind, OBJECTIVES.settings, where=where)
    for key in objective.settings:
        if key not in own.model_fields:
            known = (*own.model_fields, "kind", "loss_weight")  # these two stand beside them
            what = f"unknown key '{where}.{key}'{nearest(key, known)}"
            raise ConfigError(what, where=f"stage {spec.name}, objectives.{label}")
    checked = check_objective(objective.kind, objective.settings, where)
    if not isinstance(checked, RouterBalanceSettings):
        return
    experts = None if recipe.shared is None else shared_settings(recipe, spec).experts
    checked.refuse_unfit(
        spec.towers,
        0 if experts is None else experts.experts,
        where=where,
        fix=f"leave the objective out: --set 'stages.{spec.name}.objectives.{label}=null'",
    )


def _refuse_fold(spec: TrainSpec, fold: int) -> None:
    if not 0 <= fold < spec.folds:
        raise ConfigError(
            "there is no such fold",
            where=f"stage {spec.name}, without_fold",
            got=fold,
            expected=f"0 to {spec.folds - 1}, as folds: {spec.folds}",
        )


def refuse_view(
    where: str, view: ViewSettings, recipe: RecipeSpec, kinds: Mapping[str, str]
) -> None:
    """Refuse a view of what the recipe does not read, and options that an adapter has not."""
    drop = view.drop if isinstance(view.drop, Mapping) else ()
    named = {"modalities": view.modalities or (), "mask": view.mask, "drop": drop}
    for key, names in {**named, "augment": view.augment}.items():
        refuse_unread(names, recipe, f"{where}.{key}")
    for name, options in view.augment.items():
        if name in kinds:
            place = recipe.stands(f"{where}.augment.{name}")
            check(augment_settings(kinds[name]), options, place, ConfigError, under=place)


def _check_file(spec: TrainSpec, name: str, source: WeightsSpec) -> None:
    """Refuse weights of a file that is not there, or with a name map that nobody knows."""
    from medmcl.stages.train.file_weights import refuse_source  # needs torch

    where = f"stage {spec.name}, weights.{name}"
    refuse_source(name, source, where)
    if source.path.is_file():
        return
    kept = sorted(source.path.glob("**/step-*/weights.safetensors"))
    shown = ", ".join(map(str, kept[-_SHOWN:]))
    is_folder = source.path.is_dir()
    raise ConfigError(
        f"{source.path} is a folder, not a file"
        if is_folder
        else f"there is no such file: {source.path}{instead_of(source.path)}",
        where=where,
        expected="a file: .safetensors, or .pth, .pt, .ckpt",
        fix=f"give one of its files: {shown}, with names: run"
        if kept
        else "give the path of the file, or for another run "
        "RUN/checkpoint/STAGE/step-NUMBER/weights.safetensors with names: run",
    )


def refuse_parts(recipe: RecipeSpec, spec: TrainSpec) -> None:
    """Refuse parts that the recipe alone shows to be impossible.

    Raises:
        ConfigError: A shared tower has experts, or there are more parts than rows.
    """
    if recipe.shared is not None and shared_settings(recipe, spec).experts is not None:
        raise ConfigError(
            "a batch cannot be encoded in parts where a shared tower has experts: their room, who "
            "is served first and what routers are charged are of the whole batch",
            where=f"stage {spec.name}, accumulate",
            got=spec.accumulate,
            expected="1",
            fix=f"--set stages.{spec.name}.accumulate=1, or a tower without experts: "
            "--set shared.experts=null",
        )
    refuse_empty_parts(spec, spec.batch_size, 1)


def refuse_empty_parts(spec: TrainSpec, batch_size: int, ranks: int) -> None:
    """Refuse more parts than the smallest batch of a rank has rows.

    Args:
        spec: The stage.
        batch_size: Rows of a batch, as they are drawn.
        ranks: Processes that share them.

    Raises:
        ConfigError: Says how many parts there can be.
    """
    kept = batch_size
    if spec.selector is not None:
        kept = max(1, math.floor(spec.selector.share * batch_size + 1e-9))
    rows = kept // ranks
    if spec.parts <= max(1, rows):
        return
    selected = f", of which the selector keeps {kept} or more" if kept < batch_size else ""
    shared = f", on {ranks} processes" if ranks > 1 else ""
    raise ConfigError(
        "a batch has fewer rows than the parts it is to be encoded in",
        where=f"stage {spec.name}, accumulate",
        got=f"{spec.accumulate} parts; batches of {batch_size}{selected}{shared}",
        expected=f"at most {max(1, rows)}",
        fix=f"--set stages.{spec.name}.accumulate={max(1, rows)}, or a larger batch_size",
    )


def _refuse_groups_and_teacher(
    spec: TrainSpec, made: Mapping[str, TowersSpec], clustered: Mapping[str, ClusterSpec]
) -> None:
    """Refuse groups of a stage that does not cluster, and a teacher that has no towers.

    Raises:
        ConfigError: Names the stage and the key.
    """
    where = f"stage {spec.name}"
    grouped = None if spec.groups is None else spec.groups.stage
    if grouped is not None:
        what = f"'{grouped}' is no cluster stage before it"
        none = "a cluster stage before it, or `columns: [site]`"
        refuse_absent(grouped, clustered, what, where=f"{where}, groups", none=none)
    models = {one.kind: OBJECTIVES.settings.get(one.kind) for one in spec.objectives.values()}
    from_teacher = [
        kind for kind, one in models.items() if isinstance(one, LearnsFromTeacher) and one.is_taught
    ]
    if spec.teacher is None:
        if from_teacher:
            raise ConfigError(
                f"the objective {', '.join(sorted(from_teacher))} has nothing to learn from",
                where=where,
                fix=f"name an earlier stage: --set stages.{spec.name}.teacher=NAME",
            )
        return
    if not from_teacher:
        raise ConfigError(
            "has a teacher, and no objective that learns from it",
            where=f"{where}, teacher",
            fix="add `distil: {}` (or `par: {}`) to its objectives, or leave the teacher out",
        )
    what = f"the teacher '{spec.teacher}' is no stage before it that has towers"
    refuse_absent(spec.teacher, made, what, where=f"{where}, teacher")
    if not set(spec.towers) & set(made[spec.teacher].towers):
        raise ConfigError(
            f"the teacher '{spec.teacher}' has none of the stage's modalities",
            where=f"{where}, teacher",
            got=", ".join(made[spec.teacher].towers),
            expected=", ".join(spec.towers),
        )


def _refuse_scales(spec: TowersSpec, made: Mapping[str, TowersSpec]) -> None:
    """Refuse scales of objectives that are not there, or have none to share.

    Raises:
        ConfigError: Names what could be meant.
    """
    for label, one in spec.objectives.items():
        where = f"stage {spec.name}, objectives.{label}.scale"
        of, stage = one.scale_option("of"), one.scale_option("start_from")
        if of is not None:
            able = [name for name, other in spec.objectives.items()
                    if name != label and _has_own(other)]  # fmt: skip
            what = f"there is no objective with a scale of its own called '{of}'"
            refuse_absent(of, able, what, where=f"{where}.of", none="none")
        if stage is not None:
            able = [
                name
                for name, before in made.items()
                if label in before.objectives and _has_scale(before.objectives[label])
            ]
            what = f"there is no earlier stage with an objective '{label}' and a scale, called"
            what = f"{what} '{stage}'"
            refuse_absent(stage, able, what, where=f"{where}.start_from", none="none")


def _has_scale(one: ObjectiveSpec) -> bool:
    fields = OBJECTIVES.settings.get(one.kind)
    per_pair = bool(one.settings.get("scale_per_pair", False))
    return fields is not None and "scale" in fields.model_fields and not per_pair


def _has_own(one: ObjectiveSpec) -> bool:
    return _has_scale(one) and one.scale_option("of") is None
