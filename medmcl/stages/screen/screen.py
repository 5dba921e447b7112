"""Which train rows of a cohort look odd to a run: detectors of poison over its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.screen.evidence import Judged, judge, most_suspect
from medmcl.stages.run.run import Run
from medmcl.stages.screen.screening import Screening, open_screening
from medmcl.threats import DETECTORS
from medmcl.threats.detectors import FAR
from medmcl.threats.suspicion import batches_of, refuse_few, suspicion

TOP = 50
"""Most suspect rows that are looked at if nobody says."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Screened:
    """What a screening of N rows found.

    Attributes:
        stage: Whose embeddings.
        modality: What was embedded.
        attack: Poison stage that was laid over the rows; empty without.
        k: Neighbours.
        batch: Rows within which neighbours were looked for; None: the whole table.
        rows: Sample number of each row, (N,).
        table: N rows: ``sample``, ``subject``; of each detector its score (higher = more suspect)
            and ``NAME_rank`` (1 = most suspect); ``poisoned`` where there is a manifest.
        judged: Detector to how well it finds the poisoned rows; empty without a manifest.
        left_out: Why train samples were not screened, to how many.
        notes: What else a reader must know.
    """

    stage: str
    modality: str
    attack: str
    k: int
    batch: int | None
    rows: np.ndarray
    table: pd.DataFrame
    judged: Mapping[str, Judged] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @property
    def num_poisoned(self) -> int | None:
        """Poisoned rows; None without a manifest."""
        return int(self.table["poisoned"].sum()) if "poisoned" in self.table else None

    def suspects(self, detector: str = "dao", top: int = TOP) -> pd.DataFrame:
        """Give the most suspect rows of the table, the most suspect first."""
        lookup("detector", detector, DETECTORS)
        return self.table.sort_values(f"{detector}_rank").head(top)

    @property
    def lines(self) -> tuple[str, ...]:
        """What was done, in sentences: rows, neighbours, poisoned and clean, what was left out."""
        how = "the whole table" if self.batch is None else f"batches of {self.batch:,} or more rows"
        said = [
            f"{counted(len(self), 'train row')} screened by the {self.modality} embeddings of "
            f"stage {self.stage}: {counted(self.k, 'neighbour')} in {how}."
        ]
        if self.num_poisoned is not None:
            clean = len(self) - self.num_poisoned
            said.append(
                f"{self.num_poisoned:,} of them are poisoned and {clean:,} are clean, says the "
                f"manifest of stage {self.attack}."
            )
        lost = [f"{count:,} {why}" for why, count in self.left_out.items() if count]
        if lost:
            said.append(f"Train samples that are not screened: {', '.join(lost)}.")
        return (*said, *(f"{one[0].upper()}{one[1:]}." for one in self.notes))


def screen(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    *,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
    k: int = 16,
    batch: int | None = None,
    top: int = TOP,
    draws: int = 1000,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Screened:
    """Score the train rows of a cohort by every detector, and judge those by the manifest.

    Args:
        run: A run, or its folder.
        cohort: Cohort, folder or name.
        stage: Stage whose tower embeds; by default the last one trained without labels.
        modality: What is embedded; by default that of the attack, else the stage's first picture.
        attack: Poison stage whose triggers and texts are laid over the rows; by default the one
            that the stage itself is ``poisoned_by``. A stage that only started from a victim needs
            it named. ``none``: none, the rows as they are.
        k: Neighbours.
        batch: Rows within which neighbours are looked for, drawn by seed; all if not given.
        top: Most suspect rows among which poisoned ones are counted.
        draws: Bootstrap draws, over subjects.
        seed: Of batches and draws.
        overrides: Dotted key to value, of the cohort.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: No such stage, modality, tower or attack; fewer than k + 2 rows.
        ArtefactError: An unfinished stage; a manifest that is damaged, or of another cohort or
            recipe.
    Source:
        Huang et al. 2025 (ICLR) screen batches by DAO and judge by AUROC. Differs: neighbours are
        the corrected ones, and rows of a whole table are compared by default.
    """
    ready = open_screening(run, cohort, stage, modality, attack, overrides)
    return screened(ready, k=k, batch=batch, top=top, draws=draws, seed=seed, device=device)


def screened(
    ready: Screening,
    *,
    k: int = 16,
    batch: int | None = None,
    top: int = TOP,
    draws: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> Screened:
    """Embed, score and judge the rows of a screening; see `screen`."""
    refuse_top(top)
    rows = ready.rows
    refuse_few(len(rows), k, batch)
    is_whole = len(batches_of(len(rows), batch, seed)) == 1
    scores = suspicion(ready.vectors(pick_device(device)), k, batch, seed)
    table = pd.DataFrame(
        {name: ready.prepared.samples[name].astype(str).to_numpy()[rows]
         for name in ("sample", "subject")}
    )  # fmt: skip
    for name, values in scores.items():
        table[name] = values
        ranks = np.empty(len(rows), dtype=np.int64)
        ranks[most_suspect(values)] = np.arange(1, len(rows) + 1)
        table[f"{name}_rank"] = ranks
    judged = {}
    truth = ready.is_poisoned
    if truth is not None:
        table["poisoned"] = truth
        subjects = ready.prepared.subjects[rows]
        judged = {
            name: judge(values, truth, subjects, top, draws=draws, seed=seed)
            for name, values in scores.items()
        }
    return Screened(
        stage=ready.plan.stage,
        modality=ready.plan.modality,
        attack="" if ready.plan.attack is None else ready.plan.attack.name,
        k=k,
        batch=None if is_whole else batch,
        rows=rows,
        table=table,
        judged=judged,
        left_out=ready.left_out,
        notes=(*ready.notes, *_untold(scores, k)),
    )


def refuse_top(top: int) -> None:
    """Refuse to look at no row.

    Raises:
        ConfigError: ``top`` is below 1.
    """
    if top < 1:
        raise ConfigError(
            "one row or more is looked at",
            where="--top",
            got=top,
            expected="a whole number of 1 or more",
            fix=f"--top {TOP}",
        )


def _untold(scores: Mapping[str, np.ndarray], k: int) -> list[str]:
    """Say how many rows a detector cannot judge."""
    notes = []
    for name, values in scores.items():
        count = int((values == FAR).sum())
        if count:
            why = f"have {k} copies or more, which says duplicates, not poison"
            why = (
                f"they {why}, or all their neighbours are equally far"
                if name == "lid"
                else f"they, or neighbours of theirs, {why}"
            )
            notes.append(
                f"{counted(count, 'row')} cannot be told by {name}, which gives {FAR:,.0f}: {why}"
            )
    return notes
