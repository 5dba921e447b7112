"""A recipe for any cohort becomes the recipe for this one: every modality by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from medmcl.core.config import check, closest, lookup, refuse_absent, validated
from medmcl.core.contracts import KnowsInputs
from medmcl.core.errors import ConfigError
from medmcl.core.overrides import laid
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.encoders.build import ENCODERS, check_encoder, check_input_projection
from medmcl.encoders.settings import TowerSettings
from medmcl.modalities import ADAPTERS, augment_settings
from medmcl.stages.recipe.model_settings import input_projections_of
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import StageSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort


def for_cohort(recipe: RecipeSpec, kinds: Mapping[str, str]) -> RecipeSpec:
    """Name every modality where the recipe says ``all`` or leaves towers open.

    Args:
        recipe: The recipe as read.
        kinds: Modality of the cohort to its kind, in the cohort's order.

    Returns:
        A recipe of which every stage names its towers; itself if it named them all.

    Raises:
        ConfigError: A modality that the cohort does not have, or of a kind that the recipe does
            not know; or input projections that are no mappings.
    """
    if recipe.kinds:
        _refuse_kinds(recipe)
    recipe = with_names(recipe, kinds) if recipe.roles else recipe
    shared = recipe.shared
    inputs, views = dict(recipe.inputs), dict(recipe.views)
    towers = dict(recipe.towers if shared is None else input_projections_of(shared))
    built_in = "towers" if shared is None else "shared.input_projections"
    stands: dict[str, str] = {}
    for name in kinds if recipe.modalities == "all" else recipe.modalities:
        what = f"the recipe '{recipe.name}' reads '{name}', which the cohort does not have"
        refuse_absent(name, kinds, what, where="modalities")
        known = recipe.kinds.get(kinds[name])
        if known is None and name in inputs and name in towers:
            continue
        if known is None:
            raise ConfigError(
                f"the recipe '{recipe.name}' does not say how to encode '{name}', which is of kind "
                f"'{kinds[name]}'",
                where="kinds",
                expected=", ".join(recipe.kinds) or "a kind with its tower",
                fix=f"--set 'kinds.{kinds[name]}={{tower: {{encoder: {{name: ...}}}}}}', or name "
                "the modalities to read: --set 'modalities=[a, b]'",
            )
        if name not in inputs:
            stands[f"inputs.{name}"] = f"kinds.{kinds[name]}.input"
        if name not in towers:
            stands[f"{built_in}.{name}"] = f"kinds.{kinds[name]}.tower"
        inputs[name] = {**known.input, **inputs.get(name, {})}
        towers[name] = {**known.tower, **towers.get(name, {})}
        for view, options in known.augment.items():
            before = views.get(view, ViewSettings())
            if name not in before.augment:
                stands[f"views.{view}.augment.{name}"] = f"kinds.{kinds[name]}.augment.{view}"
            views[view] = before.with_default(name, options)
    # records are prepared as the encoder of their tower knows them, where the recipe does not say
    asked = {name: asked_inputs(tower, kinds.get(name)) for name, tower in towers.items()}
    inputs = {name: {**asked.get(name, {}), **said} for name, said in inputs.items()}
    everyone = tuple(name for name in inputs if name in towers or shared is not None)
    stages: list[StageSpec] = []
    for stage in recipe.stages:
        stages.append(stage.for_cohort(everyone, stages, kinds))
    update: dict[str, Any] = {"modalities": (), "kinds": {}, "inputs": inputs, "views": views}
    by_part = {**(shared or {}), "input_projections": towers}
    update |= {"towers": towers} if shared is None else {"shared": by_part}
    update["stages"] = tuple(stages)
    return recipe.model_copy(update=update).knowing(stands)


def asked_inputs(tower: Mapping[str, Any], kind: str | None) -> Mapping[str, Any]:
    """How the encoder of a tower asks for its records to be prepared; empty where it does not.

    Settings that cannot be used are told by whoever checks the tower.
    """
    given = tower.get("encoder")
    if not isinstance(given, Mapping) or given.get("name") not in ENCODERS:
        return {}
    model = ENCODERS.settings[given["name"]]
    own = {key: value for key, value in given.items() if key != "name"}
    settings = validated(model, own)[0]
    if isinstance(settings, KnowsInputs) and settings.input_kind == kind:
        return settings.inputs()
    return {}


def _refuse_kinds(recipe: RecipeSpec) -> None:
    """Refuse what ``kinds`` cannot say, of kinds that this cohort does not have too.

    Raises:
        ConfigError: Names the key.
    """
    for kind, said in recipe.kinds.items():
        settings = lookup("kind of modality", kind, ADAPTERS.settings, where="kinds")
        where = f"kinds.{kind}"
        check(settings, said.input, where, ConfigError, under=f"{where}.input")
        for view, options in said.augment.items():
            key = f"{where}.augment.{view}"
            check(augment_settings(kind), options, where, ConfigError, under=key)
        if recipe.shared is not None:
            check_input_projection(kind, said.tower, f"{where}.tower")
            continue
        tower = check(TowerSettings, said.tower, where, ConfigError, under=f"{where}.tower")
        check_encoder(tower.encoder, f"{where}.tower.encoder")


def kinds_of(cohort: Cohort) -> dict[str, str]:
    """Modality of a cohort to its kind."""
    return {name: one.kind for name, one in cohort.spec.modalities.items()}


ROLES = "roles"
"""Where a role of a recipe that no modality takes is at fault."""


def with_names(recipe: RecipeSpec, kinds: Mapping[str, str]) -> RecipeSpec:
    """Give a recipe whose roles are modalities of the cohort.

    A modality of the cohort that is called like the role takes it, else the only one of its kind.
    What was set under the cohort's own name (``--set inputs.cxr.size=320``) adds to the role's.

    Args:
        recipe: The recipe as read.
        kinds: Modality of the cohort to its kind.

    Raises:
        ConfigError: The cohort has none, or several, of the kind of a role.
    """
    named = {role: _modality(role, recipe.kinds_of(role), kinds) for role in recipe.roles}
    tree = recipe.model_dump(mode="json", by_alias=True, exclude={"roles", "kinds"})
    kept = {key: tree.pop(key) for key in ("name", "about", "source", "schema")}
    kinds_spec = recipe.model_dump(mode="json")["kinds"]
    resolved = {**_renamed(tree, named), **kept, "kinds": kinds_spec}
    sections: dict[str, Mapping[str, Any]] = {  # that take a modality to its settings
        "inputs": recipe.inputs,
        "towers": recipe.towers,
        "shared.input_projections": input_projections_of(recipe.shared or {}),
        **{f"views.{one}.augment": view.augment for one, view in recipe.views.items()},
        **{f"stages.{s.name}.{key}": told for s in recipe.stages for key, told in s.by_modality()},
    }
    stands = {
        f"{section}.{name}": f"{section}.{role}"
        for role, name in named.items()
        for section, told in sections.items()
        if role in told and name not in told
    }
    return RecipeSpec.model_validate(resolved).knowing(stands, named)


def roles_said(recipe: RecipeSpec) -> str:
    """Name the roles of a recipe and what took them, to follow a list; empty without roles."""
    said = ", ".join(f"{role} (here {name})" for role, name in recipe.taken.items())
    return said and f"; by the recipe's roles {said}"


def refuse_unread(names: Iterable[str], recipe: RecipeSpec, where: object) -> None:
    """Refuse modalities that a recipe, as resolved for a cohort, does not read.

    Raises:
        ConfigError: Names the first, the nearest, and what is read, by modality and by role.
    """
    for name in names:
        if name not in recipe.inputs:
            near = closest(name, [*recipe.inputs, *recipe.taken])
            raise ConfigError(
                f"the recipe reads no '{name}'" + (f"; did you mean '{near}'?" if near else ""),
                where=where,
                expected=", ".join(recipe.inputs) + roles_said(recipe),
                fix="correct the name, or leave it out",
            )


def _modality(role: str, able: tuple[str, ...], kinds: Mapping[str, str]) -> str:
    """Name the modality that takes a role; of several kinds the first that the cohort has."""
    if kinds.get(role) in able:
        return role
    fitting: list[str] = []
    for one in able:
        fitting = fitting or [name for name, kind in kinds.items() if kind == one]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(f"{name} ({one})" for name, one in kinds.items())
    kind = " or ".join(able)
    raise ConfigError(
        f"the recipe's '{role}' is the cohort's {kind}, of which it has "
        + (f"several: {', '.join(fitting)}" if fitting else "none"),
        where=ROLES,
        got=have or "no modality",
        expected=f"one modality of kind {kind}, or one named '{role}'",
        fix=f"leave the others out: --set 'cohort.modalities.{fitting[-1]}=null'"
        if fitting
        else f"give cohort.yaml a modality of kind {kind}, or choose another recipe",
    )


def _renamed(tree: Any, named: Mapping[str, str]) -> Any:
    """Put names in the place of roles, in keys and values."""
    if isinstance(tree, dict):
        found: dict[str, Any] = {}
        for key, value in sorted(tree.items(), key=lambda item: item[0] not in named):
            new, inner = named.get(key, key), _renamed(value, named)
            found[new] = laid(found[new], inner) if new in found else inner
        return {named.get(key, key): found[named.get(key, key)] for key in tree}
    if isinstance(tree, list):
        return [_renamed(part, named) for part in tree]
    return named.get(tree, tree) if isinstance(tree, str) else tree
