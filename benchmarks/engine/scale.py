"""From a hundred to a hundred thousand people of one table: opening, check, report, embedding.

``python -m benchmarks.engine.scale --before CHECKOUT`` measures opening and check in this checkout and
in an older one, in turn; report and embedding in this one alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import ROOT, Row, Study, number, table

PEOPLE = (100, 1_000, 10_000, 100_000)
NUMBERS = 20
REPEATS = 2
COHORT = """schema: medmcl/cohort@1
subjects: {{table: people.csv, id: eid, split: {{random: {{seed: 0, tuning: 0.2, held_out: 0.3}}}}}}
index: {{column: baseline}}
modalities:
  table: {{reader: table, columns: {{{first}, sex: category, smoking: category}}}}
  labs: {{reader: table, columns: {{{second}, ward: category}}}}
tasks:
  death: {{kind: survival, event_date: death_date, censor_date: censor_date, horizons_years: [1, 5]}}
recipe: {recipe}
"""
RECIPE = """schema: medmcl/recipe@1
about: two towers of tables, for a moment
inputs: {table: {}, labs: {}}
towers:
  table: &tower
    encoder: {name: tabular_mlp, cell_width: 4, hidden: 64, depth: 2, width: 64}
    head: {layers: 1, out: 16}
  labs: *tower
stages:
  - stage: train
    name: contrast
    towers: [table, labs]
    objectives: {cross_modal: {pairs: [[table, labs]], view: plain, loss: info_nce}}
    batch_size: 128
    steps: 20
    optimiser: {name: adamw, lr: 1.0e-3}
"""
REPORT = ["--recipe", "risk_table"]


def write_cohort(folder: Path, people: int) -> None:
    """Write a table of 27 columns with gaps, dates and a rare outcome."""
    import pandas as pd

    draw = np.random.default_rng(people)
    frame = pd.DataFrame({"eid": [f"P{one:07d}" for one in draw.permutation(people)]})
    start = pd.Timestamp("2010-01-01") + pd.to_timedelta(draw.integers(0, 2000, people), unit="D")
    frame["baseline"] = start
    for name in range(NUMBERS):
        cells = np.round(draw.normal(100, 15, people), 1)
        frame[f"m{name}"] = np.where(draw.random(people) < 0.05, np.nan, cells)
    for name, values in {"sex": "FM", "smoking": "nfc", "ward": "abc"}.items():
        frame[name] = draw.choice(list(values), people)
    risk = 1 / (1 + np.exp(3 - 0.05 * (frame["m0"].fillna(100) - 100)))
    died = draw.random(people) < risk
    frame["death_date"] = (
        start + pd.to_timedelta(draw.integers(30, 3000, people), unit="D")
    ).where(died)
    frame["censor_date"] = pd.Timestamp("2020-01-01")
    folder.mkdir()
    frame.to_csv(folder / "people.csv", index=False)
    half = NUMBERS // 2
    first = ", ".join(f"m{name}: number" for name in range(half))
    second = ", ".join(f"m{name}: number" for name in range(half, NUMBERS))
    recipe = folder / "two_tables.yaml"
    recipe.write_text(RECIPE)
    text = COHORT.format(first=first, second=second, recipe=recipe)
    (folder / "cohort.yaml").write_text(text)
    (folder / "alone.yaml").write_text(text.partition("recipe:")[0])


def measure(checkout: Path, words: list[str], folder: Path) -> dict[str, float]:
    """Processor seconds and peak memory (MB) of a command, and of the processes it started.

    Raises:
        RuntimeError: It failed; of ``check``, which may find faults, otherwise than by telling them.
    """
    child = os.fork()
    if child:
        _, status, used = os.wait4(child, 0)
        if os.waitstatus_to_exitcode(status) not in ((0, 2) if "check" in words else (0,)):
            said = (folder / "log").read_text("utf-8", errors="replace")
            raise RuntimeError(f"{words} failed in {checkout}:\n{said}")
        return {"seconds": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}
    try:
        os.chdir(checkout)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        env["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
        with (folder / "log").open("w") as log:
            done = subprocess.run([sys.executable, *words], stdout=log, stderr=log, env=env)
        os._exit(done.returncode)
    finally:
        os._exit(1)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure size by size; the least of all rounds."""
    sides = {"before": given.before.resolve(), "after": ROOT}
    opening = "import sys, medmcl; medmcl.open_cohort(sys.argv[1])"
    rows = [row for row in STUDY.kept(given.out) or () if row["people"] not in given.people]
    with tempfile.TemporaryDirectory() as made:
        for people in given.people:
            folder = Path(made) / str(people)
            write_cohort(folder, people)
            cohort, out = str(folder / "cohort.yaml"), str(folder / "run")
            alone = str(folder / "alone.yaml")
            both = {
                "opening": ["-c", opening, cohort],
                "check": ["-m", "medmcl", "check", "--cohort", alone, "--workers", "0"],
                "check of a recipe": [
                    "-m",
                    "medmcl",
                    "check",
                    "--cohort",
                    cohort,
                    "--workers",
                    "0",
                ],
            }
            once = {
                "report": ["pretrain", "--cohort", cohort, "--out", f"{out}_report", *REPORT],
                "training of 20 steps": ["pretrain", "--cohort", cohort, "--out", out],
                "embedding": ["embed", out, "--cohort", cohort, "--out", f"{folder}/rows.parquet"],
            }
            for step, words in both.items():
                row: dict[str, Any] = {"people": people, "step": step}
                for _ in range(REPEATS):
                    for side, checkout in sides.items():
                        found = measure(checkout, words, folder)
                        row[side] = min(found, row.get(side, found), key=lambda one: one["seconds"])
                rows.append(row)
            for step, words in once.items():
                found = measure(ROOT, ["-m", "medmcl", *words], folder)
                rows.append({"people": people, "step": step, "after": found})
            yield sorted(rows, key=lambda row: int(row["people"]))


def parts(rows: list[Row]) -> dict[str, str]:
    flat = []
    for row in rows:
        before, after = row.get("before"), row["after"]
        flat.append(
            {
                **row,
                "s before": before and before["seconds"],
                "s": after["seconds"],
                "ratio": before and before["seconds"] / after["seconds"],
                "MB before": before and before["mb"],
                "MB": after["mb"],
            }
        )
    columns = {
        "people": number("people"),
        "step": "step",
        "s before": number("s before", ".1f"),
        "s": number("s", ".1f"),
        "before / now": number("ratio", ".1f"),
        "MB before": number("MB before", ",.0f"),
        "MB": number("MB", ",.0f"),
    }
    return {"scale": table(columns, flat)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--before", type=Path, required=True, help="an older checkout")
    parser.add_argument("--people", type=int, nargs="+", default=PEOPLE, help="default: all sizes")


STUDY = Study(__file__, parts=parts, run=run, options=options, before="dcbc476")

if __name__ == "__main__":
    STUDY.main()
