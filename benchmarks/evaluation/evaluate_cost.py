"""What `medmcl evaluate` of a finished run costs, beside an older checkout.

``python -m benchmarks.evaluation.evaluate_cost --before CHECKOUT`` trains toy recipes in either checkout, a few
steps a stage, on the same simulated cohorts, and then evaluates each run anew in a process of its own, both
checkouts in turn: processor seconds of the whole command with one thread, the least and the median of some
repeats, and rows of ``results.csv``. Draws are as the recipe says.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine.start_up import spent
from benchmarks.study import ROOT, Row, Study, commit, number, table

REPEATS = 3
SHORT = {"clip_toy": ["stages.contrast.epochs=1"], "claime_toy": []}
COHORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip_toy": ("shapes", {}),
    "claime_toy": ("ehr", {"codes": 30, "concepts": 30}),
}
PEOPLE = 300


def command(checkout: Path, *words: str) -> float:
    """Processor seconds of a command of a checkout, which must end well."""
    before = spent()
    subprocess.run(
        [sys.executable, "-m", "medmcl", *words],
        check=True,
        capture_output=True,
        cwd=tempfile.gettempdir(),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)},
    )
    return spent() - before


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--before", type=Path, required=True, help="an older checkout")
    parser.add_argument("--recipes", nargs="+", default=[*SHORT])


def parts(rows: list[Row]) -> dict[str, str]:
    columns: dict[str, Any] = {"recipe": "recipe", "people": number("people")}
    for side in ("before", "after"):
        columns[f"s {side}, least"] = number(f"{side}_least", ".2f")
        columns[f"s {side}, median"] = number(f"{side}_median", ".2f")
        columns[f"rows {side}"] = number(f"{side}_rows")
    return {"evaluate": table(columns, rows)}


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Train in both, evaluate in turn."""
    import medmcl

    sides = {"before": given.before.resolve(), "after": ROOT}
    rows = {row["recipe"]: row for row in STUDY.kept(given.out) or []}
    with tempfile.TemporaryDirectory() as made:
        for recipe in given.recipes:
            cohort = Path(made) / f"{recipe}-cohort"
            kind, settings = COHORTS[recipe]
            medmcl.simulate(kind, cohort, {"subjects": PEOPLE, **settings})
            sets = [word for one in SHORT[recipe] for word in ("--set", one)]
            of = ["--cohort", str(cohort), "--device", "cpu"]
            took: dict[str, list[float]] = {side: [] for side in sides}
            row: Row = {"recipe": recipe, "people": PEOPLE, "before": commit(sides["before"])}
            for side, checkout in sides.items():
                folder = f"{made}/{recipe}-{side}"
                command(checkout, "pretrain", *of, "--recipe", recipe, "--out", folder, *sets)
            for repeat in range(REPEATS):
                for side, checkout in sides.items():
                    out = f"{made}/{recipe}-{side}-{repeat}"
                    took[side].append(
                        command(checkout, "evaluate", f"{made}/{recipe}-{side}", *of, "--out", out)
                    )
                    with (Path(out) / "results.csv").open() as file:
                        row[f"{side}_rows"] = sum(1 for _ in csv.DictReader(file))
            for side in sides:
                row[f"{side}_least"] = round(min(took[side]), 2)
                row[f"{side}_median"] = round(statistics.median(took[side]), 2)
            rows[recipe] = row
            print(row, flush=True)
            yield [*rows.values()]


STUDY = Study(__file__, parts=parts, run=run, options=options, before="28f09ae")

if __name__ == "__main__":
    STUDY.main()
