"""A cohort that is ready to be screened: its train rows as a stage of a run was trained on them.

A `Plan` says what is screened: which stage's tower of which modality, and under which attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medmcl.core.config import lookup
from medmcl.core.contracts import traits
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort, at_hand
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.report.cards import RecordView
from medmcl.modalities import ADAPTERS
from medmcl.stages.evaluate.attack.record_views import attacked_side
from medmcl.stages.poison.given import load_attack
from medmcl.stages.poison.poisoned_rows import Poisoned
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.record_views import side_of
from medmcl.stages.run.run import EMBED_BATCH, Run, embed_samples
from medmcl.threats import Poison

NO_ATTACK = "none"
"""Said in the place of a poison stage: the rows are seen as they are, and nothing is judged."""
MOST_BESIDE = 2
"""Other modalities of a record that are shown beside the one that is screened."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is screened.

    Attributes:
        stage: Stage whose tower embeds.
        modality: What it embeds.
        attack: Poison stage that is laid over the rows; None: they are seen as they are.
        beside: Other modalities, shown with the suspects.
        notes: What a reader must know of these choices.
    """

    stage: str
    modality: str
    attack: PoisonSpec | None
    beside: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """Modalities that are shown of a suspect."""
        return (self.modality, *self.beside)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Modalities that must be prepared."""
        return tuple(dict.fromkeys((*self.shown, *(self.attack.wanted if self.attack else ()))))


def plan_of(
    run: Run,
    cohort: Cohort,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
) -> Plan:
    """Fill every default in.

    Args:
        run: The run.
        cohort: What is screened.
        stage: The last finished one that trained the modality's tower without labels, by default.
        modality: That of the attack by default, else the stage's first with pictures, else its
            first.
        attack: Poison stage; the one that the stage was trained under by default, if any;
            `NO_ATTACK` for none.

    Raises:
        ConfigError: No such stage, modality, tower or attack; or the cohort lacks a modality.
        ArtefactError: The stage was not finished.
    """
    if modality is not None:
        lookup("modality of the run", modality, run.recipe.inputs, where=run.path)
    attacks = run.of(PoisonSpec)
    likely = next((one.modality for one in attacks.values()), next(iter(run.recipe.inputs)))
    chosen = stage or run.default_stage(modality or likely)
    spec = run.stage(chosen)
    run.refuse_unfinished(chosen)
    direct = spec.attacked_by
    named, laid = attack or direct, None
    if named is not None and named != NO_ATTACK:
        fix = f"--attack {NO_ATTACK} lays none"
        laid = lookup("poison stage", named, attacks, where=run.path, fix=fix)
    modality = modality or _default(run, spec.towers, laid)
    if modality not in spec.towers:
        raise ConfigError(
            f"stage '{chosen}' has no tower for '{modality}'",
            where=run.path,
            expected=", ".join(spec.towers),
        )
    said = () if laid is None or laid.text is None else (laid.text,)
    others = [one for one in (*said, *spec.towers) if one != modality and one in cohort.records]
    plan = Plan(
        stage=chosen,
        modality=modality,
        attack=laid,
        beside=tuple(dict.fromkeys(others))[:MOST_BESIDE],
        notes=tuple(_plan_notes(run, chosen, modality, laid, direct)),
    )
    run.refuse_lacking(cohort, plan.wanted)
    return plan


def _default(run: Run, towers: Sequence[str], attack: PoisonSpec | None) -> str:
    if attack is not None and attack.modality in towers:
        return attack.modality
    kinds = {name: run.preprocessing[name]["kind"] for name in towers}
    return next((name for name in towers if traits(ADAPTERS[kinds[name]]).pictured), towers[0])


def _plan_notes(
    run: Run, stage: str, modality: str, attack: PoisonSpec | None, direct: str | None
) -> list[str]:
    if attack is not None and modality not in attack.wanted:
        return [
            f"the attack of stage {attack.name} does not touch {modality}: its detection here is "
            "chance"
        ]
    if attack is None and direct is not None:
        return [
            f"stage {stage} was trained under the attack of stage {direct}, which is not laid over "
            "the rows here: they are seen as they are and nothing is judged"
        ]
    if attack is None and run.of(PoisonSpec):
        names = ", ".join(run.of(PoisonSpec))
        return [
            f"stage {stage} was not trained under an attack itself, so the rows are seen as they "
            f"are and nothing is judged; the run has one ({names}), and --attack lays it over"
        ]
    return []


@dataclass(frozen=True, kw_only=True, eq=False)
class Screening:
    """A cohort that is ready to be screened.

    Attributes:
        run: The run.
        plan: Stage, modality and attack.
        prepared: The cohort, as the run prepares it.
        rows: Train samples that have the modality, (N,) sample numbers.
        left_out: Why train samples are not among them, to how many.
        manifest: Who is poisoned; None without an attack.
        poisoned: Lays the attack over batches; None without one.
    """

    run: Run
    plan: Plan
    prepared: Prepared
    rows: np.ndarray
    left_out: Mapping[str, int]
    manifest: Poison | None
    poisoned: Poisoned | None

    @property
    def ids(self) -> list[str]:
        """Sample of each row, N of them."""
        return [str(one) for one in self.prepared.samples["sample"].to_numpy()[self.rows]]

    @property
    def is_poisoned(self) -> np.ndarray | None:
        """What the manifest says of each row, (N,) bool; None without one."""
        return None if self.manifest is None else self.manifest.is_poisoned(self.ids)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of rows and attack."""
        run, cohort = self.run, self.prepared.cohort
        notes = [*self.plan.notes]
        if run.config.get("cohort_fingerprint") != cohort.fingerprint:
            notes.append(
                "the run was trained on another cohort, or on other tables of it: what is odd may "
                "only be what it has not seen"
            )
            return tuple(notes)
        if self.manifest is not None:
            lost = len(self.manifest) - int(self.manifest.is_poisoned(self.ids).sum())
            if lost:
                notes.append(
                    f"{counted(lost, 'poisoned row')} of the manifest could not be screened"
                )
        trained = run.facts(self.plan.stage).get("rows")
        if trained is not None and trained != len(self.rows):
            notes.append(f"the stage itself was trained on {counted(int(trained), 'row')}")
        return tuple(notes)

    def vectors(self, device: torch.device) -> np.ndarray:
        """Embed the rows as the stage was trained on them. (N, D) float32 of unit length."""
        towers, name = self.run.towers(self.plan.stage, device), self.plan.modality
        found = embed_samples(towers, self.prepared, name, self.rows, "pooled", device)
        if self.poisoned is None:
            return found
        places = np.flatnonzero(self.poisoned.donor[self.rows] >= 0)
        adapter = self.prepared.adapters[name]
        for first in range(0, len(places), EMBED_BATCH):
            at = places[first : first + EMBED_BATCH]
            batch = self.poisoned(self.prepared.batch(self.rows[at], modalities=[name]))
            seen = replace(batch, inputs={name: adapter.plain(batch.inputs[name])})
            with torch.no_grad():
                pooled = towers(seen.to(device)).pooled[name]
            found[at] = pooled.float().cpu().numpy()
        return found

    def sides(self, row: int) -> tuple[RecordView, ...]:
        """Give a sample's records as a person looks at them, of a poisoned one the attacker's.

        Args:
            row: Its number.
        """
        return tuple(self._side(name, row) for name in self.plan.shown)

    def _side(self, name: str, row: int) -> RecordView:
        attack, laid = self.plan.attack, self.poisoned
        if attack is None or laid is None:
            return side_of(self.prepared, name, row)
        donor = int(laid.donor[row])
        if name == attack.text and donor >= 0 and laid.phrases is not None:
            return RecordView(name=name, content=laid.phrases.said(row))
        if name == attack.text and donor >= 0:
            return side_of(self.prepared, name, donor)
        if name != attack.modality or not self.prepared.present[name][row]:
            return side_of(self.prepared, name, row)
        return attacked_side(laid, row, is_triggered=donor >= 0)


def open_screening(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Screening:
    """Open run and cohort, and find the rows; see `medmcl.stages.screen.screen.screen`."""
    run = run if isinstance(run, Run) else Run(run)
    opened = at_hand(cohort, only_cohort_overrides(overrides or {}))
    plan = plan_of(run, opened, stage, modality, attack)
    manifest = None if plan.attack is None else load_attack(run, plan.attack, opened)
    prepared = run.prepare(opened, plan.wanted)
    train = prepared.rows("train")
    has = prepared.samples[plan.modality].notna().to_numpy()[train]
    usable = prepared.present[plan.modality][train]
    laid = None
    if plan.attack is not None and manifest is not None:
        laid = Poisoned(plan.attack, manifest, prepared)
    return Screening(
        run=run,
        plan=plan,
        prepared=prepared,
        rows=train[usable],
        left_out={
            f"without {plan.modality}": int((~has).sum()),
            f"whose {plan.modality} was excluded": int((has & ~usable).sum()),
        },
        manifest=manifest,
        poisoned=laid,
    )
