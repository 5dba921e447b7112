"""What an attack of a run does to its stages, on held-out records with and without the trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.attack.aspect import FOREIGN, AttackSpec
from medmcl.evaluation.aspects.attack.rates import KIND, compare_attacks
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.evaluation import Found
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.results import Result
from medmcl.stages.evaluate.attack.backdoor_eval import Asked, attack_of
from medmcl.stages.evaluate.attack.beside import asked_beside
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another

if TYPE_CHECKING:
    import torch


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
    beside = asked_beside(asked, others or {}, device, notes)
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
