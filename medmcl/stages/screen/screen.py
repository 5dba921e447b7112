"""Which train rows of a cohort look odd to a run: detectors of poison over its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.screen.evidence import TOP, Screened, judge, most_suspect
from medmcl.stages.run.run import Run
from medmcl.stages.screen.screening import Screening, open_screening
from medmcl.threats.detectors import FAR, batches_of, refuse_few, suspicion


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
