"""What commands cost before they begin: processor seconds, and what they import.

``python benchmarks/engine/start_up.py --before CHECKOUT`` measures this checkout beside another one, in
turn, and writes ``start_up.md`` beside itself; without ``--before`` it prints this one alone.
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

HERE = Path(__file__).resolve().parents[2]
REPEATS = 2
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
    "pretrain --cohort demo --set towers.ecg.encoder.dept=2",
    "evaluate nowhere --cohort demo",
    "predict nowhere --cohort demo --out x.csv",
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


def measure(checkout: Path, words: str, folder: Path) -> tuple[float, list[str]]:
    """Processor seconds of a command, and the modules that it had imported when it ended."""
    told, before = folder / "loaded.json", spent()
    subprocess.run(
        [sys.executable, "-c", CODE, *words.split()],
        capture_output=True,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(checkout),
            "LOADED": str(told),
        },
    )
    return spent() - before, json.loads(told.read_text())


def cells(seconds: list[float], modules: list[str]) -> str:
    """The cells of a command in one checkout: seconds, modules of medmcl, packages."""
    own = len([one for one in modules if one.split(".")[0] == "medmcl"])
    heavy = ", ".join(one for one in HEAVY if one in modules) or "none"
    return f"{min(seconds):.2f} | {own} | {heavy}"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="an older checkout")
    before = parser.parse_args().before
    checkouts = [HERE] if before is None else [before.resolve(), HERE]
    rows = []
    with tempfile.TemporaryDirectory() as made:
        write_table(Path(made) / "table")
        for words in COMMANDS:
            times: list[list[float]] = [[] for _ in checkouts]
            loaded: list[list[str]] = [[] for _ in checkouts]
            for _ in range(REPEATS):
                for number, checkout in enumerate(checkouts):
                    seconds, loaded[number] = measure(checkout, words, Path(made))
                    times[number].append(seconds)
            pairs = zip(times, loaded, strict=True)
            rows.append(f"| `{words}` | " + " | ".join(cells(*one) for one in pairs) + " |")
            print(rows[-1], flush=True)
    if before is None:
        return
    sha = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
        cwd=before,
    ).stdout.strip()
    head = f"""# What commands cost before they begin

`python benchmarks/engine/start_up.py --before CHECKOUT`: processor seconds (user and system) of a whole
command in a process of its own, one thread, the least of {REPEATS}, both checkouts in turn in one
run; modules of medmcl that were imported when it ended; and which of {", ".join(HEAVY)} were.
Before: {sha}. A command with a word that is wrong ends in its refusal. The table has 500 people.

| command | s before | modules | packages | s after | modules | packages |
|---|---|---|---|---|---|---|
"""
    Path(__file__).with_suffix(".md").write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
