"""``medmcl recipes NAME``: a recipe with what it says, or every key below one of its keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.core.key_help import help_of, key_lines
from medmcl.core.overrides import typed
from medmcl.encoders.build import ENCODERS
from medmcl.encoders.settings import TowerSettings
from medmcl.modalities import ADAPTERS, tables
from medmcl.objectives.build import OBJECTIVES
from medmcl.selection.settings import SCORERS, SELECTORS
from medmcl.stages.recipe.file import find_recipe, read_recipe
from medmcl.stages.recipe.needs import kinds
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.recipe.stage_names import stage_path, stem
from medmcl.stages.stage import StageSpec


def one_recipe(name: str, key: str | None = None) -> str:
    """Write a recipe: its source, its stages in order, what can be set; or what lies below one key.

    Args:
        name: File or name.
        key: Dotted key, as in ``--set``: ``stages.mdm``, ``stages.mdm.optimiser``, ``inputs.ecg``.

    Raises:
        ConfigError: There is no such recipe, or no such key in it.
    """
    path = find_recipe(name)
    spec = read_recipe(path)
    if key is not None:
        return "\n".join(_below(spec, key))
    source = textwrap.wrap(f"source: {spec.source or 'not stated'}", width=98)
    lines = [spec.name, f"  {spec.about}", f"  file: {path}", *(f"  {one}" for one in source)]
    lines += ["", "stages, in order"]
    width = max(len(_called(stage)) for stage in spec.stages)
    lines += [f"  {_called(stage):{width}s}  {stage.summary()}" for stage in spec.stages]
    lines += ["", "what it says now (change it with --set KEY=VALUE)"]
    tree = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for section in ("roles", "modalities", "kinds", "inputs", "towers", "shared", "views"):
        lines += [f"  {one}" for one in _flat(section, tree.get(section))]
    for stage in spec.stages:
        own = stage.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        own = {k: v for k, v in own.items() if k not in ("stage", "name")}
        lines += [f"  {one}" for one in _flat(f"stages.{_called(stage)}", own)]
    first = _called(spec.stages[0])
    return "\n".join(
        [
            *lines,
            "",
            "every key with its default, what it takes and what it means:",
            f"  medmcl recipes {name} stages.{first}     (or inputs.NAME, towers.NAME, views.NAME)",
        ]
    )


def _called(stage: StageSpec) -> str:
    """Give the short name of a stage that `--set` takes."""
    return stem(stage.name)


_WHOLE = ("groups", "subset")
"""Keys that a recipe may say in short, as one name: nothing can be set below them."""


def _flat(key: str, value: Any) -> Iterator[str]:
    """Write a tree as dotted keys with their values; short mappings stand in one line."""
    if value in (None, {}, [], ()):
        return
    whole = key.rpartition(".")[2] in _WHOLE
    if isinstance(value, Mapping) and not whole:
        settings = value.get("settings") if "objectives" in key.split(".") else None
        if isinstance(settings, Mapping) and set(value) <= {"kind", "loss_weight", "settings"}:
            value = {**{k: v for k, v in value.items() if k != "settings"}, **settings}
        for name, one in value.items():
            yield from _flat(f"{key}.{name}", one)
        return
    yield f"{key} = {typed(value)}"


def _below(spec: RecipeSpec, key: str) -> Iterator[str]:
    """Write every key below one, with what it takes."""
    model, values, key = _at(spec, key)
    yield f"{key}: {(model.__doc__ or '').split(chr(10))[0]}"
    for one in help_of(model):
        if one.name not in ("stage", "name") or not key.startswith("stages."):
            yield from key_lines(f"{key}.{one.name}", one, values)


def _at(spec: RecipeSpec, key: str) -> tuple[type[BaseModel], dict[str, Any], str]:
    """Give the settings below a key of a recipe, what they are now, and the key as it is set."""
    root, *rest = key.split(".")
    model: type[BaseModel]
    stages = [one.model_dump(by_alias=True) for one in spec.stages]
    if root == "stages" and rest:
        name, *rest = stage_path(stages, ".".join(rest), key)
        names = [one.name for one in spec.stages]
        stage = spec.stages[names.index(name) if name in names else int(name)]
        model = type(stage)
        values = stage.model_dump(mode="json", by_alias=True)
        return _deeper(model, values, f"stages.{_called(stage)}", rest)
    if root in ("inputs", "towers") and rest:
        section = spec.inputs if root == "inputs" else spec.towers
        if rest[0] not in section:
            raise _no_key(key, section)
        model = TowerSettings
        if root == "inputs":
            model = ADAPTERS.settings[kinds(spec)[rest[0]] or tables()[0]]
        return _deeper(model, dict(section[rest[0]]), f"{root}.{rest[0]}", rest[1:])
    if root == "views" and rest and rest[0] in spec.views:
        view = spec.views[rest[0]]
        values = view.model_dump(mode="json", by_alias=True)
        return _deeper(type(view), values, f"views.{rest[0]}", rest[1:])
    known = [f"stages.{_called(one)}" for one in spec.stages]
    known += [f"{s}.{n}" for s in ("inputs", "towers", "views") for n in getattr(spec, s)]
    raise _no_key(key, known)


def _deeper(
    model: type[BaseModel], values: Mapping[str, Any], key: str, rest: list[str]
) -> tuple[type[BaseModel], dict[str, Any], str]:
    """Follow the rest of a dotted key down."""
    for part in rest:
        mine = dict(values.get(part) or {}) if isinstance(values, Mapping) else {}
        if key.endswith(".objectives"):
            model = OBJECTIVES.settings[str(mine.get("kind", part))]
            mine = dict(mine.get("settings", mine))
        elif key.endswith(".scores"):
            model = SCORERS.settings[str(mine.get("kind", part))]
        elif part == "selector" and mine:
            model = SELECTORS.settings[str(mine["kind"])]
        elif key.startswith("towers.") and part == "encoder":
            model = ENCODERS.settings[str(mine.get("name"))]
        elif part in model.model_fields:
            inner = _model_in(model.model_fields[part].annotation)
            if inner is None and not mine:
                raise _no_key(f"{key}.{part}", ())
            model = inner or model
        elif part not in values:
            raise _no_key(f"{key}.{part}", [one.name for one in help_of(model)])
        values, key = mine, f"{key}.{part}"
    return model, dict(values), key


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((one for one in found if one is not None), None)


def _no_key(key: str, known: Any) -> ConfigError:
    """Say that a recipe has no such key."""
    whole = any("." in str(one) for one in known)
    last = key if whole else key.rpartition(".")[2]
    return ConfigError(f"there are no keys below '{key}'{nearest(last, known)}")
