"""Whether a rebuilt house writes the same reports as it did, byte for byte.

``python -m benchmarks.evaluation.same_reports WORK --before CHECKOUT`` trains toy recipes in the other
checkout, a few steps a stage, and keeps the runs in WORK by its commit. Either checkout then writes the
reports of these runs anew (HTML, CSV, JSON and model card, without the clock), by ``resume`` of a copy
whose reports were taken away: nothing is trained, everything is scored. ``made`` is the report that the
tests make up, with every section that a page can have.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.evaluation.evaluation_cost import COHORTS, RECIPES
from benchmarks.study import ROOT, Row, Study, commit, table

WRITE = """
import hashlib, json, shutil, sys, tempfile, types
from pathlib import Path
import torch
import medmcl
import medmcl.stages.evaluate.stage as scoring
from medmcl.stages.recipe.file import read_recipe
torch.set_num_threads(1)
recipe, cohort, kept = sys.argv[1:]
folder = Path(tempfile.mkdtemp()) / recipe
if recipe == "made":
    for place in ("tests/support", "tests"):
        sys.path.insert(0, str(Path(medmcl.__file__).parents[1] / place))
    from made_report import full_report
    from medmcl.evaluation.report.page import write_report
    folder.mkdir()
    write_report(folder / "report.html", full_report())
else:
    given = {}
    for stage in read_recipe(recipe).stages:
        if stage.stage == "train":
            given[f"stages.{stage.name}.steps"] = 6
        if stage.stage == "evaluate":
            given[f"stages.{stage.name}.bootstrap_draws"] = 100
        if stage.stage == "poison":
            given[f"stages.{stage.name}.count"] = 100
    asked = {"recipe": recipe, "seed": 0, "device": "cpu", "overrides": given}
    if not (Path(kept) / "report.html").exists():
        medmcl.pretrain(cohort, out=kept, **asked)
    shutil.copytree(kept, folder)
    for form in ("*.html", "*.csv", "*.md", "report.json"):
        for file in folder.glob(form):
            file.unlink()
    scoring.time = types.SimpleNamespace(monotonic=lambda: 0.0)
    medmcl.pretrain(cohort, out=folder, resume=True, **asked)
files = [file for form in ("*.html", "*.csv", "*.md", "report.json") for file in folder.rglob(form)]
print(json.dumps({
    str(file.relative_to(folder)): hashlib.sha256(
        file.read_bytes().replace(str(folder).encode(), b"RUN")
    ).hexdigest()
    for file in sorted(files)
}))
"""
SHOWN = ("clip_toy", "poisoned_toy", "limoe_toy", "autobind_paper_toy", "select_then_train_toy",
         "deconfound_toy", "ecg_cmr_toy", "risk_table_toy", "made")  # fmt: skip
"""Between them every aspect of a report that a simulated cohort can have."""
MOST_NAMED = 6
SUBJECTS = 800


def written(root: Path, recipe: str, cohort: str, kept: Path) -> dict[str, str]:
    """Each file of a report to its hash; the last lines of what went wrong under ``fault``."""
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", WRITE, recipe, cohort, str(kept)]
    done = subprocess.run(call, cwd=root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"fault": " ".join(done.stderr.strip().splitlines()[-4:])}
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--recipes", nargs="+", default=list(SHOWN))


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "report": "recipe",
        "files, equal of all": lambda row: f"{row['equal']} of {row['files']}",
        "other": lambda row: ", ".join(row["other"][:MOST_NAMED]) or "-",
        "fault": "fault",
    }
    return {"same": table(columns, rows)}


def run(given: argparse.Namespace) -> list[Row]:
    """Write the reports of the same runs in both checkouts, compare."""
    import medmcl

    rows: list[Row] = []
    work, before = given.work.resolve(), given.before.resolve()
    for recipe in given.recipes:
        name = RECIPES.get(recipe, "heart")
        cohort = work / name.replace(", ", "_")
        if not cohort.exists():
            kind, settings = COHORTS[name]
            medmcl.simulate(kind, cohort, {**settings, "subjects": SUBJECTS})
        kept = work / f"runs-{commit(before)}" / recipe
        old, new = (written(root, recipe, str(cohort), kept) for root in (before, ROOT))
        faults = [side.pop("fault") for side in (old, new) if "fault" in side]
        every = sorted({*old, *new})
        other = [file for file in every if old.get(file) != new.get(file)]
        rows.append({"recipe": recipe, "files": len(every), "equal": len(every) - len(other),
                     "other": other, "fault": "; ".join(faults)})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


STUDY = Study(__file__, parts=parts, run=run, options=options, before="9f8426d6")

if __name__ == "__main__":
    STUDY.main()
