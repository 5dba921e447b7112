"""Recipes as YAML files: found, extended, overridden and checked.

A recipe may extend another (``extends``), leave out stages or keys of it (``drop``), put stages
before one of its (``insert``) and set single values (``set``, the same dotted form as ``--set`` on
the command line).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from medmcl.core.config import (
    Config,
    Fault,
    check,
    closest,
    faults_of,
    nearest,
    read_yaml,
    validated,
)
from medmcl.core.errors import ConfigError, OverrideError
from medmcl.core.overrides import apply_override, refuse_overrides, written
from medmcl.core.path_suggestions import shipped
from medmcl.stages.recipe.spec import RecipeHead, RecipeSpec
from medmcl.stages.recipe.stage_names import EXCEPTIONS, stage_path, stem, with_exceptions
from medmcl.stages.stage import STAGES

CONFIGS = shipped("configs")


def find_recipe(name: str | Path) -> Path:
    """Find a recipe: a file, or a name under ``configs/`` here or shipped with medmcl."""
    given = Path(name)
    candidates = [given, Path("configs") / f"{name}.yaml", CONFIGS / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(
        f"there is no recipe '{name}'{nearest(str(name), list_recipes())}",
        fix="give one of the names (`medmcl recipes`), or a yaml file",
    )


def list_recipes() -> dict[str, Path]:
    """Every recipe under ``configs/`` here and shipped with medmcl, by name."""
    found: dict[str, Path] = {}
    for folder in (CONFIGS, Path("configs")):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


Heads = dict[Path, dict[str, Any]]
"""What recipes say beside their stages, as far as they were read, by file."""


def read_head(name: str | Path, heads: Heads) -> RecipeHead:
    """Read what a recipe says beside its stages, with what it extends; no spec is loaded.

    Args:
        name: File or name.
        heads: Those that were read before; what is read is added.

    Raises:
        ConfigError: Names the file and the field.
    """
    path = find_recipe(name)
    tree = {"name": path.stem, **_extended(path, (), heads)}
    known = [field.alias or name for name, field in RecipeHead.model_fields.items()]
    return check(RecipeHead, {key: tree[key] for key in known if key in tree}, path, ConfigError)


def read_recipe(
    name: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> RecipeSpec:
    """Read a recipe with what it extends, apply overrides, check it.

    Args:
        name: File or name; or what a file would hold.
        overrides: Dotted key to value; stages by their name (``stages.mdm.epochs``).

    Raises:
        ConfigError: Names the file, the field, what was got and the nearest known key.
    """
    path: Path | str
    if isinstance(name, Mapping):
        path, tree = f"recipe {name.get('name', '')}".strip(), copy.deepcopy(dict(name))
    else:
        path = find_recipe(name)
        tree = _extended(path, ())
        tree.setdefault("name", path.stem)
    for dotted, value in (overrides or {}).items():
        root = dotted.split(".")[0]
        known = [field.alias or name for name, field in RecipeSpec.model_fields.items()]
        if root not in known:
            raise unknown_override(dotted, value, known)
    applied = _lay(tree, overrides or {})
    stages = tree.get("stages")
    stages = stages if isinstance(stages, list) else []
    for stage in stages:
        write_out(stage)
    spec, faults = validated(RecipeSpec, tree)
    faults = faults or _faults_of_exceptions(stages)
    if spec is None or faults:
        names = [stage.get("name", "") if isinstance(stage, dict) else "" for stage in stages]
        faults = [
            replace(one, text=_with_names(one.text, names), what=_with_names(one.what, names))
            for one in faults
        ]
        refuse_overrides(faults, applied)
        what = "is not valid:\n" + "\n".join(f"  - {one.text}" for one in faults)
        raise ConfigError(what, where=path)
    return spec


def _faults_of_exceptions(stages: Sequence[Any]) -> list[Fault]:
    """Give the faults of what single stages of a ``for_each`` say besides."""
    from medmcl.stages.train.spec import TrainSpec

    found = []
    for number, stage in enumerate(stages):
        exceptions = stage.get(EXCEPTIONS) if isinstance(stage, dict) else None
        for name, own in (exceptions or {}).items():
            for one in faults_of(TrainSpec, with_exceptions(stage, own)):
                path = ("stages", str(number), EXCEPTIONS, name, *one.path)
                if one.path[:1] and one.path[0] in own:
                    said, meant = f"'{'.'.join(one.path)}'", f"'stages.{name}.{'.'.join(one.path)}'"
                    text, what = (part.replace(said, meant, 1) for part in (one.text, one.what))
                    found.append(replace(one, path=path, text=text, what=what))
    return found


def _with_names(text: str, names: Sequence[str]) -> str:
    """Write ``stages.mdm.steps`` where pydantic wrote ``stages.0.steps``."""

    def named(found: re.Match[str]) -> str:
        number = int(found[1])
        name = names[number] if number < len(names) else ""
        return f"'stages.{name}{found[2]}" if name else found[0]

    return re.sub(r"'stages\.(\d+)([.'])", named, text)


def unknown_override(dotted: str, value: Any, known: Sequence[str]) -> OverrideError:
    """Give the error for an override that nothing reads, with the one that was probably meant.

    Args:
        dotted: Its key.
        value: Its value.
        known: First keys that the recipe has; none where no recipe is read.
    """
    from medmcl.data.cohort.spec import CohortKeys

    root, dot, rest = dotted.partition(".")
    mine = [field.alias or name for name, field in RecipeSpec.model_fields.items()]
    if root == "recipe" and rest.split(".")[0] in mine and known:
        what = "values of the recipe are written without 'recipe.'"
        fix = f"write {written(rest, value)}"
        return OverrideError(what, where=written(dotted, value), fix=fix)
    only_there = root in mine and root not in CohortKeys.model_fields
    of_recipe = only_there or (root == "recipe" and rest != "")
    if of_recipe and not known:
        return OverrideError(
            f"'{dotted}' is a value of the recipe, and this command reads none: only values of the "
            "cohort can be set",
            where=written(dotted, value),
            expected="cohort.NAME, data_root",
            fix="leave it out; `medmcl pretrain` takes it, and `medmcl check --recipe NAME`",
        )
    cohort = {f.alias or n: f"cohort.{f.alias or n}" for n, f in CohortKeys.model_fields.items()}
    meant = {**cohort, **{name: name for name in (*known, "data_root", "cohort")}}
    near = root if root in cohort else closest(root, [name for name in meant if name != root])
    hint = "" if near is None else f"; did you mean '{meant[near]}'?"
    write = "" if near is None else f"write {written(meant[near] + dot + rest, value)}"
    return OverrideError(
        f"unknown setting '{root}'{hint}",
        where=written(dotted, value),
        expected=", ".join([*known, "cohort.NAME", "data_root"]),
        fix=write or "write one of these, or leave it out",
    )


CHANGES: tuple[str, ...] = ("extends", "drop", "set", "insert")


class _Change(Config):
    """What a recipe says of the one that it extends."""

    extends: str | None = None
    drop: tuple[str, ...] = ()
    set_: dict[str, Any] = Field(default={}, alias="set")
    insert: dict[str, list[dict[str, Any]]] = {}

    def beside_stages(self, tree: Mapping[str, Any]) -> _Change:
        """What it says of a recipe that was read without its stages."""
        drop = tuple(name for name in self.drop if name.partition(".")[0] in tree)
        laid = {key: one for key, one in self.set_.items() if key.partition(".")[0] != "stages"}
        return self.model_copy(update={"drop": drop, "set_": laid, "insert": {}})


def _extended(path: Path, seen: tuple[Path, ...], heads: Heads | None = None) -> dict[str, Any]:
    if path in seen:
        raise ConfigError("a recipe extends itself", where=path)
    if heads is not None and path in heads:
        return copy.deepcopy(heads[path])
    tree = read_yaml(path)
    if str(tree.get("schema")).startswith("medmcl/cohort"):
        raise ConfigError("is a cohort, not a recipe", where=path, fix=f"--cohort {path}")
    said = {key: tree.pop(key, None) for key in CHANGES}
    given = {key: one for key, one in said.items() if one is not None}
    change = check(_Change, given, where=path, error=ConfigError)
    if change.extends is not None:
        base = _extended(find_recipe(change.extends), (*seen, path), heads)
        base.pop("name", None)
        for key, value in tree.items():
            base[key] = value
        tree = base
    if heads is not None:
        tree.pop("stages", None)
        change = change.beside_stages(tree)
    for name in change.drop:
        _drop(tree, name, path)
    for name, stages in change.insert.items():
        _insert(tree, name, stages, path)
    _lay(tree, copy.deepcopy(change.set_), where=f"{path}, set: ")
    if heads is not None:
        heads[path] = copy.deepcopy(tree)
    return tree


def _lay(
    tree: dict[str, Any], values: Mapping[str, Any], where: str = ""
) -> dict[tuple[str, ...], str]:
    """Set values over a recipe; what one of them excludes, and none of them says, is taken out.

    Returns:
        The path of each to how it was written.
    """
    laid = {}
    stages = tree.get("stages")
    stages = stages if isinstance(stages, list) else []
    for dotted, value in values.items():
        place = f"{where}{dotted}" if where else written(dotted, value)
        root, _, rest = dotted.partition(".")
        named = root == "stages" and rest and stages
        keys = (root, *stage_path(stages, rest, place)) if named else dotted.split(".")
        laid[apply_override(tree, keys, value, where=place)] = written(dotted, value)
    for number, stage in enumerate(stages):
        # keys of which a stage says one (`Config.exclusive`); none of a stage of no known kind
        kind = stage.get("stage") if isinstance(stage, dict) else None
        exclusive = tuple(STAGES.settings[str(kind)].exclusive) if str(kind) in STAGES else ()
        said = {key for key in exclusive if ("stages", str(number), key) in laid}
        if any(stage[key] is not None for key in said):
            for key in {*exclusive} - said:
                stage.pop(key, None)
    return laid


def _insert(tree: dict[str, Any], name: str, stages: list[Any], path: Path) -> None:
    """Put stages before the one of this name."""
    known: list[Any] = tree.get("stages") or []
    found = _named(known, name)
    if found is None:
        names = [str(one["name"]) for one in known if isinstance(one, dict) and "name" in one]
        raise ConfigError(
            f"inserts stages before '{name}', which is not there{nearest(name, names)}", where=path
        )
    place = known.index(found)
    tree["stages"] = [*known[:place], *stages, *known[place:]]


def _drop(tree: dict[str, Any], name: str, path: Path) -> None:
    """Leave out a stage (``mdm``), a key of one (``results.maps``), or any key (``inputs.cmr``)."""
    parts = name.split(".")
    if parts[0] not in tree:
        parts.insert(0, "stages")
    node: Any = tree
    for part in parts[:-1]:
        node = _named(node, part)
    if isinstance(node, dict) and parts[-1] in node:  # its value may be null
        del node[parts[-1]]
        return
    found = _named(node, parts[-1])
    if found is None:
        inside = node if isinstance(node, list | dict) else ()
        known = [str(one.get("name") if isinstance(one, dict) else one) for one in inside]
        raise ConfigError(
            f"drops what is not there: '{name}'{nearest(parts[-1], known)}", where=path,
            expected=", ".join(known) or None, fix="correct the name, or take it out of drop",
        )  # fmt: skip
    node.remove(found)


def _named(node: Any, name: str) -> Any:
    """A key of a mapping, or the element of a list that is called so; None if there is none.

    ``finetune`` is the one stage that is written ``finetune-{task}``.
    """
    if isinstance(node, list):
        named = [(str(one["name"]), one) for one in node if isinstance(one, dict) and "name" in one]
        found = [one for own, one in named if own == name]
        meant = [one for own, one in named if stem(own) == name]
        return found[0] if found else meant[0] if len(meant) == 1 else None
    return node.get(name) if isinstance(node, dict) else None


BY_NAME = (
    "objectives", "start_from", "encoder", "weights", "vectors", "views", "finetuned"
)  # fmt: skip
"""Keys of a stage that map names to what stands for them; null takes a name out, or all."""


def write_out(stage: Any) -> None:
    """Take out what was set to null, and put the settings of objectives under ``settings``.

    Args:
        stage: As it stands in the file, changed in place; what is no mapping stays as it is.
    """
    if not isinstance(stage, dict):
        return
    # null is as good as no entry
    for key in BY_NAME:
        if isinstance(stage.get(key), dict):
            stage[key] = {name: one for name, one in stage[key].items() if one is not None}
    for key in (*BY_NAME, "frozen"):
        if key in stage and stage[key] is None:
            del stage[key]
    for label, folded in _folded(stage).items():
        stage["objectives"][label] = {"kind": label, "loss_weight": 1.0, **folded}
    exceptions = stage.get(EXCEPTIONS)
    for single in exceptions.values() if isinstance(exceptions, dict) else ():
        for label, folded in _folded(single).items():
            single["objectives"][label] = folded


def _folded(stage: Any) -> dict[str, dict[str, Any]]:
    """Fold objectives whose settings stand beside ``kind`` and ``loss_weight``."""
    given = stage.get("objectives") if isinstance(stage, dict) else None
    folded = {}
    for label, told in given.items() if isinstance(given, dict) else ():
        if isinstance(told, dict) and "settings" not in told:
            outer: dict[str, Any] = {k: told[k] for k in ("kind", "loss_weight") if k in told}
            folded[label] = {**outer, "settings": {k: v for k, v in told.items() if k not in outer}}
    return folded
