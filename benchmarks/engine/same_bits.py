"""Whether a rebuilt house trains the same weights and scores the same numbers as it did, bit for bit.

``python -m benchmarks.engine.same_bits WORK --before CHECKOUT`` trains toy recipes in either checkout, a few
steps a stage, on the same simulated cohorts: by recipe, how
many tensors of how many are equal to the last bit, and how many numbers of ``results.csv``. What either
checkout gave is kept in WORK by its commit, so that one side may be run before the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.evaluation.evaluation_cost import COHORTS, REAL, RECIPES
from benchmarks.study import ROOT, Cell, Row, Study, commit, table

TRAIN = """
import csv, hashlib, json, sys, tempfile
from pathlib import Path
import torch, yaml
import medmcl
from safetensors.torch import load_file
torch.set_num_threads(1)
try:
    from medmcl.stages.recipe.file import read_recipe
except ImportError:
    from medmcl.stages.recipe_file import read_recipe

recipe, cohort = sys.argv[1:]
spec = read_recipe(recipe)
given = {}
for stage in spec.stages:
    if stage.stage == "train":
        given[f"stages.{stage.name}.steps"] = 4
    if stage.stage == "evaluate":
        given[f"stages.{stage.name}.bootstrap_draws"] = 100
folder = Path(tempfile.mkdtemp()) / "run"
medmcl.pretrain(cohort, recipe=recipe, out=folder, seed=0, device="cpu", overrides=given)
bits = {}
for file in sorted(folder.rglob("weights.safetensors")):
    where = file.relative_to(folder).parts
    for name, tensor in load_file(file).items():
        held = tensor.contiguous().view(torch.uint8) if tensor.ndim else tensor.reshape(1).view(torch.uint8)
        bits["/".join(where[:-1]) + ":" + name] = hashlib.sha256(held.numpy().tobytes()).hexdigest()
rows = {}
for row in csv.DictReader((folder / "results.csv").open()):
    key = "|".join(row[k] for k in ("task", "target", "method", "metric", "label_fraction", "kind", "baseline") if k in row)
    while key in rows:
        key += "'"
    rows[key] = [row[k] for k in ("value", "low", "high")]
print(json.dumps({"bits": bits, "rows": rows}))
"""


def trained(root: Path, recipe: str, cohort: str, work: Path) -> dict[str, dict[str, object]]:
    """Hashes of every tensor and the numbers of every row, kept by commit."""
    kept = work / f"bits-{commit(root)}" / f"{recipe}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True, parents=True)
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        call = [sys.executable, "-c", TRAIN, recipe, cohort]
        done = subprocess.run(call, cwd=work, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return {
                "bits": {},
                "rows": {},
                "fault": {"said": " ".join(done.stderr.strip().splitlines()[-4:])},
            }
        kept.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    found: dict[str, dict[str, object]] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--only-before", action="store_true")
    parser.add_argument("--recipes", nargs="+", default=[n for n in RECIPES if RECIPES[n] != REAL])


def parts(rows: list[Row]) -> dict[str, str]:
    def same(key: str) -> Cell:
        def show(row: Row) -> str:
            alike, before, more = row[key]
            return f"{alike:,} of {before:,}" + (f"; {more:+,}" if more else "")

        return show

    columns = {
        "recipe": "recipe",
        "tensors": same("tensors"),
        "rows": same("rows"),
        "fault": "fault",
    }
    return {"same": table(columns, rows)}


def run(given: argparse.Namespace) -> list[Row] | None:
    """Train in both checkouts, compare."""
    import medmcl

    rows: list[Row] = []
    for recipe in given.recipes:
        name = RECIPES[recipe]
        cohort = given.work / name.replace(", ", "_")
        if not cohort.exists():
            medmcl.simulate(COHORTS[name][0], cohort, COHORTS[name][1])
        before = trained(given.before.resolve(), recipe, str(cohort.resolve()), given.work)
        if given.only_before:
            continue
        after = trained(ROOT, recipe, str(cohort.resolve()), given.work)
        row: Row = {"recipe": recipe}
        for key, part in (("tensors", "bits"), ("rows", "rows")):
            old, new = before[part], after[part]
            alike = sum(new.get(name) == one for name, one in old.items())
            row[key] = [alike, len(old), len(new) - len(old)]
        row["fault"] = "; ".join(
            str(side["fault"]["said"]) for side in (before, after) if "fault" in side
        )
        rows.append(row)
        print(row, flush=True)
    return None if given.only_before else rows


STUDY = Study(__file__, parts=parts, run=run, options=options, before="2bdbc53")

if __name__ == "__main__":
    STUDY.main()
