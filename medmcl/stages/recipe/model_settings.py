"""What a recipe and one of its stages say of a model, brought together and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmcl.core.config import check, faults_of, lookup
from medmcl.core.errors import ConfigError
from medmcl.encoders.settings import TowerSettings
from medmcl.encoders.shared.settings import TRUNK, SharedSettings
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.train.spec import TowersSpec, TrainSpec


def tower_settings(recipe: RecipeSpec, spec: TowersSpec, name: str) -> TowerSettings:
    """Settings of a tower of its own in a stage; ``encoder.NAME`` of the stage changes its encoder.

    Raises:
        ConfigError: The recipe has no such tower, or its settings cannot be used.
    """
    tree = dict(lookup("tower", name, recipe.towers, where=f"stage {spec.name}"))
    changed = spec.encoder.get(name, {})
    if changed and isinstance(tree.get("encoder"), Mapping):
        tree["encoder"] = {**tree["encoder"], **changed}
    if name in spec.frozen:
        tree["frozen"] = True
    where = recipe.stands(f"towers.{name}")
    return check(TowerSettings, tree, where, ConfigError, under=where)


def encoder_key(recipe: RecipeSpec, spec: TowersSpec, name: str, key: str) -> str:
    """Give the dotted key that settings of an encoder stand under: of the tower, or of the stage.

    Args:
        recipe: The recipe.
        spec: The stage.
        name: The modality.
        key: The key in question: the stage's own ``encoder.NAME`` has the last word on it.
    """
    changed = spec.encoder.get(name, {})
    if key in changed:
        return recipe.stands(f"stages.{spec.name}.encoder.{name}")
    section = "towers" if recipe.shared is None else "shared.input_projections"
    return recipe.stands(f"{section}.{name}") + (".encoder" if recipe.shared is None else "")


def shared_settings(recipe: RecipeSpec, spec: TowersSpec) -> SharedSettings:
    """Settings of the tower that modalities share in a stage.

    ``encoder.shared`` of the stage changes those of the tower, ``encoder.NAME`` those of an
    input projection.

    Raises:
        ConfigError: A key or a value that cannot be used, or an input projection of what is not
            read.
    """
    shared = recipe.shared or {}
    input_projections = input_projections_of(shared)
    for name in input_projections:
        lookup("modality", name, recipe.inputs, where="shared.input_projections")
    for name in spec.towers:
        input_projections[name] = {**input_projections.get(name, {}), **spec.encoder.get(name, {})}
    changed = spec.encoder.get(TRUNK, {})
    where = f"shared, with encoder.{TRUNK} of stage {spec.name}" if changed else "shared"
    tree = {**shared, **changed, "input_projections": input_projections}
    faulty = faults_of(SharedSettings, tree)
    stage = faulty and all(fault.path[:1] and fault.path[0] in changed for fault in faulty)
    under = f"stages.{spec.name}.encoder.{TRUNK}" if stage else "shared"
    return check(SharedSettings, tree, where, ConfigError, under=under)


def input_projections_of(shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each modality's input projection to a shared tower, as the recipe says it.

    Raises:
        ConfigError: They are no mapping, or one of them is none.
    """
    given = shared.get("input_projections")
    where: str = "shared.input_projections"
    form, wrong = "NAME: {patch: 50}", given
    if isinstance(given, Mapping):
        bad = {name: one for name, one in given.items() if not isinstance(one, Mapping | None)}
        if not bad:
            return {str(name): dict(one or {}) for name, one in given.items()}
        name, wrong = next(iter(bad.items()))
        where, form = f"{where}.{name}", "patch: 50"
    elif given is None:
        return {}
    raise ConfigError(
        "must be a mapping of settings",
        where=where,
        got=repr(wrong),
        expected=f"a mapping, such as {{{form}}}",
        fix=(f"write its name as a setting: --set '{where}={{name: {wrong}}}'")
        if isinstance(wrong, str)
        else "correct it, or leave it out: "
        "every kind of input that can enter by itself needs no input projection",
    )


def trunk_stage(spec: TrainSpec) -> str | None:
    """The stage that the shared part of a tower starts from; None: from the seed.

    Raises:
        ConfigError: Modalities start from different stages, and none is named for what they share.
    """
    if TRUNK in spec.start_from:
        return spec.start_from[TRUNK]
    named = sorted(set(spec.start_from.values()))
    if len(named) > 1:
        raise ConfigError(
            "modalities start from different stages, and what they share can start from one only",
            where=f"stage {spec.name}, start_from",
            got=", ".join(named),
            fix=f"add `{TRUNK}: {named[-1]}` to start_from, or name one stage for all",
        )
    return named[0] if named else None
