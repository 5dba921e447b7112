"""``medmcl parts``: what a cohort or recipe can name, of medmcl and of packages outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medmcl.core.config import Config, nearest
from medmcl.core.errors import ConfigError
from medmcl.core.key_help import help_of
from medmcl.core.lazy import Parts
from medmcl.core.overrides import typed
from medmcl.encoders.build import ENCODERS
from medmcl.evaluation.aspects.aspect import ASPECTS
from medmcl.evaluation.models import MODELS
from medmcl.modalities import ADAPTERS, readers
from medmcl.objectives.build import OBJECTIVES
from medmcl.selection.build import SCORERS, SELECTORS
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


def list_of_parts() -> str:
    """Write every part with whose it is where it is not medmcl's.

    Raises:
        ConfigError: A package outside gives a part that cannot be used.
    """
    lines = []
    for kind, parts in PARTS.items():
        lines.append(f"{kind} (packages add some by the entry points '{parts.group}')")
        for name in parts:
            outside = parts.outside.get(name)
            about = "" if outside is None else f"  of the package {parts.package(name)}"
            lines.append(f"  {name:20s}{about}".rstrip())
            if outside is not None:
                parts[name]  # one that cannot be imported is told here
    return "\n".join([*lines, "one of them, with what can be set: medmcl parts NAME"])


def one_part(name: str) -> str:
    """Write what one part is and what can be set of it.

    Raises:
        ConfigError: There is no such part.
    """
    found = [kind for kind, parts in PARTS.items() if name in parts]
    if not found:
        known = dict.fromkeys(one for parts in PARTS.values() for one in parts)
        raise ConfigError(
            f"there is no part '{name}'{nearest(name, known)}", fix="`medmcl parts` lists them"
        )
    return "\n\n".join("\n".join(_lines(kind, name)) for kind in found)


def _lines(kind: str, name: str) -> Iterator[str]:
    parts = PARTS[kind]
    yield f"{kind}: {name} ({parts.package(name)})"
    if kind == "modalities":
        yield f"  readers: {', '.join(r for r, kinds in readers().items() if name in kinds)}"
    if kind == "models":
        model = parts[name]
        yield f"  {(model.fit.__doc__ or '').splitlines()[0]}"
        yield f"  for tasks of kind: {', '.join(model.kinds) or 'any'}; probe: {{protocol: {name}}}"
        return
    model = parts.settings[name]
    by_itself = model is None or kind == "modalities"  # an aspect may take no settings
    said = parts[name] if by_itself else model
    yield f"  {(said.__doc__ or '').splitlines()[0]}"
    if kind != "modalities":
        yield from () if model is None else _keys(model)
        return
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
        default = "needed" if one.needed else f"default {typed(one.default)}"
        yield f"  {one.name}  ({one.takes}; {default})"
        if one.about:
            yield f"      {one.about}"
