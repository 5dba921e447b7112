"""What commands cost before they begin: processor seconds, and what they import.

``python -m benchmarks.engine.start_up --before CHECKOUT`` measures this checkout beside another one, in
turn.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, Cell, Row, Study, table

REPEATS = 3
HEAVY = ("torch", "pandas", "scipy", "sklearn")
CODE = """
import atexit, json, os, runpy, sys
def tell():
    with open(os.environ["LOADED"], "w") as file:
        json.dump(sorted(sys.modules), file)
atexit.register(tell)
sys.argv[0] = "medmcl"
runpy.run_module("medmcl", run_name="__main__")
"""
COMMANDS = [
    "--help",
    "recipes",
    "recipes ecg_cmr stages.mdm.objectives.masked",
    "cohorts",
    "parts",
    "models",
    "pretrain --help",
    "pretrain --cohort demo --set towers.ecg.encoder.dept=2",
    "evaluate nowhere --cohort demo",
    "predict nowhere --cohort demo --out x.csv",
    "embed --model ecgfoundr:w.pth --cohort demo --out x.csv",
    "select nowhere --cohort demo --out x.parquet",
    "check --cohort table",
]
TABLE = """schema: medmcl/cohort@1
subjects: {table: people.csv, id: id, split: {random: {seed: 0, tuning: 0.2, held_out: 0.3}}}
modalities:
  clinic: {reader: table, columns: {age: number, sex: category, pressure: number}}
tasks:
  death: {kind: survival, time: days, event: died, unit: days, horizons_years: [1, 5]}
recipe: risk_table
"""


def write_table(folder: Path, people: int = 500) -> None:
    """Write a small cohort of one table."""
    draw = random.Random(0)
    folder.mkdir()
    lines = ["id,age,sex,pressure,days,died"]
    for number in range(people):
        age, pressure = draw.randint(30, 90), round(draw.gauss(130, 15), 1)
        days, died = draw.randint(10, 3000), int(draw.random() < 0.3)
        lines.append(f"p{number:04d},{age},{draw.choice('fm')},{pressure},{days},{died}")
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    (folder / "cohort.yaml").write_text(TABLE)


def spent() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


NOT_THERE = ("there is no command", "No such option")


def measure(checkout: Path, words: str, folder: Path) -> tuple[float, list[str]] | None:
    """Processor seconds of a command, and the modules that it had imported when it ended.

    None: the checkout has no such command, or no such option of it.
    """
    told, before = folder / "loaded.json", spent()
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(checkout),
            "LOADED": str(told),
        },
    )
    taken = spent() - before
    if any(one in done.stderr for one in NOT_THERE):
        return None
    return taken, json.loads(told.read_text())


def parts(rows: list[Row]) -> dict[str, str]:
    def of(side: str, key: str, form: str = "") -> Cell:
        return lambda row: format(row[side][key], form) if side in row else ""

    columns: dict[str, Cell] = {"command": lambda row: f"`{row['command']}`"}
    for side in ("before", "after"):
        columns[f"s {side}"] = of(side, "seconds", ".2f")
        columns[f"modules {side}"] = of(side, "modules")
        columns[f"packages {side}"] = of(side, "packages")
    return {"commands": table(columns, rows)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--before", type=Path, required=True, help="an older checkout")


def run(given: argparse.Namespace) -> list[Row]:
    """Measure both checkouts in turn; the least of all rounds."""
    sides = {"before": given.before.resolve(), "after": ROOT}
    rows = []
    with tempfile.TemporaryDirectory() as made:
        write_table(Path(made) / "table")
        for words in COMMANDS:
            row: dict[str, Any] = {"command": words}
            for _ in range(REPEATS):
                for side, checkout in sides.items():
                    found = measure(checkout, words, Path(made))
                    if found is None:
                        continue
                    seconds, modules = found
                    least = min(seconds, row.get(side, {"seconds": seconds})["seconds"])
                    own = sum(one.split(".")[0] == "medmcl" for one in modules)
                    heavy = ", ".join(one for one in HEAVY if one in modules) or "none"
                    row[side] = {"seconds": least, "modules": own, "packages": heavy}
            rows.append(row)
            print(row, flush=True)
    return rows


STUDY = Study(__file__, parts=parts, run=run, options=options, before="dcbc476")

if __name__ == "__main__":
    STUDY.main()
