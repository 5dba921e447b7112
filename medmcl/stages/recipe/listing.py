"""What ships, listed: recipes and cohorts in two lines each, one with all its keys, and parts."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from medmcl.core.config import Config, nearest, read_yaml
from medmcl.core.errors import ConfigError
from medmcl.core.key_help import KeyHelp, help_of
from medmcl.core.lazy import Parts
from medmcl.core.overrides import typed
from medmcl.data.cohort.locate import find_cohort, is_template, list_cohorts
from medmcl.encoders.build import ENCODERS
from medmcl.encoders.settings import TowerSettings
from medmcl.evaluation.aspects.aspect import ASPECTS
from medmcl.evaluation.models import MODELS
from medmcl.modalities import ADAPTERS, readers, tables
from medmcl.objectives.build import OBJECTIVES
from medmcl.selection.settings import SCORERS, SELECTORS
from medmcl.stages.recipe.file import find_recipe, kinds, list_recipes, read_recipe
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.recipe.stage_names import stage_path, stem
from medmcl.stages.stage import STAGES, StageSpec


def list_of_recipes() -> str:
    """Write every recipe with what it is and the modalities it reads."""
    lines = []
    for name, path in list_recipes().items():
        spec = read_recipe(path)
        lines.append(f"{name:20s} {spec.about}\n{'':20s} needs: {_needs(spec)}")
    return "\n".join([*lines, "one of them, with the keys that can be set: medmcl recipes NAME"])


def _needs(spec: RecipeSpec) -> str:
    if spec.modalities == "all":
        return f"any two modalities or more, of the kinds {', '.join(spec.kinds)}"
    return ", ".join(
        f"{' or '.join(spec.kinds_of(modality))} of any name"
        if modality in spec.roles
        else modality
        if kind in (modality, None)
        else f"{modality} ({kind})"
        for modality, kind in kinds(spec).items()
    )


def list_of_cohorts() -> str:
    """Write every cohort with what it is and its recipe; the template is called one."""
    lines = []
    for name, path in list_cohorts().items():
        tree = read_yaml(path)
        about = str(tree.get("about", ""))
        if is_template(path):
            about = "a template without data: copy the folder and fill it in"
        recipe = tree.get("recipe") or "none; name one with --recipe"
        lines.append(f"{name:20s} {about}\n{'':20s} recipe: {recipe}")
    return "\n".join(lines)


def one_cohort(name: str) -> str:
    """Write what a cohort definition says it has, without opening any data."""
    path = find_cohort(name)
    tree = read_yaml(path)
    lines = [str(name), f"  {tree.get('about', '')}", f"  file: {path}"]
    lines += [f"  data: {tree['access']}"] if tree.get("access") else []
    lines.append(f"  recipe: {tree.get('recipe') or 'none; name one with --recipe'}")
    for section, keys in (("modalities", ("kind", "reader")), ("tasks", ("kind", "about"))):
        given = tree.get(section)
        lines += ["", section] if isinstance(given, Mapping) and given else []
        for one, said in given.items() if isinstance(given, Mapping) else ():
            told = [str(said[key]) for key in keys if isinstance(said, Mapping) and said.get(key)]
            lines.append(f"  {one:20s} {'; '.join(told)}")
    lines += ["", "change a value with --set cohort.KEY=VALUE, as in --set cohort.tasks.NAME=null"]
    return "\n".join(lines)


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
            yield from _row(f"{key}.{one.name}", one, values)


def _row(key: str, one: KeyHelp, values: Mapping[str, Any]) -> Iterator[str]:
    default = "needed" if one.needed else f"default {typed(one.default)}"
    now = values.get(one.name, one.default)
    changed = "" if one.needed and one.name not in values else f" = {typed(now)}"
    same = not one.needed and now == one.default
    yield f"  {key}{'' if same else changed}  ({one.takes}; {default})"
    if one.about:
        yield f"      {one.about}"


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


PARTS: Mapping[str, Parts] = {
    "modalities": ADAPTERS,
    "encoders": ENCODERS,
    "objectives": OBJECTIVES,
    "models": MODELS,
    "scorers": SCORERS,
    "selectors": SELECTORS,
    "stages": STAGES,
    "aspects": ASPECTS,
}
"""What the parts are called to those that name them."""


def list_of_parts(kind: str | None = None) -> str:
    """Write every part, or those of a kind, each with what it is and whose it is if not medmcl's.

    Raises:
        ConfigError: A package outside gives a part that cannot be used.
    """
    lines = []
    for name, parts in PARTS.items():
        if kind is not None and name != kind:
            continue
        lines.append(f"{name} (packages add some by the entry points '{parts.group}')")
        for part in parts:
            whose = f"  [of the package {parts.package(part)}]" if part in parts.outside else ""
            lines.append(f"  {part:20s}  {_about(parts, part)}{whose}".rstrip())
    return "\n".join([*lines, "one of them, with what can be set: medmcl parts NAME"])


def one_part(name: str) -> str:
    """Write what one part is and what can be set of it; of a kind of parts, all of them.

    Raises:
        ConfigError: There is no such part.
    """
    if name in PARTS:
        return list_of_parts(name)
    found = [kind for kind, parts in PARTS.items() if name in parts]
    if not found:
        known = dict.fromkeys([*PARTS, *(one for parts in PARTS.values() for one in parts)])
        raise ConfigError(
            f"there is no part '{name}'{nearest(name, known)}", fix="`medmcl parts` lists them"
        )
    return "\n\n".join("\n".join(_lines(kind, name)) for kind in found)


def _about(parts: Parts, name: str) -> str:
    """What a part is: the first line of its docstring; of a model, that of what fits it.

    That of medmcl's own is read from the source, without what importing it would load. Empty where
    it says nothing.
    """
    home = parts.home(name)
    home = home[0] if isinstance(home, tuple) else home
    if str(home).startswith("medmcl."):
        said = _docstring(home) or str(parts.settings[name].__doc__)  # of a card
    else:
        part = parts[name]  # one that cannot be imported is told here
        said = str((part.fit if parts is MODELS else part).__doc__ or "")
    first = _REFERENCE.split(said.strip().partition("\n")[0])[0].rstrip(".")
    return first and f"{first}."


_REFERENCE = re.compile(r"; (?:see|keeps) ")


def _docstring(home: str) -> str:
    """The docstring of ``module:Name``, a class, or an instance whose ``fit=`` is a function.

    Empty if the module does not say it.
    """
    module, _, name = home.partition(":")
    file = Path(__file__).parents[3].joinpath(*module.split(".")).with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for one in body:
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name:
            assert isinstance(one.value, ast.Call)
            name = next(ast.unparse(key.value) for key in one.value.keywords if key.arg == "fit")
    found = (
        ast.get_docstring(one) or ""
        for one in body
        if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name
    )
    return next(found, "")


def _lines(kind: str, name: str) -> Iterator[str]:
    parts = PARTS[kind]
    yield f"{kind}: {name} ({parts.package(name)})"
    if said := _about(parts, name):
        yield f"  {said}"
    if kind == "models":
        kinds = ", ".join(parts[name].kinds) or "any"
        yield f"  for tasks of kind: {kinds}; probe: {{protocol: {name}}}"
        return
    model = parts.settings[name]
    if kind != "modalities":
        yield from () if model is None else _keys(model)  # an aspect may take no settings
        return
    yield f"  readers: {', '.join(r for r, kinds in readers().items() if name in kinds)}"
    adapter = parts[name]
    for said, of in (
        ("in cohort.yaml, under modalities.NAME", adapter.Source),
        ("in a recipe, under inputs.NAME", model),
        ("in a view of a recipe, under augment.NAME", adapter.Augment),
    ):
        yield f"{said}:"
        yield from list(_keys(of)) or ["  nothing can be set"]


def _keys(model: type[Config]) -> Iterator[str]:
    """Write what can be set of a model."""
    for one in help_of(model):
        yield from _row(one.name, one, {})
