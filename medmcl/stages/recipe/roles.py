"""Names that a recipe gives to modalities of a kind: the cohort's own take their place.

``roles: {picture: image, caption: text}`` lets the recipe write ``picture`` wherever it means the
cohort's images, whatever they are called there. The name is replaced wherever it stands alone, as a
key or as a value, so it must not be that of a setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medmcl.core.config import closest
from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.spec import RecipeSpec

ROLES = "roles"
"""Where a role of a recipe that no modality takes is at fault."""


def with_names(recipe: RecipeSpec, kinds: Mapping[str, str]) -> RecipeSpec:
    """Give a recipe whose roles are modalities of the cohort; itself if it has no roles.

    A modality of the cohort that is called like the role takes it, else the only one of its kind.
    What was set under the cohort's own name (``--set inputs.cxr.size=320``) adds to the role's.

    Args:
        recipe: The recipe as read.
        kinds: Modality of the cohort to its kind.

    Raises:
        ConfigError: The cohort has none, or several, of the kind of a role.
    """
    if not recipe.roles:
        return recipe
    named = {role: _modality(role, recipe.kinds_of(role), kinds) for role in recipe.roles}
    tree = recipe.model_dump(mode="json", by_alias=True, exclude={"roles", "kinds"})
    kept = {key: tree.pop(key) for key in ("name", "about", "source", "schema")}
    kinds_spec = recipe.model_dump(mode="json")["kinds"]
    resolved = {**_renamed(tree, named), **kept, "kinds": kinds_spec}
    stands = {
        f"{section}.{name}": f"{section}.{role}"
        for role, name in named.items()
        for section, told in _by_modality(recipe)
        if role in told and name not in told
    }
    return RecipeSpec.model_validate(resolved).with_taken(named).with_stands(stands)


def _by_modality(recipe: RecipeSpec) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Give the sections that take a modality to its settings, each with its dotted key."""
    yield "inputs", recipe.inputs
    yield "towers", recipe.towers
    input_projections = (recipe.shared or {}).get("input_projections")
    yield (
        "shared.input_projections",
        input_projections if isinstance(input_projections, Mapping) else {},
    )
    for name, view in recipe.views.items():
        yield f"views.{name}.augment", view.augment
    for stage in recipe.stages:
        for key, told in stage.by_modality():
            yield f"stages.{stage.name}.{key}", told


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
            found[new] = _joined(found[new], inner) if new in found else inner
        return {named.get(key, key): found[named.get(key, key)] for key in tree}
    if isinstance(tree, list):
        return [_renamed(part, named) for part in tree]
    return named.get(tree, tree) if isinstance(tree, str) else tree


def _joined(base: Any, more: Any) -> Any:
    """Add what was set under the cohort's own name; it wins."""
    if isinstance(base, dict) and isinstance(more, dict):
        return {**base, **{k: _joined(base[k], v) if k in base else v for k, v in more.items()}}
    return more
