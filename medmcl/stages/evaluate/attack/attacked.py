"""What an attack of a run does to its stages, on held-out records with and without the trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.attack.aspect import FOREIGN, AttackSpec
from medmcl.evaluation.aspects.attack.rates import KIND, compare_attacks
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.evaluation import Found
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.attack.backdoor_eval import Asked, attack_of
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.given import load_attack
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]


def attacked(
    run: Run,
    cohort: Cohort | str | Path,
    stage: str,
    attack: str | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Result]:
    """Give the rates of an attack on a stage, from the prompts of the cohort.

    Args:
        run: A run with a poison stage.
        cohort: The cohort that it was trained on.
        stage: Stage whose towers are asked: the victim, or one that was cured.
        attack: Poison stage; the only one if not given.
        draws: Bootstrap draws.
        seed: Of the draws.

    Returns:
        Rate to its row: see `medmcl.evaluation.aspects.attack.rates.attack_rates`.

    Raises:
        ConfigError: No such stage, no texts, no prompts of the task, or another cohort.
    """
    from medmcl.engine.world import pick_device

    spec = AttackSpec(attack=attack, models={stage: stage}, by=("zero_shot",), ks=())
    opened = cohort if isinstance(cohort, Cohort) else open_cohort(cohort)
    known = attack_of(run, spec)
    if is_another(run, opened):
        raise ConfigError(
            FOREIGN,
            where=f"stage {known.name}",
            got=opened.name,
            expected=run.config["cohort"],
            fix="name the cohort that the run was trained on",
        )
    asked_by = () if known.asked_by is None else (known.asked_by,)
    names = tuple(dict.fromkeys((known.modality, *asked_by)))
    notes: list[str] = []
    prepared = run.prepare(opened, names)
    how = Resampling(prepared.subjects, draws=draws, seed=seed)
    rows = attack_results(spec, run, prepared, pick_device("cpu"), how, notes).results
    found = {row.metric: row for row in rows if row.kind == KIND}
    if not found:
        raise ConfigError(
            "an attack is judged by prompts of its task",
            where=f"stage {known.name}",
            got="; ".join(notes),
            fix="give the cohort `prompts:` of the task, and a stage with a tower for texts",
        )
    return found


def attack_results(
    spec: AttackSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    resampling: Resampling,
    notes: list[str],
    others: Mapping[str, Run] | None = None,
) -> Found:
    """Score every model that ``spec`` names, by each way that it can be asked.

    By ``zero_shot``: the prompts of the task; by ``head``: the classifier of a stage that was
    trained for the task, else a linear probe on its features of clean train records. And retrieval
    between what is attacked and the texts. The cohort is the run's own. ``others``: runs to set
    beside, whose models were trained under the same attack.

    Returns:
        Rows, and the ledger of what models and probes were fitted on.
    """
    asked = Asked.of(spec, run, prepared, device, notes)
    beside = asked_beside(asked, others or {})
    told = asked.logits()
    for one in beside.values():
        for protocol, logits in one.logits().items():
            told.setdefault(protocol, {}).update(logits)
    rows: list[Result] = []
    for protocol, logits in told.items():
        rows += compare_attacks(
            logits,
            asked.task.shown[asked.rows],
            asked.task.target,
            resampling=resampling.take(asked.rows),
            task=asked.poison.name,
            label=f"{asked.poison.task} = {asked.poison.label}",
            protocol=protocol,
        )
    for one in (asked, *beside.values()):
        found = one.found(resampling)
        rows += [replace(row, task=asked.poison.name) for row in found]
    return Found(results=rows, fitted=_ledger(asked, beside))


def _ledger(own: Asked, beside: Mapping[str, Asked]) -> list[FittedOn]:
    """Give what the models that are asked, and their probes, were fitted on."""
    lines = run_ledger(own.run, [*own.spec.models.values()])
    for name, one in beside.items():
        theirs = run_ledger(one.run, [*one.spec.models.values()])
        lines = (*lines, *(replace(line, what=f"{line.what}, of {name}") for line in theirs))
    if "head" in own.spec.by:
        note = f"of {own.run.config['cohort']}, clean; penalty chosen on tuning"
        probe = FittedOn(what="linear probe of the attack section", splits=("train",),
                         task=own.poison.task, labels=True, note=note)  # fmt: skip
        lines = (*lines, probe)
    return list(lines)


def asked_beside(own: Asked, others: Mapping[str, Run]) -> dict[str, Asked]:
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
        one = _beside(own, name, other, wanted, known)
        if isinstance(one, str):
            own.notes.append(f"attack on {name} left out: {one}")
        else:
            found[name] = one
    return found


def _beside(
    own: Asked, name: str, other: Run, wanted: str, known: Sequence[Weights]
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
    asked = Asked.of(spec, other, prepared, own.device, own.notes)
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
