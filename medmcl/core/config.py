"""Configuration: YAML files checked by pydantic, with errors that name the field.

Every configurable thing is a frozen `Config`; an unknown key is an error that names its nearest
known neighbour. Dotted overrides (``--set optimiser.lr=1e-3``) are applied before checking.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from medmcl.core.errors import ConfigError, MedmclError

C = TypeVar("C", bound=BaseModel)
V = TypeVar("V")


class Config(BaseModel):
    """Base of all settings: unknown keys refused, values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number and refuses a key given twice.

    Only ``true`` and ``false`` are truth values, as in YAML 1.2: ``on`` is a key, ``no`` a class.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _read_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    text = str(loader.construct_scalar(node))
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_constructor("!scientific", _read_float)
_Loader.add_implicit_resolver(
    "!scientific",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; the error names file, line and column."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=path) from None
    return parse_yaml(text, where=path)


def parse_yaml(text: str, where: object = "YAML") -> dict[str, Any]:
    """Parse YAML text into a mapping."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"is not valid YAML: {error}", where=where) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            "must be a YAML mapping (key: value)", where=where, got=type(value).__name__
        )
    return value


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``a.b=c`` strings into ``{"a.b": value}``, the value read as YAML."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError("an override must look like a.b=c", got=pair)
        try:
            overrides[key.strip()] = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            overrides[key.strip()] = text
    return overrides


def apply_override(tree: Any, dotted: str, value: Any) -> None:
    """Set ``tree[a][b] = value`` in place; list elements by number or by their ``name``."""
    *parents, last = dotted.split(".")
    node = tree
    for part in parents:
        node = _child(node, part, dotted)
    if isinstance(node, list):
        node[_position(node, last, dotted)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError("an override runs through a plain value", where=dotted, got=node)


def _child(node: Any, part: str, dotted: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, dotted)]
    if isinstance(node, dict):
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        return child
    raise ConfigError("an override runs through a plain value", where=dotted, got=node)


def _position(items: list[Any], part: str, dotted: str) -> int:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    if part in names:
        return names.index(part)
    if part.lstrip("-").isdigit() and -len(items) <= int(part) < len(items):
        return int(part)
    known = [name for name in names if name] or [f"0 … {len(items) - 1}"]
    raise ConfigError(
        f"no element '{part}' in the list", where=dotted, expected=", ".join(map(str, known))
    )


def check(model: type[C], values: Mapping[str, Any], where: object, error: type[MedmclError]) -> C:
    """Check ``values`` against ``model``; every fault in one error, each with its field's path."""
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        lines = [explain(model, detail) for detail in fault.errors()]
    what = "is not valid:\n" + "\n".join(f"  - {line}" for line in lines)
    raise error(what, where=where)


def explain(model: type[BaseModel], detail: Any) -> str:
    """Say in one line what pydantic holds against one field."""
    path = [str(part) for part in detail["loc"]]
    field = ".".join(path) or "(top level)"
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{field}'" + nearest(path[-1], _known_keys(model, path[:-1]))
    if detail["type"] == "missing":
        return f"'{field}' is missing"
    got = detail.get("input")
    shown = "" if isinstance(got, (dict, list)) else f" (got {got!r})"
    return f"'{field}': {detail['msg'].removeprefix('Value error, ')}{shown}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields at ``path`` below ``model``, as far as annotations tell."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = _model_in(field.annotation) if field else current
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [field.alias or name for name, field in current.model_fields.items()]
    return []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [_model_in(part) for part in getattr(annotation, "__args__", ())]
    return next((model for model in found if model is not None), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Give ``"; did you mean 'x'?"`` and the list of what is known, or an empty string."""
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{hint} (known: {', '.join(names)})"


def lookup(kind: str, name: str, known: Mapping[str, V]) -> V:
    """Look ``name`` up in a literal map; failure lists what is known and the nearest match."""
    if name in known:
        return known[name]
    raise ConfigError(f"unknown {kind} '{name}'{nearest(name, known)}")


def fingerprint(value: Any) -> str:
    """Give a short hash of plain values, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
