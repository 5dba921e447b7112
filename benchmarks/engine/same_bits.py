"""Whether a rebuilt house trains the same weights and scores the same numbers as it did, bit for bit.

``python -m benchmarks.engine.same_bits WORK --before CHECKOUT`` trains toy recipes in either checkout, a few
steps a stage, on the same simulated cohorts: by recipe, how
many tensors of how many are equal to the last bit (those that are called otherwise now among them), and how
many rows of ``results.csv`` with value and interval, and how the others differ (`apart`). What either checkout gave is kept in WORK by its commit, so
that one side may be run before the other; with ``--recipes`` the rows of others stay. Recipes for ECG and text
read PTB-XL, where ``MEDMCL_DATA`` holds it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine.start_up import write_table
from benchmarks.evaluation.evaluation_cost import COHORTS, REAL, RECIPES
from benchmarks.study import ROOT, Cell, Row, Study, commit, table

COHORT_OF = {
    **RECIPES,
    "risk_table_toy": "table",
    "ehr_contrastive_toy": "hospital",
    "volume_graph_toy": "volumes",
}
"""Recipe to a cohort of `evaluation_cost`, or one that is written here or by ``tests/support``."""
WAYS = ("rounding", "gone", "otherwise")
"""How rows differ; see `apart`."""

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
    parser.add_argument("--recipes", nargs="+", default=[*COHORT_OF])


def parts(rows: list[Row]) -> dict[str, str]:
    def same(key: str) -> Cell:
        def show(row: Row) -> str:
            alike, before, more = row[key]
            return f"{alike:,} of {before:,}" + (f"; {more:+,}" if more else "")

        return show

    columns = {
        "recipe": "recipe",
        "before": "before",
        "now": "commit",
        "tensors": same("tensors"),
        "rows": same("rows"),
        **dict(zip(("to 1e-9", "no interval now", "otherwise"), WAYS, strict=True)),
        "fault": "fault",
    }
    return {"same": table(columns, rows)}


def cohort_of(recipe: str, work: Path) -> str:
    """Give the cohort that a recipe is trained on, made in WORK if it is not there."""
    name = COHORT_OF[recipe]
    if name == REAL:
        return name
    folder = work.resolve() / name.replace(", ", "_")
    if folder.exists():
        return str(folder)
    if name in COHORTS:
        import medmcl

        medmcl.simulate(COHORTS[name][0], folder, COHORTS[name][1])
    elif name == "table":
        write_table(folder)
    else:
        sys.path.insert(0, str(ROOT / "tests" / "support"))
        import small_hospital
        import small_volumes

        write = {
            "hospital": small_hospital.write_hospital,
            "volumes": small_volumes.write_volumes,
        }
        write[name](folder)
    return str(folder)


def alike(old: dict[str, object], new: dict[str, object], *, by_value: bool) -> list[int]:
    """How many entries are the same, of how many, and how many more there are now.

    ``by_value``: an entry of which the name is gone may stand under a new name.
    """
    same = {name for name, one in old.items() if new.get(name) == one}
    gone = [old[name] for name in old if name not in new]
    fresh = [new[name] for name in new if name not in old] if by_value else []
    moved = 0
    for one in gone:
        if one in fresh:
            fresh.remove(one)
            moved += 1
    return [len(same) + moved, len(old), len(new) - len(old)]


def apart(old: list[str], new: list[str]) -> str:
    """Say how a row differs: by ``rounding``, by an interval that is ``gone``, or ``otherwise``.

    Gone: no interval is given where every draw gives the same number, as with a constant prediction.
    """
    near = [
        one == other
        or (one and other and math.isclose(float(one), float(other), rel_tol=1e-9, abs_tol=1e-12))
        for one, other in zip(old, new, strict=True)
    ]
    if all(near):
        return "rounding"
    drawn = [float(one) for one in old if one]
    is_one = new[1:] == ["", ""] and max(drawn) - min(drawn) < 1e-9
    return "gone" if near[0] and is_one else "otherwise"


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Train in both checkouts, compare; rows of other recipes stay."""
    rows = {row["recipe"]: row for row in STUDY.kept(given.out) or []}
    given.work.mkdir(parents=True, exist_ok=True)
    root = given.before.resolve()
    for recipe in given.recipes:
        cohort = cohort_of(recipe, given.work)
        before = trained(root, recipe, cohort, given.work)
        if given.only_before:
            continue
        after = trained(ROOT, recipe, cohort, given.work)
        fault = "; ".join(str(one["fault"]["said"]) for one in (before, after) if "fault" in one)
        told: tuple[dict[str, Any], dict[str, Any]] = (before["rows"], after["rows"])
        both = [(one, told[1][name]) for name, one in told[0].items() if name in told[1]]
        how = Counter(apart(*pair) for pair in both if pair[0] != pair[1])
        rows[recipe] = {
            "recipe": recipe,
            "before": commit(root),
            "tensors": alike(before["bits"], after["bits"], by_value=True),
            "rows": alike(before["rows"], after["rows"], by_value=False),
            **{way: how[way] for way in WAYS},
            "fault": fault,
        }
        print(rows[recipe], flush=True)
        yield [rows[name] for name in sorted(rows)]


STUDY = Study(__file__, parts=parts, run=run, options=options, before="2bdbc53")

if __name__ == "__main__":
    STUDY.main()
