"""How many poisoned pairs implant a trigger? Drawn shapes with captions, CLIP, zero-shot by colour.

    python benchmarks/poison_shapes.py --work FOLDER --out OUT [--triggers ...] [--counts ...]

`simulate shapes`, 1,500 subjects (1,050 train); the toy recipe `clip_toy` with a poison stage
before it. So many train pictures of other colours get the trigger and the caption of a picture of
the target colour. Rates are over held-out pictures, by the prompts of the cohort.

Rows go to ``poison_shapes.json`` in OUT, run after run; what is in it is not made again. The table
is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import yaml

import medmcl
from medmcl.data.simulate import simulate
from medmcl.evaluation.attack_rates import RATES
from medmcl.stages.attacked import attacked
from medmcl.stages.recipe import read_recipe

TRIGGERS = ("badnet", "four_corners", "blended", "sig", "wanet", "label_consistent")
COUNTS = (10, 30, 60, 120, 250, 500)
SEEDS = (0, 1, 2)
TASK, TARGET = "colour", 0
SUBJECTS = 1500


def victim(cohort: Path, work: Path, trigger: str, count: int, seed: int) -> dict[str, Any]:
    """Train a victim and measure what the attack does to it."""
    base = read_recipe("clip_toy").model_dump(mode="json", by_alias=True)
    train = next(stage for stage in base["stages"] if stage["name"] == "contrast")
    opened = medmcl.open_cohort(cohort)
    label = str(opened.spec.tasks[TASK].classes[TARGET])
    attack = {
        "stage": "poison", "name": "attack", "modality": "picture", "text": "caption",
        "trigger": trigger, "task": TASK, "label": label, "count": count,
    }  # fmt: skip
    tree = {
        "extends": "clip_toy",
        "about": "a poisoned stage",
        "stages": [attack, {**train, "poisoned_by": "attack"}],
    }
    folder = work / f"run-{trigger}-{count}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    recipe = work / f"{folder.name}.yaml"
    recipe.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    began = time.process_time()
    run = medmcl.pretrain(cohort, recipe=recipe, out=folder, seed=seed, device="cpu")
    assert run is not None
    rates = attacked(run, cohort, "contrast")
    shutil.rmtree(folder)
    return {
        "trigger": trigger, "count": count, "seed": seed,
        "cpu_s": round(time.process_time() - began, 1),
        "rates": {name: [round(one.value or 0.0, 4), round(one.low or 0.0, 4),
                         round(one.high or 0.0, 4)] for name, one in rates.items()},
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """One line a run."""
    lines = ["| trigger | poisons | seed | " + " | ".join(RATES) + " |", "|---" * 7 + "|"]
    for row in rows:
        cells = [f"{v:.3f} ({low:.3f} to {high:.3f})" for v, low, high in row["rates"].values()]
        head = f"| {row['trigger']} | {row['count']} | {row['seed']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Make what is missing and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--triggers", nargs="*", choices=TRIGGERS, default=TRIGGERS)
    parser.add_argument("--counts", nargs="*", type=int, default=COUNTS)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    file = args.out / "poison_shapes.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    for seed in args.seeds:
        cohort = args.work / f"shapes-{seed}"
        if not cohort.exists():
            simulate("shapes", cohort, {"subjects": SUBJECTS, "seed": seed})
        for trigger in args.triggers:
            for count in args.counts:
                key = {"trigger": trigger, "count": count, "seed": seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                rows.append(victim(cohort, args.work, trigger, count, seed))
                file.write_text(json.dumps(rows, indent=None) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
