"""``medmcl check --screen``: the most suspect pairs of a cohort, as a table, numbers and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medmcl.core.atomic import write_atomically
from medmcl.core.config import fingerprint, lookup
from medmcl.core.errors import ArtefactError
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.aspects.screen.evidence import TOP, Screened, Suspect
from medmcl.evaluation.aspects.screen.page import ODD, screen_page
from medmcl.stages.run.outputs import claim_file, write_table
from medmcl.stages.run.run import Run
from medmcl.stages.screen.screen import refuse_top, screened
from medmcl.stages.screen.screening import Screening, open_screening, opened_cohort
from medmcl.threats import DETECTORS

FILES = ("suspects.csv", "suspects.json", "suspects.html")
SCHEMA = "medmcl/screen@1"
TOP_OF_OTHERS = 12
"""Suspects by a detector that nobody asked for, on the page at most."""
CHANCE = 0.5
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
        if judged and all(one.low is None or one.low <= CHANCE for one in judged):
            lines.append("no detector finds the poisoned rows better than by chance (AUROC .5):")
        for name, one in self.found.judged.items():
            lines.append(
                f"  {name:14s} AUROC {one.auroc}; {one.in_top} of the top {one.top} are poisoned "
                f"({one.by_chance:.3g} by chance)"
            )
        lines.append(f"most suspect by {self.detector}:")
        for row in self.found.suspects(self.detector, min(self.top, _PRINTED)).to_dict("records"):
            state = ""
            if "poisoned" in row:
                state = ", poisoned" if row["poisoned"] else ", clean"
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
    k: int = 16,
    batch: int | None = None,
    top: int = TOP,
    out: str | Path | None = None,
    overwrite: bool = False,
    draws: int = 1000,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
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
        k: As there.
        batch: As there.
        top: So many suspects of this detector are shown; of the others `TOP_OF_OTHERS` at most.
        out: Folder for the files; ``screen-COHORT`` in the run if not given.
        overwrite: Write over what is there.
        draws: As there.
        seed: As there.
        overrides: As there.
        device: As there.

    Raises:
        MedmclError: As there; no such detector; files that are there already. Nothing was written.
    """
    lookup("detector", detector, DETECTORS, fix="--detector dao")
    refuse_top(top)
    if out is not None:
        _claim(Path(out), overwrite=overwrite)
    run = run if isinstance(run, Run) else Run(run)
    cohort = opened_cohort(cohort, overrides)
    folder = Path(out) if out else run.path / f"screen-{cohort.name}"
    _claim(folder, overwrite=overwrite)
    ready = open_screening(run, cohort, stage, modality, attack)
    found = screened(ready, k=k, batch=batch, top=top, draws=draws, seed=seed, device=device)
    opened = ready.prepared.cohort
    about = {
        "cohort": opened.name,
        "cohort fingerprint": opened.fingerprint,
        "run": str(ready.run.path),
        "run config": fingerprint(ready.run.config),
        "stage": found.stage,
        "modality": found.modality,
        "attack": found.attack or None,
        "manifest": None if ready.manifest is None else ready.manifest.fingerprint,
        "detector": detector,
        "k": k,
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
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / FILES[0])
    numbers = {"schema": SCHEMA, **about, **_numbers(found)}
    write_atomically(folder / FILES[1], json.dumps(numbers, indent=1))
    write_atomically(folder / FILES[2], page)
    return Written(found=found, folder=folder, detector=detector, top=top)


def _claim(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a screening: it has every detector already."""
    for name in FILES:
        try:
            claim_file(folder / name, overwrite=overwrite)
        except ArtefactError as error:
            if not (folder / FILES[0]).is_file():
                raise
            raise ArtefactError(
                error.what,
                where=error.where,
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
) -> dict[str, tuple[Suspect, ...]]:
    """Give the most suspect rows with their records: by one detector, then fewer by each other."""
    others = [(name, min(top, TOP_OF_OTHERS)) for name in DETECTORS if name != detector]
    return {name: _suspects(ready, found, name, n) for name, n in [(detector, top), *others]}


def _suspects(ready: Screening, found: Screened, detector: str, top: int) -> tuple[Suspect, ...]:
    """Give the most suspect rows by a detector, with their records."""
    return tuple(
        Suspect(
            id=row["sample"],
            subject=row["subject"],
            rank=int(row[f"{detector}_rank"]),
            scores={name: float(row[name]) for name in DETECTORS},
            is_poisoned=bool(row["poisoned"]) if "poisoned" in row else None,
            sides=ready.sides(int(found.rows[int(place)])),  # type: ignore[call-overload]  # a RangeIndex
        )
        for place, row in found.suspects(detector, top).iterrows()
    )
