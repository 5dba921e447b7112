"""``medmcl check --screen``: the most suspect pairs of a cohort, as a table, numbers and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medmcl.core.config import fingerprint, lookup
from medmcl.data.cohort import Cohort
from medmcl.engine.checkpoint import write_atomically
from medmcl.evaluation.report.screen_page import ODD, screen_page
from medmcl.evaluation.screen_evidence import ScreenEvidence, Suspect
from medmcl.stages.outputs import claim_file, write_table
from medmcl.stages.run import Run
from medmcl.stages.screen import TOP, Screened, screened
from medmcl.stages.screening import Screening, open_screening
from medmcl.threats import DETECTORS

FILES = ("suspects.csv", "suspects.json", "suspects.html")
SCHEMA = "medmcl/screen@1"
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
        run: As `medmcl.stages.screen.screen`, like the arguments that are not named here.
        cohort: As there.
        stage: As there.
        modality: As there.
        attack: As there.
        detector: By which suspects are listed; all are in the table.
        k: As there.
        batch: As there.
        top: So many suspects are shown.
        out: Folder for the files; ``screen-COHORT`` in the run if not given.
        overwrite: Write over what is there.
        draws: As there.
        seed: As there.
        overrides: As there.
        device: As there.

    Raises:
        MedmclError: As there; no such detector; files that are there already. Nothing was written.
    """
    lookup("detector", detector, DETECTORS)
    if out is not None:
        _claim(Path(out), overwrite=overwrite)
    ready = open_screening(run, cohort, stage, modality, attack, overrides)
    folder = Path(out) if out else ready.run.path / f"screen-{ready.prepared.cohort.name}"
    _claim(folder, overwrite=overwrite)
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
        evidence_of(ready, found, detector, top),
        title=f"{opened.name}: suspects of stage {found.stage}",
        subtitle=found.lines[0],
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
    for name in FILES:
        claim_file(folder / name, overwrite=overwrite)


def _numbers(found: Screened) -> dict[str, Any]:
    return {
        "rows": len(found),
        "poisoned": found.num_poisoned,
        "clean": None if found.num_poisoned is None else len(found) - found.num_poisoned,
        "left_out": dict(found.left_out),
        "detectors": {name: asdict(one) for name, one in found.judged.items()},
        "notes": [*found.notes, ODD],
    }


def evidence_of(
    ready: Screening, found: Screened, detector: str = "dao", top: int = TOP
) -> ScreenEvidence:
    """Give what a page shows of a screening: its numbers, and the records of the suspects."""
    table = found.table
    has_truth = "poisoned" in table
    suspects = []
    for place, row in found.suspects(detector, top).iterrows():
        suspects.append(
            Suspect(
                id=row["sample"],
                subject=row["subject"],
                rank=int(row[f"{detector}_rank"]),
                scores={name: float(row[name]) for name in DETECTORS},
                is_poisoned=bool(row["poisoned"]) if has_truth else None,
                sides=ready.sides(int(found.rows[int(place)])),  # type: ignore[call-overload]  # a RangeIndex
            )
        )
    return ScreenEvidence(
        stage=found.stage,
        modality=found.modality,
        detector=detector,
        scores={name: table[name].to_numpy() for name in DETECTORS},
        is_poisoned=table["poisoned"].to_numpy() if has_truth else None,
        suspects=tuple(suspects),
        judged=found.judged,
        lines=found.lines[1:],
        attack=found.attack,
    )
