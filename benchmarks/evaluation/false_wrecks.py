"""How many sound runs are called wrecked: every toy recipe, several seeds.

``OMP_NUM_THREADS=1 python benchmarks/evaluation/false_wrecks.py WORK [--seeds 0 1 2]`` trains each toy recipe on
the cohorts of ``evaluation_cost`` (kept in the folder WORK), without its evaluate stage, and writes
``false_wrecks.md`` beside itself. What is wrecked on purpose and must be told is in
``tests/stages/train``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml
from evaluation_cost import COHORTS, REAL, RECIPES

import medmcl
from medmcl.stages.recipe.file import read_recipe

HERE = Path(__file__)


def wrecked(recipe: str, cohort: str, seed: int) -> dict[str, str]:
    """Train a recipe without what evaluates it; stages that are called wrecked, and why."""
    tree = read_recipe(recipe).model_dump(mode="json", by_alias=True, exclude_unset=True)
    tree["stages"] = [one for one in tree["stages"] if one["stage"] != "evaluate"]
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "recipe.yaml"
        alone.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        run = medmcl.pretrain(cohort, recipe=alone, out=Path(folder) / "run", seed=seed)
        assert run is not None
        return dict(run.wrecked)


def main() -> None:
    """Train each recipe and seed; write what was found after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    rows: list[str] = []
    runs = false = 0
    for recipe, name in RECIPES.items():
        cohort = REAL if name == REAL else str(given.work / name.replace(", ", "_"))
        if name != REAL and not Path(cohort).exists():
            medmcl.simulate(COHORTS[name][0], cohort, COHORTS[name][1])
        cells = []
        for seed in given.seeds:
            found = wrecked(recipe, cohort, seed)
            runs, false = runs + 1, false + bool(found)
            cells.append(json.dumps(found) if found else "none")
            print(recipe, seed, found, file=sys.stderr, flush=True)
        rows.append(f"| {recipe} | {' | '.join(cells)} |")
        head = " | ".join(f"seed {seed}" for seed in given.seeds)
        told = " ".join(map(str, given.seeds))
        page = f"""# Sound runs that are called wrecked

`OMP_NUM_THREADS=1 python benchmarks/evaluation/false_wrecks.py WORK --seeds {told}`: every toy recipe on the
cohorts of [evaluation_cost](evaluation_cost.md), without its evaluate stage. Stages that are called wrecked:
{false} of {runs} runs have one.

| recipe | {head} |
|---|{"---|" * len(given.seeds)}
{chr(10).join(rows)}
"""
        HERE.with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
