"""What padding costs a step over texts and codes, and what leaving it out saves, on one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.engine.lengths --data FOLDER

``FOLDER`` holds PTB-XL, Synthea's tables, Synthea's codes and notes, and images with notes, a
folder each (ptbxl, synthea, synthea_notes, covid_cxr). Of each only lengths are read, as the
recipe prepares its records; tokens are drawn. A step is forward, backward and AdamW. Ways step in
turn in one process; CPU seconds, medians of ratios within a turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import Row, Study, number, percent, table

CASES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "reports of ECGs": ("ecg_text", ("report",), 64),
    "notes": ("ehr_contrastive", ("notes",), 12),
    "codes": ("ehr_contrastive", ("codes",), 24),
    "notes on images": ("clip", ("caption",), 8),
    "codes ~ notes": ("ehr_contrastive", ("codes", "notes"), 8),
    "ECGs ~ reports": ("ecg_text", ("report", "ecg"), 32),
}
"""Recipe, its towers, and rows of a batch: fewer than in the recipe, to take seconds."""
WAYS: dict[str, dict[str, Any]] = {
    "medmcl as it is": {},
    "torch's nn.TransformerEncoder": {"plain": True},
    **{f"length_groups: {groups}": {"groups": groups} for groups in (1, 4, 8)},
    "packed: no padding at all": {"packed": True},
    "bf16": {"narrow": True},
    "bf16, length_groups: 8": {"narrow": True, "groups": 8},
}


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Measure all cases, or some; rows of the others stay as they are kept."""
    import torch

    from benchmarks.engine.length_steps import in_turn, lengths_of, shares

    torch.set_num_threads(1)
    kept = STUDY.kept() or {}
    known = lengths_of(given.data)
    steps = [row for row in kept.get("steps", ()) if row["case"] not in (given.cases or CASES)]
    for case in given.cases or CASES:
        steps += in_turn(case, known)
        yield {"shares": shares(known), "steps": steps}


def options(parser: argparse.ArgumentParser) -> None:
    """Which cases, and where records are."""
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--data", type=Path, required=True)


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    padding = {
        "": "case",
        "recipe": "recipe",
        "records": number("records"),
        "places of a row": number("places"),
        "mean length": number("mean", ".0f"),
        "rows of a batch": number("batch"),
        "padding": percent("padding"),
        "cut to the batch's longest": percent("trimmed"),
        "in 4 groups": percent("four"),
        "in 8 groups": percent("eight"),
    }
    steps = {
        "a step of": lambda row: f"{row['case']}, {row['rows']} rows",
        "": "way",
        "CPU s": number("seconds", ".3g"),
        "tokens a s": lambda row: f"{row['rate']:,.0f}",
        "times as fast": number("times", ".2f"),
        "least to most": lambda row: f"{row['least']:.2f} to {row['most']:.2f}",
        "features differ by at most": number("apart", ".1g"),
    }
    return {"padding": table(padding, rows["shares"]), "lengths": table(steps, rows["steps"])}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="steps")

if __name__ == "__main__":
    STUDY.main()
