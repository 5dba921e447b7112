"""What the keys of a `Config` take and mean, read from its fields and the lines below them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medmcl.core.overrides import typed


@dataclass(frozen=True)
class KeyHelp:
    """One key.

    Attributes:
        name: As it is written in a file.
        takes: What values it takes.
        needed: Whether it has no default.
        default: Its default, as plain values; None where it is needed.
        about: One sentence, or empty.
    """

    name: str
    takes: str
    needed: bool
    default: Any
    about: str


def help_of(model: type[BaseModel]) -> list[KeyHelp]:
    """Give the keys of a model in the order of its fields; not those that take one value alone."""
    said = texts_of(model)
    found = []
    for name, field in model.model_fields.items():
        if _is_settled(field):
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found.append(
            KeyHelp(
                name=field.alias or name,
                takes=_takes(field.annotation, field.metadata),
                needed=field.is_required(),
                default=default.model_dump(mode="json") if isinstance(default, BaseModel)
                else default,
                about=_SENTENCE.split(said[name])[0].rstrip("."),
            )
        )  # fmt: skip
    return found


def _is_settled(field: FieldInfo) -> bool:
    """Whether a key takes nothing but its default."""
    bounds = {name: one for limit in field.metadata for name, one in _limits(limit)}
    return not field.is_required() and (
        field.annotation is NoneType
        or (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
        or bounds.get("max_length") == 0
        or ("ge" in bounds and bounds["ge"] == bounds.get("le"))
    )


def _limits(limit: object) -> Iterator[tuple[str, Any]]:
    for name in ("max_length", "ge", "le"):
        if (bound := getattr(limit, name, None)) is not None:
            yield name, bound


def key_lines(key: str, one: KeyHelp, values: Mapping[str, Any]) -> Iterator[str]:
    """Write a key as people look at it: what it is now, what it takes, its default, what it means.

    Args:
        key: As it is set, dotted.
        one: What is known of it.
        values: What is set now, by name.
    """
    default = "needed" if one.needed else f"default {typed(one.default)}"
    now = values.get(one.name, one.default)
    changed = "" if one.needed and one.name not in values else f" = {typed(now)}"
    same = not one.needed and now == one.default
    yield f"  {key}{'' if same else changed}  ({one.takes}; {default})"
    if one.about:
        yield f"      {one.about}"


def texts_of(model: type[BaseModel]) -> dict[str, str]:
    """Give what is said of each field: its description, or what stands below it in the source."""
    found = dict.fromkeys(model.model_fields, "")
    for one in reversed(model.__mro__):
        if not (issubclass(one, BaseModel) and one is not BaseModel):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        except OSError:  # made of the keys of parts: its fields say themselves what they are
            continue
        assert isinstance(tree, ast.ClassDef)  # the source of a class
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            text = below.value if isinstance(below, ast.Expr) else None
            target = field.target if isinstance(field, ast.AnnAssign) else None
            if not (isinstance(target, ast.Name) and isinstance(text, ast.Constant)):
                continue
            if isinstance(text.value, str):
                found[target.id] = " ".join(text.value.split())
    described = {name: one.description for name, one in model.model_fields.items()}
    return {**found, **{name: text for name, text in described.items() if text}}


_SENTENCE = re.compile(r"(?<!et al)\. ")
_PLAIN: Mapping[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text"
}  # fmt: skip
_MANY: Mapping[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _takes(annotation: Any, metadata: Any = ()) -> str:
    """Say in words what an annotation takes."""
    bounds = [
        f"{word} {getattr(one, key):g}"
        for one in metadata
        for key, word in _BOUNDS.items()
        if isinstance(getattr(one, key, None), (int, float))
    ]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        text = " | ".join(map(str, parts))
    elif origin in (Union, UnionType):
        text = " or ".join(dict.fromkeys(_takes(p) if p is not NoneType else "null" for p in parts))
    elif origin in (tuple, list):
        text = f"a list of {_MANY.get(parts[0], _takes(parts[0]))}" if parts else "a list"
    elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        text = "a mapping"
    elif hasattr(annotation, "__metadata__"):  # Annotated
        text = _takes(parts[0], annotation.__metadata__)
    else:
        text = _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())
    null = " or null"
    head = text.removesuffix(null)
    return " ".join([head, *bounds]) + text[len(head) :]
