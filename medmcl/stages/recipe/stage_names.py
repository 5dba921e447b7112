"""Names of stages in overrides: one stage, those that one is written for, or one of these.

``stages.finetune.epochs=3`` means the stage that is written ``finetune-{task}-{label_fraction}``,
so every one that comes of it; ``stages.finetune-af-0.1.epochs=3`` means that one alone. Names may
hold dots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from medmcl.core.config import nearest
from medmcl.core.errors import OverrideError
from medmcl.core.overrides import laid

EXCEPTIONS = "exceptions"
"""Key of a stage with ``for_each``: what single ones of the stages that it becomes say besides."""
_VARIABLE = re.compile(r"\{(\w+)\}")


def stage_path(stages: Sequence[Any], dotted: str, where: object) -> tuple[str, ...]:
    """Give the keys below ``stages`` that an override sets.

    Args:
        stages: The stages as they stand in the recipe.
        dotted: What follows ``stages.`` in the override.
        where: What messages call the override.

    Raises:
        OverrideError: No stage is called so; names the nearest, and all.
    """
    named = {str(one["name"]): one for one in stages if isinstance(one, Mapping) and "name" in one}
    for name in sorted(named, key=len, reverse=True):
        if f"{dotted}.".startswith(f"{name}."):
            return (name, *_rest(dotted, name))
    first, *rest = dotted.split(".")
    if first.lstrip("-").isdigit() and -len(stages) <= int(first) < len(stages):
        return (first, *rest)
    single = [
        (name, found[0].removesuffix("."))
        for name, one in named.items()
        if (found := _written_as(name, one).match(f"{dotted}.")) is not None
    ]
    if len(single) == 1:
        name, one = single[0]
        return (name, EXCEPTIONS, one, *_rest(dotted, one))
    stems: dict[str, list[str]] = {}
    for name in named:
        stems.setdefault(stem(name), []).append(name)
    meant = stems.get(first, [])
    if len(meant) == 1:
        return (meant[0], *rest)
    from medmcl.stages.train.spec import TrainSpec

    keys = (number for number, key in enumerate(rest, 1) if key in TrainSpec.model_fields)
    called = ".".join([first, *rest][: next(keys, 1)])
    what = f"there is no stage '{called}'{nearest(called, {*named, *stems})}"
    if meant:
        what = f"'{first}' may be any of the stages {', '.join(meant)}"
    short = [f"'{stem}' for all of {names[0]}" for stem, names in stems.items()
             if len(names) == 1 and names[0] != stem]  # fmt: skip
    fix = "; ".join(["correct the name, or give the number of the stage, from 0", *short])
    raise OverrideError(what, where=where, fix=fix)


def with_exceptions(stage: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what one single stage says over what all of a ``for_each`` say; of exclusive keys, its.

    Args:
        stage: The stage as written, a plain mapping.
        own: Its entry under `EXCEPTIONS`.
    """
    from medmcl.stages.train.spec import TrainSpec

    said = {key for key in TrainSpec.exclusive if own.get(key) is not None}
    dropped = {*TrainSpec.exclusive} - said if said else set()
    base = {key: value for key, value in stage.items() if key not in {EXCEPTIONS, *dropped}}
    found: dict[str, Any] = laid(base, own)
    return found


def _rest(dotted: str, name: str) -> list[str]:
    left = dotted[len(name) + 1 :]
    return left.split(".") if left else []


def stem(name: str) -> str:
    """Give what stands before the first variable of a name."""
    return name.partition("{")[0].rstrip("-_. ")


def _written_as(name: str, stage: Mapping[str, Any]) -> re.Pattern[str]:
    """Give a pattern of the names that a stage with ``for_each`` takes, with a dot behind."""
    values = stage.get("for_each")
    values = values if isinstance(values, Mapping) else {}

    def one_of(variable: str) -> str:
        known = values.get(variable)
        if isinstance(known, (list, tuple)) and known:
            return "|".join(re.escape(str(one)) for one in known)
        return r"[^.]+?"

    parts = _VARIABLE.split(name)  # text and variables take turns
    if len(parts) == 1:
        return re.compile(r"(?!)")
    both = zip(parts[::2], [*(f"(?:{one_of(v)})" for v in parts[1::2]), ""], strict=True)
    return re.compile("".join(re.escape(text) + variable for text, variable in both) + r"\.")
