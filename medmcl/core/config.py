"""Configuration: YAML files checked by pydantic, with errors that name the field.

Every configurable thing is a frozen `Config`; an unknown key is an error that names its nearest
known neighbour. Dotted overrides (`medmcl.core.overrides`) are applied before checking.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from medmcl.core.errors import ConfigError, MedmclError

C = TypeVar("C", bound=BaseModel)
V = TypeVar("V")
_SHOWN = 40
"""Names listed in one message; a table may have thousands of columns."""


class Config(BaseModel):
    """Base of all settings: unknown keys refused, values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Loader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number and refuses a key given twice.

    Only ``true`` and ``false`` are truth values, as in YAML 1.2: ``on`` is a key, ``no`` a class.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping whose keys are all different."""
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


Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
Loader.add_constructor("!scientific", _read_float)
Loader.add_implicit_resolver(
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
        value = yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"is not valid YAML: {error}", where=where) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            "must be a YAML mapping (key: value)", where=where, got=type(value).__name__
        )
    return value


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field: where it stands (names and numbers), and one line about it."""

    path: tuple[str, ...]
    text: str


def faults_of(model: type[BaseModel], values: Mapping[str, Any]) -> list[Fault]:
    """Give every fault of ``values``, each field once."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        found = [Fault(place(values, one), explain(model, one, values)) for one in error.errors()]
        return list({fault.path: fault for fault in reversed(found)}.values())[::-1]
    return []


def check(model: type[C], values: Mapping[str, Any], where: object, error: type[MedmclError]) -> C:
    """Check ``values`` against ``model``; every fault in one error, each with its field's path."""
    faults = faults_of(model, values)
    if not faults:
        return model.model_validate(values)
    what = "is not valid:\n" + "\n".join(f"  - {fault.text}" for fault in faults)
    raise error(what, where=where)


def place(values: Any, detail: Any) -> tuple[str, ...]:
    """Give the path of a field in ``values``, without the tags that pydantic adds for unions."""
    whole = detail["type"] in ("missing", "extra_forbidden")
    found: list[str] = []
    node, last = values, len(detail["loc"]) - 1
    for number, part in enumerate(detail["loc"]):
        try:
            node = node[part]
        except (LookupError, TypeError):
            if not (whole and number == last):
                continue
        found.append(str(part))
    return tuple(found)


def explain(model: type[BaseModel], detail: Any, values: Any) -> str:
    """Say in one line what pydantic holds against one field of ``values``."""
    path = place(values, detail)
    field = ".".join(path) or "(top level)"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, [str(part) for part in detail["loc"][:-1]])
        return f"unknown key '{field}'" + nearest(path[-1], known)
    if detail["type"] == "missing":
        return f"'{field}' is missing"
    got = detail.get("input")
    shown = "" if isinstance(got, (dict, list)) else f" (got {got!r})"
    hint = ""
    if detail["type"] == "literal_error" and isinstance(got, str):
        near = closest(got, re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
        hint = f"; did you mean '{near}'?" if near is not None else ""
    return f"'{field}': {detail['msg'].removeprefix('Value error, ')}{shown}{hint}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields at ``path`` below ``model``, as far as annotations tell."""
    models = [model]
    for part in path:
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        if fields:
            models = [inner for field in fields for inner in _models_in(field.annotation)]
        else:
            models = [one for one in models if _has_tag(one, part)] or models
    named = {field.alias or name for one in models for name, field in one.model_fields.items()}
    return sorted(named)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Whether a model is the one of a union that pydantic calls ``tag``."""
    literals = [field.annotation for field in model.model_fields.values()]
    return model.__name__ == tag or any(get_args(one) == (tag,) for one in literals)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def closest(name: str, known: Iterable[str]) -> str | None:
    """Give the name in ``known`` that is most like ``name``, capitals aside; None if none is."""
    names = {one.lower(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Give ``"; did you mean 'x'?"`` and the list of what is known, or an empty string."""
    names = sorted(known)
    if not names:
        return ""
    near = closest(name, names)
    hint = f"; did you mean '{near}'?" if near is not None else ""
    more = f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{hint} (known: {', '.join(names[:_SHOWN])}{more})"


def lookup(kind: str, name: str, known: Mapping[str, V]) -> V:
    """Look ``name`` up in a literal map; failure lists what is known and the nearest match."""
    if name in known:
        return known[name]
    raise ConfigError(f"unknown {kind} '{name}'{nearest(name, known)}")


def fingerprint(value: Any) -> str:
    """Give a short hash of plain values, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
