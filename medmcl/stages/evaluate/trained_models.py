"""What an evaluate stage can score of a run that did without some of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.run import Run

_BY_NAME = ("probe", "paired_choice", "attack")
"""Parts of an evaluate stage that score several stages, each under a name."""
_OF_ONE = ("retrieval", "zero_shot", "maps", "experts")
"""Parts that score one stage."""


def what_was_trained(spec: EvaluateSpec, run: Run, notes: list[str]) -> EvaluateSpec:
    """Leave out what would score stages that the run left out; each is said in ``notes``."""
    changes: dict[str, Any] = {}
    for part in _BY_NAME:
        given = getattr(spec, part)
        if given is not None:
            models = _there(given.models, run, notes)
            changes[part] = given.model_copy(update={"models": models}) if models else None
    for part in _OF_ONE:
        given = getattr(spec, part)
        reason = "" if given is None else run.left_out(given.stage)
        if reason:
            notes.append(f"{part} left out: stage {given.stage} was not trained ({reason})")
            changes[part] = None
    return spec.model_copy(update=changes)


def _there(models: Mapping[str, str], run: Run, notes: list[str]) -> dict[str, str]:
    """Give the models whose stages are there."""
    found = {}
    for label, stage in models.items():
        reason = run.left_out(stage)
        if reason:
            said = f"{label} left out: stage {stage} was not trained ({reason})"
            notes += [said] if said not in notes else []
        else:
            found[label] = stage
    return found
