"""Models of other runs that are asked about the same attack: several cures of one victim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medmcl.stages.asked_models import Asked
from medmcl.stages.evaluate_spec import EvaluateSpec
from medmcl.stages.poison_spec import AttackSpec, PoisonSpec
from medmcl.stages.run import Run
from medmcl.stages.run_attack import load_attack

if TYPE_CHECKING:
    import torch


def asked_beside(
    own: Asked, others: Mapping[str, Run], device: torch.device, notes: list[str]
) -> list[Asked]:
    """Ask the models of other runs that were trained under the same manifest, by name of the run.

    Models that are those of the first run, weight by weight, are not asked again. Runs that cannot
    be set beside are left out, with a note.
    """
    found = []
    for name, other in others.items():
        attack = _same_attack(own, other)
        if attack is None:
            notes.append(
                f"attack on {name} left out: no stage of {other.path} poisons the same records"
            )
            continue
        models = {
            label: stage
            for label, stage in _models(own, other).items()
            if not _is_known(own, other, stage)
        }
        if not models:
            notes.append(f"attack on {name} left out: its models are those of this run")
            continue
        labels = {f"{label} of {name}": stage for label, stage in models.items()}
        spec = own.spec.model_copy(update={"attack": attack.name, "models": labels})
        inputs = [one for one in other.recipe.inputs if one in own.prepared.cohort.spec.modalities]
        prepared = other.prepare(own.prepared.cohort, tuple(inputs))
        one = Asked.of(spec, other, prepared, device, notes)
        if not np.array_equal(one.rows, own.rows):
            notes.append(
                f"attack on {name} left out: it reads other held-out records "
                f"({len(one.rows):,}, this run {len(own.rows):,})"
            )
            continue
        found.append(one)
    return found


def _same_attack(own: Asked, other: Run) -> PoisonSpec | None:
    """The poison stage whose manifest is that of the attack."""
    wanted = load_attack(own.run, own.poison).fingerprint
    for spec in other.attacks.values():
        if load_attack(other, spec).fingerprint == wanted:
            return spec
    return None


def _models(own: Asked, other: Run) -> dict[str, str]:
    """What another run asks about its attack itself; else stages that are called as here."""
    given = [one.attack for one in other.recipe.stages if isinstance(one, EvaluateSpec)]
    specs = [one for one in given if isinstance(one, AttackSpec)]
    models = (specs[-1] if specs else own.spec).models
    return {label: stage for label, stage in models.items() if stage in other.stages}


def _is_known(own: Asked, other: Run, stage: str) -> bool:
    """Whether a model of the first run has the weights of this one."""
    import torch

    theirs = other.checkpoints(stage).weights(other.stage(stage).keep)
    for mine in own.spec.models.values():
        ours = own.run.checkpoints(mine).weights(own.run.stage(mine).keep)
        if ours.keys() == theirs.keys() and all(
            torch.equal(value, theirs[key]) for key, value in ours.items()
        ):
            return True
    return False
