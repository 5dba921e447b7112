"""``medmcl parts``: what there is of each kind, or one with what can be set of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from medmcl.core.config import Config, nearest
from medmcl.core.errors import ConfigError
from medmcl.core.key_help import help_of, key_lines
from medmcl.core.lazy import Parts
from medmcl.encoders.build import ENCODERS
from medmcl.evaluation.aspects.aspect import ASPECTS
from medmcl.evaluation.models import MODELS
from medmcl.modalities import ADAPTERS, readers
from medmcl.objectives.build import OBJECTIVES
from medmcl.selection.settings import SCORERS, SELECTORS
from medmcl.stages.stage import STAGES

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

    A reader, as a `cohort.yaml` writes it, stands for the modalities that it reads.

    Raises:
        ConfigError: There is no such part.
    """
    if name in PARTS:
        return list_of_parts(name)
    found = [kind for kind, parts in PARTS.items() if name in parts]
    if not found and name in readers():
        return "\n\n".join(one_part(kind) for kind in readers()[name])
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
        yield from key_lines(one.name, one, {})
