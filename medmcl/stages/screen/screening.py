"""A cohort that is ready to be screened: its train rows as a stage of a run was trained on them.

A `Screening` says what is screened: which stage's tower of which modality, under which attack.
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
from medmcl.stages.train.spec import TrainSpec
from medmcl.threats import Poison

NO_ATTACK = "none"
"""Said in the place of a poison stage: the rows are seen as they are, and nothing is judged."""
MOST_BESIDE = 2
"""Other modalities of a record that are shown beside the one that is screened."""


def _default(run: Run, towers: Sequence[str], attack: PoisonSpec | None) -> str:
    if attack is not None and attack.modality in towers:
        return attack.modality
    kinds = {name: run.preprocessing[name]["kind"] for name in towers}
    return next((name for name in towers if traits(ADAPTERS[kinds[name]]).pictured), towers[0])


def _choice_notes(
    run: Run, stage: str, modality: str, attack: PoisonSpec | None, direct: str | None
) -> list[str]:
    """Say what a reader must know of the stage, the modality and the attack."""
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
        stage: Stage whose tower embeds.
        modality: What it embeds.
        attack: Poison stage that is laid over the rows; None: they are seen as they are.
        shown: Modalities that are shown of a suspect: it, and some beside.
        choices: What a reader must know of these.
        prepared: The cohort, as the run prepares it.
        rows: Train samples that have the modality, (N,) sample numbers.
        left_out: Why train samples are not among them, to how many.
        manifest: Who is poisoned; None without an attack.
        poisoned: Lays the attack over batches; None without one.
    """

    run: Run
    stage: str
    modality: str
    attack: PoisonSpec | None
    shown: tuple[str, ...]
    choices: tuple[str, ...]
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
        notes = [*self.choices]
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
        trained = run.facts(self.stage).get("rows")
        if trained is not None and trained != len(self.rows):
            notes.append(f"the stage itself was trained on {counted(int(trained), 'row')}")
        return tuple(notes)

    def vectors(self, device: torch.device) -> np.ndarray:
        """Embed the rows as the stage was trained on them. (N, D) float32 of unit length."""
        towers, name = self.run.towers(self.stage, device), self.modality
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
        return tuple(self._side(name, row) for name in self.shown)

    def _side(self, name: str, row: int) -> RecordView:
        attack, laid = self.attack, self.poisoned
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
    """Open run and cohort, fill every default in, and find the rows.

    Args:
        run: See `medmcl.stages.screen.screen.screen`, like the cohort and the overrides.
        cohort: What is screened.
        stage: The last finished one that trained the modality's tower without labels, by default.
        modality: That of the attack by default, else the stage's first with pictures, else its
            first.
        attack: Poison stage; the one that the stage was trained under by default, if any;
            `NO_ATTACK` for none.
        overrides: Of the cohort.

    Raises:
        ConfigError: No such stage, modality, tower or attack; or the cohort lacks a modality.
        ArtefactError: The stage was not finished.
    """
    run = run if isinstance(run, Run) else Run(run)
    opened = at_hand(cohort, only_cohort_overrides(overrides or {}))
    if modality is not None:
        lookup("modality of the run", modality, run.recipe.inputs, where=run.path)
    attacks = run.of(PoisonSpec)
    likely = next((one.modality for one in attacks.values()), next(iter(run.recipe.inputs)))
    chosen = stage or run.default_stage(modality or likely)
    spec = run.stage(chosen)
    run.refuse_unfinished(chosen)
    trained = run.of(TrainSpec).get(chosen)
    direct = None if trained is None else trained.poisoned_by
    named, laid = attack or direct, None
    if named is not None and named != NO_ATTACK:
        fix = f"--attack {NO_ATTACK} lays none"
        laid = lookup("poison stage", named, attacks, where=run.path, fix=fix)
    modality = modality or _default(run, spec.towers, laid)
    run.stage_with(modality, chosen)  # refuses one without the tower
    said = () if laid is None or laid.text is None else (laid.text,)
    others = [one for one in (*said, *spec.towers) if one != modality and one in opened.records]
    shown = (modality, *tuple(dict.fromkeys(others))[:MOST_BESIDE])
    wanted = tuple(dict.fromkeys((*shown, *(laid.wanted if laid else ()))))
    run.refuse_lacking(opened, wanted)
    manifest = None if laid is None else load_attack(run, laid, opened)
    prepared = run.prepare(opened, wanted)
    train = prepared.rows("train")
    has = prepared.samples[modality].notna().to_numpy()[train]
    usable = prepared.present[modality][train]
    return Screening(
        run=run,
        stage=chosen,
        modality=modality,
        attack=laid,
        shown=shown,
        choices=tuple(_choice_notes(run, chosen, modality, laid, direct)),
        prepared=prepared,
        rows=train[usable],
        left_out={
            f"without {modality}": int((~has).sum()),
            f"whose {modality} was excluded": int((has & ~usable).sum()),
        },
        manifest=manifest,
        poisoned=None if laid is None or manifest is None else Poisoned(laid, manifest, prepared),
    )
