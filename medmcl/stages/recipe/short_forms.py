"""Short forms of a stage in a recipe file, written out before the stage is checked."""

from __future__ import annotations

from typing import Any

from medmcl.stages.recipe.stage_names import EXCEPTIONS

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
    for label, given in _objectives(stage):
        usual = {"kind": label, "loss_weight": 1.0}
        stage["objectives"][label] = {**usual, **_folded(given)}
    exceptions = stage.get(EXCEPTIONS)
    for single in exceptions.values() if isinstance(exceptions, dict) else ():
        for label, given in _objectives(single):
            single["objectives"][label] = _folded(given)


def _objectives(stage: Any) -> list[tuple[str, dict[str, Any]]]:
    """Give the objectives of a stage whose settings stand beside ``kind`` and ``loss_weight``."""
    given = stage.get("objectives") if isinstance(stage, dict) else None
    found = given.items() if isinstance(given, dict) else ()
    return [(n, one) for n, one in found if isinstance(one, dict) and "settings" not in one]


def _folded(given: dict[str, Any]) -> dict[str, Any]:
    outer: dict[str, Any] = {k: given[k] for k in ("kind", "loss_weight") if k in given}
    return {**outer, "settings": {key: one for key, one in given.items() if key not in outer}}
