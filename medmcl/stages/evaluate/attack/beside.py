"""Models of other runs that are asked about the same attack: several cures of one victim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.stages.evaluate.attack.backdoor_eval import Asked, attack_of
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.given import load_attack
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]


def asked_beside(
    own: Asked, others: Mapping[str, Run], device: torch.device, notes: list[str]
) -> dict[str, Asked]:
    """Give, by name of the run, models of other runs that were trained under the same manifest.

    They are asked as the first run asks, and called ``MODEL of RUN``. Models that are those of the
    first run, weight by weight, are not asked again. Runs that cannot be set beside are left out,
    with a note.
    """
    if not others:
        return {}
    found = {}
    wanted = load_attack(own.run, own.poison).fingerprint
    known = [_weights(own.run, stage) for stage in own.spec.models.values()]
    for name, other in others.items():
        one = _beside(own, name, other, wanted, known, device, notes)
        if isinstance(one, str):
            notes.append(f"attack on {name} left out: {one}")
        else:
            found[name] = one
    return found


def _beside(
    own: Asked,
    name: str,
    other: Run,
    wanted: str,
    known: Sequence[Weights],
    device: torch.device,
    notes: list[str],
) -> Asked | str:
    """Ask a run, or say why it cannot be set beside.

    ``wanted`` and ``known``: fingerprint of the manifest, and weights of the first run's models.
    """
    try:
        attack = _same_attack(wanted, other)
    except ArtefactError as error:
        return str(error.args[0].splitlines()[0])
    if attack is None:
        return f"no stage of {other.path} poisons the same records"
    # what another run asks about this attack itself; else stages that are called as here
    given = [one.asked.get("attack") for one in other.of(EvaluateSpec).values()]
    specs = [one for one in given if one is not None and attack_of(other, one).name == attack.name]
    models = (specs[-1] if specs else own.spec).models
    models = {label: stage for label, stage in models.items() if stage in other.stages}
    if not models:
        return f"none of its stages ({', '.join(other.stages)}) is one that is asked here"
    new = {f"{label} of {name}": stage for label, stage in models.items()
           if not _is_one_of(known, _weights(other, stage))}  # fmt: skip
    if not new:
        return "its models are those of this run"
    spec = own.spec.model_copy(update={"attack": attack.name, "models": new})
    inputs = [one for one in other.recipe.inputs if one in own.prepared.cohort.spec.modalities]
    prepared = other.prepare(own.prepared.cohort, tuple(inputs))
    asked = Asked.of(spec, other, prepared, device, notes)
    if not np.array_equal(asked.rows, own.rows):
        return (
            f"it reads other held-out records ({len(asked.rows):,}, this run {len(own.rows):,}), "
            "and a paired difference needs the same"
        )
    return asked


def _same_attack(wanted: str, other: Run) -> PoisonSpec | None:
    """The poison stage whose manifest has this fingerprint."""
    for spec in other.of(PoisonSpec).values():
        if load_attack(other, spec).fingerprint == wanted:
            return spec
    return None


def _weights(run: Run, stage: str) -> Weights:
    return run.checkpoints(stage).weights(run.stage(stage).keep)


def _is_one_of(known: Sequence[Weights], weights: Weights) -> bool:
    """Whether a model is among others, weight by weight."""
    import torch

    return any(
        one.keys() == weights.keys()
        and all(torch.equal(value, weights[key]) for key, value in one.items())
        for one in known
    )
