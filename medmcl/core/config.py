"""Configuration: YAML files checked by pydantic, with errors that name the field.

Every configurable thing is a frozen `Config`; an unknown key is an error that names its nearest
known neighbour. Dotted overrides (`medmcl.core.overrides`) are applied before checking.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args, overload

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.limits import refuse_large, refuse_odd_file

C = TypeVar("C", bound=BaseModel)
V = TypeVar("V")
_SHOWN = 40
"""Names listed in one message; a table may have thousands of columns."""


_SHOWN_BITS = 1024
"""Of any in a file of settings: longer ones cannot be shown."""


class Config(BaseModel):
    """Base of all settings: unknown keys, NaN and infinity refused, values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    exclusive: ClassVar[tuple[str, ...]] = ()
    """Keys of which one is given: an override that gives one takes the others out."""
    open_fields: ClassVar[Mapping[str, Callable[[], Iterable[type[BaseModel]]]]] = {}
    """Fields whose models packages outside may add to: what gives those that there are."""

    most_bits: ClassVar[int] = 63
    """Of a whole number: what arrays can hold."""

    @field_validator("*")
    @classmethod
    def _refuse_long_numbers(cls, value: Any) -> Any:
        if isinstance(value, int) and value.bit_length() > cls.most_bits:
            raise ValueError(f"a whole number below 2 to the power of {cls.most_bits} is expected")
        return value


def file_name(name: str) -> str:
    """Give a name that files may be called by; refuse another with a `ValueError`."""
    if not name or name.startswith(".") or set(name) & set("/\\\0") or len(name.encode()) > 200:
        raise ValueError("files are called by it: no / or \\, no . in front, at most 200 letters")
    return name


Probability = Annotated[float, Field(ge=0, le=1)]
"""Or a share: from 0 to 1."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Layers, blocks or steps that are built one by one: a million of them are built for hours."""
Pixels = Annotated[int, Field(ge=1, le=16_384)]
"""Of a side of a picture or volume."""
FileName = Annotated[str, AfterValidator(file_name)]
"""A name that files and folders are called by, too; never a path."""


class _Strict:
    """What both loaders do beyond safe YAML."""

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
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)  # type: ignore[misc]  # of the loader
        return found

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Read a value; one that looks like a day or a number and is none is told with its line."""
        try:
            value = super().construct_object(node, deep=deep)  # type: ignore[misc]  # of the loader
            if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
                raise ValueError(f"a number of {value.bit_length():,} bits")
            return value
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"a value cannot be read: {error}", node.start_mark
            ) from None


class Loader(_Strict, yaml.SafeLoader):
    """Safe YAML that reads ``1e-3`` as a number and refuses a key given twice.

    Only ``true`` and ``false`` are truth values, as in YAML 1.2: ``on`` is a key, ``no`` a class;
    and ``12:30`` is no number to the base of 60.
    """


class _Fast(_Strict, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # either is a loader
    """The same by libyaml where PyYAML was built with it; its faults are told in fewer words."""


def _read_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    text = str(loader.construct_scalar(node))
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text


_BASE_60 = re.compile(r"\s*\|[^|]*:\[0-5\][^|]*?(?=\)\$|\s*\|)")
"""The alternatives of PyYAML's patterns of numbers that take ``12:30`` for one."""

_SCIENTIFIC = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")

for _loader in (Loader, _Fast):
    _loader.yaml_implicit_resolvers = {
        letter: [
            (tag, re.compile(_BASE_60.sub("", pattern.pattern), re.VERBOSE))
            for tag, pattern in resolvers
            if tag != "tag:yaml.org,2002:bool"
        ]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _loader.yaml_constructors = {
        tag: read
        for tag, read in yaml.SafeLoader.yaml_constructors.items()
        if str(tag).rpartition(":")[2] not in ("pairs", "omap", "set", "binary")  # no settings
    }
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool",
        re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
        list("tTfF"),
    )
    _loader.add_constructor("!scientific", _read_float)
    _loader.add_implicit_resolver("!scientific", *_SCIENTIFIC)


class _Dumper(yaml.SafeDumper):
    """Quotes also text that `Loader` would read as a number (``12e4``) or fold at line ends."""


def _write_text(dumper: _Dumper, text: str) -> yaml.Node:
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
"""Ends of lines to YAML 1.1; between single quotes they become spaces."""
_Dumper.add_representer(str, _write_text)
_Dumper.add_implicit_resolver("!scientific", *_SCIENTIFIC)


def yaml_text(tree: Any, **options: Any) -> str:
    """Write plain values, keys in their order, so that `read_yaml` reads the same."""
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, **options))


_PER_BYTE = 64
"""Bytes of memory that a byte of YAML takes, about, while it is read."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; the error names file, line and column."""
    refuse_odd_file(path, ConfigError)
    try:
        refuse_large(path.stat().st_size * _PER_BYTE, path, "its text", error=ConfigError)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("there is no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=path) from None
    return parse_yaml(text, where=path)


def parse_yaml(text: str, where: object = "YAML") -> dict[str, Any]:
    """Parse YAML text into a mapping."""
    try:
        most, depth = _most_values(), 0
        # Before anything is built: libyaml takes hours over thousands of open brackets
        for sign in re.findall(r"[\[{\]}]", text):
            depth = max(0, depth + (1 if sign in "[{" else -1))
            if depth > 10 * DEEPEST:
                raise _too_much(where)
        if len(text) > 2 * most:  # a value has a sign beside it
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            values = (
                one for one in yaml.parse(text, Loader=loader) if isinstance(one, yaml.NodeEvent)
            )
            if next(islice(values, most, None), None) is not None:
                raise _too_much(where)
        value = _parsed(text)
    except yaml.YAMLError as error:
        raise _yaml_error(error, text, where) from None
    except RecursionError:
        raise _too_much(where) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            "must be a YAML mapping (key: value)", where=where, got=type(value).__name__
        )
    return cast(dict[str, Any], _apart(value, where))


_DOUBTFUL = re.compile("[\t\ufeff\ud800-\udfff]|[|>][-+0-9]*#")
"""What libyaml lets pass, or reads otherwise: tabs, marks of byte order, ``|#``."""


def _parsed(text: str) -> Any:
    """Read a text by libyaml; where it has a fault once more, for the fuller message."""
    if not _DOUBTFUL.search(text):
        with contextlib.suppress(yaml.YAMLError):
            return yaml.load(text, Loader=_Fast)
    return yaml.load(text, Loader=Loader)


MOST_VALUES = 200_000
"""Values of a YAML file, anchors written out; beyond, or nested deeper than `DEEPEST`, it is no
file of settings, but one that was made to fill the memory of whoever reads it."""
VALUES_VARIABLE = "MEDMCL_YAML_VALUES"
"""Environment variable that allows more values."""
DEEPEST = 100


def _most_values() -> int:
    given = os.environ.get(VALUES_VARIABLE) or str(MOST_VALUES)
    if not given.isdecimal() or not int(given):
        raise ConfigError(
            "is no bound on values", where=VALUES_VARIABLE, got=given, expected="a number above 0"
        )
    return int(given)


def _apart(value: Any, where: object) -> Any:
    """Copy what stands behind an anchor for each place that names it.

    YAML gives one object for all of them: what is set at one place would change the others.

    Raises:
        ConfigError: There is more than any file of settings holds.
    """
    left = _most_values()

    def copied(one: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise _too_much(where)
        if isinstance(one, dict):
            return {key: copied(part, depth + 1) for key, part in one.items()}
        return [copied(part, depth + 1) for part in one] if isinstance(one, list) else one

    return copied(value, 0)


def _too_much(where: object) -> ConfigError:
    return ConfigError(
        "holds more than a file of settings does, its anchors (&, *) written out",
        where=where,
        expected=f"at most {_most_values():,} values, at most {DEEPEST} within one another",
        fix="write out what the anchors stand for, or split the file; if it is sound, allow more: "
        f"{VALUES_VARIABLE}={4 * _most_values()} in the environment",
    )


_AROUND = 100
"""Characters of a line that are shown on each side of a fault."""


def _yaml_error(error: yaml.YAMLError, text: str, where: object) -> ConfigError:
    """Say what is wrong with a text that is no YAML, and where: line, column, the line itself."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return ConfigError(f"is not valid YAML: {error}", where=where)
    problem = getattr(error, "problem", None) or "cannot be understood"
    context, began = getattr(error, "context", None), getattr(error, "context_mark", None)
    if context is not None:
        start = "" if began is None or began.line == mark.line else f" from line {began.line + 1}"
        problem = f"{problem} ({context}{start})"
    lines = text.splitlines()
    fix = (
        "keys of one section begin in the same column, with spaces and no tabs; a text with ': ' "
        "or a sign such as { [ * & ` in front stands in quotes"
    )
    if "'`'" in problem:
        fix = 'put the whole text in quotes: "`a column` / 2"'
    elif "stands twice" in problem:
        fix = "keep one of the two"
    return ConfigError(
        f"is not valid YAML: {problem}",
        where=f"{where}, line {mark.line + 1}, column {mark.column + 1}",
        got=repr(lines[mark.line][max(0, mark.column - _AROUND) : mark.column + _AROUND])
        if mark.line < len(lines)
        else "the end of the file",
        fix=fix,
    )


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field: where it stands (names and numbers), and one line about it.

    ``got`` and ``expected`` are said in the line too; None where there is nothing to say.
    """

    path: tuple[str, ...]
    text: str
    what: str = ""
    got: str | None = None
    expected: str | None = None


def validated(
    model: type[C], values: Mapping[str, Any], under: str = ""
) -> tuple[C | None, list[Fault]]:
    """Give ``values`` as the model, or None and every fault of them, each field once.

    Args:
        model: What they should be.
        values: What was given.
        under: Dotted key that they stand under, ``towers.ecg``: what is said names whole keys.
    """
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        found = [_fault(model, one, values, under) for one in error.errors() if not _echo(one)]
        return None, list({fault.path: fault for fault in reversed(found)}.values())[::-1]


def faults_of(model: type[BaseModel], values: Mapping[str, Any], under: str = "") -> list[Fault]:
    """Give every fault of ``values``, each field once; see `validated`."""
    return validated(model, values, under)[1]


def _echo(detail: Any) -> bool:
    """Whether a list is called too short only because pydantic left faulty elements out of it."""
    given = detail.get("input")
    short = detail["type"] == "too_short" and isinstance(given, (list, tuple))
    return short and len(given) > detail["ctx"]["actual_length"]


def check(
    model: type[C],
    values: Mapping[str, Any],
    where: object,
    error: type[MedmclError],
    under: str = "",
) -> C:
    """Check ``values`` against ``model``; every fault in one error, each with its whole key.

    Args:
        model: What they should be.
        values: What was given.
        where: What the error says of the place.
        error: Its class.
        under: Dotted key that they stand under; see `faults_of`.
    """
    found, faults = validated(model, values, under)
    if found is not None:
        return found
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


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "tuple": "a list: [a, b]",
    "list": "a list: [a, b]",
    "dict": "a mapping: {{key: value}}",
    "model": "a mapping: {{key: value}}",
    "path": "a path",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""What the kinds of fault that pydantic tells apart ask for, by kind or by the start of it."""


def explain(model: type[BaseModel], detail: Any, values: Any) -> str:
    """Say in one line what pydantic holds against one field of ``values``."""
    return _fault(model, detail, values).text


def _fault(model: type[BaseModel], detail: Any, values: Any, under: str = "") -> Fault:
    path = place(values, detail)
    field = ".".join([under, *path] if under else path) or "(top level)"
    if detail["type"] == "extra_forbidden":
        known = _known_keys(model, [str(part) for part in detail["loc"][:-1]])
        what = f"unknown key '{field}'" + nearest(path[-1], known)
        return Fault(path, what, what)
    if detail["type"] == "missing":
        fields = [one for one in model.model_fields.values() if (one.alias,) == detail["loc"]]
        only = [value for one in fields for value in get_args(one.annotation)]  # of `schema`
        what = f"'{field}' is missing" + (f": write `{field}: {only[0]}`" if len(only) == 1 else "")
        return Fault(path, what, what)
    if detail["type"] == "invalid_key":
        what = _no_word(".".join([under, *path[:-1]] if under else path[:-1]), detail["input"],
                        _known_keys(model, [str(part) for part in detail["loc"][:-1]]))  # fmt: skip
        return Fault(path, what, what)
    given, choices = detail.get("input"), detail.get("ctx", {}).get("expected", "")
    if detail["type"].startswith("union_tag"):  # a mapping of one kind of several
        key = str(detail["ctx"]["discriminator"]).strip("'")
        field = f"{field}.{key}"
        if detail["type"] == "union_tag_not_found":
            near = closest(key, map(str, given)) if isinstance(given, Mapping) else None
            what = f"'{field}' is missing"
            if near is not None:
                what = f"unknown key '{'.'.join((*path, near))}'; did you mean '{key}'?"
            return Fault(path, what, what)
        given, choices = detail["ctx"]["tag"], detail["ctx"]["expected_tags"]
    got = None if isinstance(given, (dict, list)) else repr(given)
    shown = "" if got is None else f" (got {got})"
    expected = _expected(detail)
    if expected is None:
        said = str(detail["msg"]).removeprefix("Value error, ")
        if said.startswith("unknown key '"):  # of a check of our own, which knows no more of where
            what = said.replace("'", f"'{field}.", 1)
            return Fault(path, what, what)
        what = f"'{field}': {said}"
        return Fault(path, what + shown, what, got)
    hint = ""
    if detail["type"] in ("literal_error", "union_tag_invalid") and isinstance(given, str):
        near = closest(given, re.findall(r"'([^']*)'", str(choices)))
        hint = f"; did you mean '{near}'?" if near is not None else ""
    what = f"'{field}' cannot be used{hint}"
    return Fault(path, f"'{field}' must be {expected}{shown}{hint}", what, got, expected)


def _no_word(section: str, key: Any, known: Iterable[str]) -> str:
    """Say that a key is no text: YAML 1.1, which other tools write, takes ``on`` for true."""
    said = f"'{section or '(top level)'}': the key {str(key).lower()} must be text"
    meant = [one for one in known if one in _YAML_1_1.get(key, ())] if isinstance(key, bool) else []
    if not meant:
        return f'{said}: write "{str(key).lower()}" in quotes'
    return (
        f'{said}: other tools read {meant[0]} as {str(key).lower()}; write "{meant[0]}" in quotes'
    )


_YAML_1_1 = {True: ("on", "yes", "y"), False: ("off", "no", "n")}


def _expected(detail: Any) -> str | None:
    """Say in plain words what a field takes; None where pydantic's own message says it."""
    kind = detail["type"]
    form = _EXPECTED.get(kind)
    if kind.endswith(("_type", "_parsing", "_from_float")):
        form = _EXPECTED.get(kind.partition("_")[0])
    return None if form is None else form.format(**detail.get("ctx", {}))


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields at ``path`` below ``model``, as far as annotations tell."""
    models = union = [model]
    for part in path:
        holders = [one for one in models if part in one.model_fields]
        if holders:
            models = union = [inner for one in holders for inner in _models_below(one, part)]
        else:  # a tag, or a key that may be called like one: the tag comes last
            models = [one for one in union if _has_tag(one, part)] or models
    named = {field.alias or name for one in models for name, field in one.model_fields.items()}
    return sorted(named)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Whether a model is the one of a union that pydantic calls ``tag``."""
    literals = [field.annotation for field in model.model_fields.values()]
    return model.__name__ == tag or any(get_args(one) == (tag,) for one in literals)


def _models_below(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    """Models that a field of a model may hold."""
    if issubclass(model, Config) and field in model.open_fields:
        return [*model.open_fields[field]()]
    return _models_in(model.model_fields[field].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def closest(name: str, known: Iterable[str]) -> str | None:
    """Give the name in ``known`` that is most like ``name``, capitals aside; None if none is."""
    names = {one.lower(): one for one in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


ONE_FILE = "{!r} and {!r} would be one file on disks that take capitals for small letters"


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are one file on some disks: only capitals, or forms of letters, differ."""
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            return first, name
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """Give ``"; did you mean 'x'?"`` and the list of what is known, or an empty string."""
    names = sorted(known)
    if not names:
        return ""
    near = closest(name, names)
    hint = f"; did you mean '{near}'?" if near is not None else ""
    more = f", … and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{hint} (known: {', '.join(names[:_SHOWN])}{more})"


@overload
def lookup(  # type: ignore[overload-overlap]  # a map is one of names, too: the first holds
    kind: str, name: str, known: Mapping[str, V], where: object = None, fix: str | None = None
) -> V: ...


@overload
def lookup(
    kind: str, name: str, known: Iterable[str], where: object = None, fix: str | None = None
) -> str: ...


def lookup(
    kind: str,
    name: str,
    known: Mapping[str, Any] | Iterable[str],
    where: object = None,
    fix: str | None = None,
) -> Any:
    """Look ``name`` up in a map, or among names, which give it back.

    Raises:
        ConfigError: Lists what is known and the nearest match.
    """
    known = known if isinstance(known, Mapping) else dict.fromkeys(known, name)
    refuse_absent(name, known, f"unknown {kind} '{name}'", where=where, fix=fix)
    return known[name]


def refuse_absent(
    name: str, known: Iterable[str], what: str, *, none: str | None = None, **more: Any
) -> None:
    """Refuse a name that is none of the known ones.

    Args:
        name: The name.
        known: The known ones.
        what: Says so, with the name; the nearest match and what is known follow it.
        none: What is expected where nothing is known.
        **more: Other parts of the error: ``where``, ``got``, ``fix``.

    Raises:
        ConfigError: It is none of them.
    """
    names = known if isinstance(known, Collection) else list(known)  # maps find it themselves
    if name not in names:
        expected = None if len(names) else none
        raise ConfigError(f"{what}{nearest(name, names)}", expected=expected, **more)


def refuse_unknown(names: Iterable[str], known: Iterable[str], where: object, what: str) -> None:
    """Refuse names that are none of the known ones; ``what`` begins the sentence.

    Raises:
        ConfigError: Names the first, and the nearest match.
    """
    fix = "correct the name, or leave it out"
    for name in names:
        refuse_absent(name, known, f"{what} '{name}'", where=where, fix=fix)


def fingerprint(value: Any) -> str:
    """Give a short hash of plain values, independent of the order of keys."""
    try:
        text = json.dumps(value, sort_keys=True, default=str)
    except TypeError:  # keys of several types, {0: no, unknown: none}, have no order
        text = json.dumps(_with_text_keys(value), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(one) for key, one in value.items()}
    return [_with_text_keys(one) for one in value] if isinstance(value, (list, tuple)) else value
