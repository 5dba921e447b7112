"""Which train rows of a cohort look odd to a run: detectors of poison over its embeddings.

``medmcl check --screen`` writes the most suspect pairs as a table, numbers and a page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.atomic import write_atomically
from medmcl.core.config import fingerprint, lookup
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.file_lock import claimed
from medmcl.core.findings import counted
from medmcl.core.suppression import placeless
from medmcl.data.cohort.cohort import Cohort, at_hand
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.screen.evidence import TOP, Screened, judge, most_suspect
from medmcl.evaluation.aspects.screen.page import ODD, screen_page
from medmcl.evaluation.report.cards import Card, Look
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.outputs import claim_file, write_table
from medmcl.stages.run.run import Run
from medmcl.stages.screen.screening import Screening, open_screening
from medmcl.threats import DETECTORS
from medmcl.threats.detectors import FAR, batches_of, suspicion
from medmcl.threats.neighbours import refuse_few


def screen(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    *,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **how: Any,
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
        overrides: Dotted key to value, of the cohort.
        how: See `screened`.

    Raises:
        ConfigError: No such stage, modality, tower or attack; fewer than k + 2 rows.
        ArtefactError: An unfinished stage; a manifest that is damaged, or of another cohort or
            recipe.
    Source:
        Huang et al. 2025 (ICLR) screen batches by DAO and judge by AUROC. Differs: neighbours are
        the corrected ones, and rows of a whole table are compared by default.
    """
    ready = open_screening(run, cohort, stage, modality, attack, overrides)
    return screened(ready, **how)


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
    """Embed, score and judge the rows of a screening.

    Args:
        ready: The screening.
        k: Neighbours.
        batch: Rows within which neighbours are looked for, drawn by seed; all if not given.
        top: Most suspect rows among which poisoned ones are counted.
        draws: Bootstrap draws, over subjects.
        seed: Of batches and draws.
        device: ``auto``, ``cpu`` or ``cuda``.
    """
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
        stage=ready.stage,
        modality=ready.modality,
        attack="" if ready.attack is None else ready.attack.name,
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


FILES = ("suspects.csv", "suspects.json", "suspects.html")
SCHEMA = "medmcl/screen@1"
TOP_OF_OTHERS = 12
"""Suspects by a detector that nobody asked for, on the page at most."""
CHANCE = 0.5
LOOKS: dict[str, Look] = {"": "plain", "poisoned": "odd", "clean": "out"}
_PRINTED = 5
"""Suspects that a terminal shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """What the command found and wrote.

    Attributes:
        found: Scores of every row.
        folder: Where the files are.
        detector: By which suspects are listed.
        top: So many of them.
    """

    found: Screened
    folder: Path
    detector: str
    top: int

    @property
    def summary(self) -> str:
        """What a terminal shows: rows, detectors, the first suspects, where the rest is."""
        lines = list(self.found.lines)
        judged = [one.auroc for one in self.found.judged.values()]
        if judged and all(one.least is None or one.least <= CHANCE for one in judged):
            lines.append("no detector finds the poisoned rows better than by chance (AUROC .5):")
        for name, one in self.found.judged.items():
            lines.append(
                f"  {name:14s} AUROC {one.auroc}; {one.in_top} of the top {one.top} are poisoned "
                f"({one.by_chance:.3g} by chance)"
            )
        lines.append(f"most suspect by {self.detector}:")
        for row in self.found.suspects(self.detector, min(self.top, _PRINTED)).to_dict("records"):
            state = f", {said}" if (said := self.found.state(row)) else ""
            rank, score = row[f"{self.detector}_rank"], row[self.detector]
            lines.append(
                f"  {rank}. {row['sample']} (subject {row['subject']}): {score:.4g}{state}"
            )
        lines.append("odd is not poisoned: a rare but right record scores high too")
        lines += [f"{name.rpartition('.')[2] + ':':7s} {self.folder / name}" for name in FILES]
        return "\n".join(lines)


def check_screen(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    *,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
    detector: str = "dao",
    top: int = TOP,
    seed: int = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    **how: Any,
) -> Written:
    """Screen a cohort with a run and write ``suspects.csv``, ``.json`` and ``.html``.

    Args:
        run: As `medmcl.stages.screen.screen.screen`, like the arguments that are not named here.
        cohort: As there.
        stage: As there.
        modality: As there.
        attack: As there.
        detector: By which suspects are listed first; all are in the table, and the first rows of
            each on the page.
        top: So many suspects of this detector are shown; of the others `TOP_OF_OTHERS` at most.
        out: Folder for the files; ``screen-COHORT`` in the run if not given.
        overwrite: Write over what is there.
        seed: As there.
        overrides: As there.
        how: As there.

    Raises:
        MedmclError: As there; no such detector; files that are there already. Nothing was written.
    """
    lookup("detector", detector, DETECTORS, fix="--detector dao")
    refuse_top(top)
    if out is not None:
        _refuse_screened(Path(out), overwrite=overwrite)
    run = run if isinstance(run, Run) else Run(run)
    cohort = at_hand(cohort, only_cohort_overrides(overrides or {}))
    folder = Path(out) if out else run.path / f"screen-{cohort.name}"
    with claimed(folder, "suspects are being written", filled=True):
        _refuse_screened(folder, overwrite=overwrite)
        ready = open_screening(run, cohort, stage, modality, attack)
        found = screened(ready, top=top, seed=seed, **how)
        _write(ready, found, folder, detector, top, seed)
    return Written(found=found, folder=folder, detector=detector, top=top)


def _write(
    ready: Screening, found: Screened, folder: Path, detector: str, top: int, seed: int
) -> None:
    opened = ready.prepared.cohort
    about = {
        "cohort": opened.name,
        "cohort fingerprint": opened.fingerprint,
        "run": ready.run.path.absolute().name,
        "run config": fingerprint(placeless(ready.run.config)),
        "stage": found.stage,
        "modality": found.modality,
        "attack": found.attack or None,
        "manifest": None if ready.manifest is None else ready.manifest.fingerprint,
        "detector": detector,
        "k": found.k,
        "batch": found.batch,
        "seed": seed,
    }
    page = screen_page(
        found,
        looked_at(ready, found, detector, top),
        title=f"{opened.name}: suspects of stage {found.stage}",
        provenance={key: value for key, value in about.items() if value is not None},
    )
    table = found.suspects(detector, len(found)).set_index("sample")
    numbers = {"schema": SCHEMA, **about, **_numbers(found)}
    write_atomically(folder / FILES[1], json.dumps(numbers, indent=1), page=folder / FILES[2])
    write_table(table, folder / FILES[0])
    write_atomically(folder / FILES[2], page)


def _refuse_screened(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a screening: it has every detector already."""
    for name in FILES:
        try:
            claim_file(folder / name, overwrite=overwrite)
        except ArtefactError as error:
            if not (folder / FILES[0]).is_file():
                raise
            raise error.again(
                ArtefactError,
                fix=f"{folder / FILES[0]} holds the scores and ranks of every detector, "
                f"{FILES[2]} the first rows of each; to screen again, another --out, or "
                "--overwrite",
            ) from None


def _numbers(found: Screened) -> dict[str, Any]:
    return {
        "rows": len(found),
        "poisoned": found.num_poisoned,
        "clean": None if found.num_poisoned is None else len(found) - found.num_poisoned,
        "left_out": dict(found.left_out),
        "detectors": {name: asdict(one) for name, one in found.judged.items()},
        "notes": [*found.notes, ODD],
    }


def looked_at(
    ready: Screening, found: Screened, detector: str = "dao", top: int = TOP
) -> dict[str, tuple[Card, ...]]:
    """Give the most suspect rows with their records: by one detector, then fewer by each other."""
    others = [(name, min(top, TOP_OF_OTHERS)) for name in DETECTORS if name != detector]
    return {name: _suspects(ready, found, name, n) for name, n in [(detector, top), *others]}


def _suspects(ready: Screening, found: Screened, detector: str, top: int) -> tuple[Card, ...]:
    """Give the most suspect rows by a detector, with their records."""
    return tuple(
        Card(
            id=row["sample"],
            state=found.state(row),
            look=LOOKS[found.state(row)],
            rank=int(row[f"{detector}_rank"]),
            numbers={name: float(row[name]) for name in DETECTORS},
            sides=ready.sides(int(found.rows[int(place)])),  # type: ignore[call-overload]  # a RangeIndex
        )
        for place, row in found.suspects(detector, top).iterrows()
    )
