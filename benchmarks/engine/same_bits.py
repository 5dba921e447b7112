"""Whether a rebuilt house trains the same weights and scores the same numbers as it did, bit for bit.

``python benchmarks/engine/same_bits.py WORK --before CHECKOUT`` trains toy recipes in either checkout, a few
steps a stage, on the same simulated cohorts, and writes ``same_bits.md`` beside itself: by recipe, how
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

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]

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
    call = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        call, cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()
    kept = work / f"bits-{commit}" / f"{recipe}.json"
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


def main() -> None:
    """Train in both checkouts, compare, write the page."""
    sys.path.insert(0, str(HERE.parents[1] / "evaluation"))
    from evaluation_cost import COHORTS, REAL, RECIPES

    import medmcl

    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--only-before", action="store_true")
    parser.add_argument("--recipes", nargs="+", default=[n for n in RECIPES if RECIPES[n] != REAL])
    given = parser.parse_args()

    lines = []
    for recipe in given.recipes:
        name = RECIPES[recipe]
        cohort = given.work / name.replace(", ", "_")
        if not cohort.exists():
            medmcl.simulate(COHORTS[name][0], cohort, COHORTS[name][1])
        before = trained(given.before.resolve(), recipe, str(cohort.resolve()), given.work)
        if given.only_before:
            continue
        after = trained(ROOT, recipe, str(cohort.resolve()), given.work)
        cells = []
        for part in ("bits", "rows"):
            old, new = before[part], after[part]
            same = sum(new.get(key) == one for key, one in old.items())
            cells.append(
                f"{same:,} of {len(old):,}"
                + (f"; {len(new) - len(old):+,}" if len(new) != len(old) else "")
            )
        fault = [str(side["fault"]["said"]) for side in (before, after) if "fault" in side]
        lines.append(f"| {recipe} | {cells[0]} | {cells[1]} | {'; '.join(fault)} |")
        print(lines[-1], flush=True)
    if given.only_before:
        return
    commits = [
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for root in (given.before, ROOT)
    ]
    page = f"""# The same weights and numbers as before

`python benchmarks/engine/same_bits.py WORK --before CHECKOUT`: toy recipes, 4 steps a train stage, seed 0, one thread;
commits {commits[0]} and {commits[1]}. Tensors of all checkpoints that are equal to the last bit, and rows of
`results.csv` whose value and interval are; what follows a semicolon is how many more there are now.
Recipes that are not named were not run.

| recipe | tensors | rows | fault |
|---|---|---|---|
{chr(10).join(lines)}
"""
    HERE.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
