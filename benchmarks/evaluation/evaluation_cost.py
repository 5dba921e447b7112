"""What the evaluation of every toy recipe costs beside its training, in CPU seconds of one run.

``OMP_NUM_THREADS=1 python -m benchmarks.evaluation.evaluation_cost WORK [RECIPE ...]`` simulates the
cohorts into the folder WORK, trains and evaluates each toy recipe there (all of them by default).
Torch and BLAS have one thread, so that CPU seconds are those of a calm machine; each run is a process
of its own.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, Row, Study, number, percent, table

COHORTS: dict[str, tuple[str, dict[str, Any]]] = {
    "heart": ("heart", {"subjects": 1000, "form": "shards"}),
    "shapes": ("shapes", {"subjects": 1000}),
    "shapes, noisy": ("shapes", {"subjects": 1000, "noisy_pairs": 0.2}),
    "trifactor": ("trifactor", {"subjects": 3000}),
    "modalities": ("modalities", {"subjects": 1000}),
    "ehr": ("ehr", {"subjects": 1000, "codes": 30, "concepts": 30}),
}
"""Of the sizes that the recipes' own lines and docs/ speak of."""
REAL = "ptbxl"
"""No simulated ECG has a report: this cohort is read where ``MEDMCL_DATA`` holds it."""
RECIPES = {
    "autobind_paper_toy": "modalities",
    "autobind_toy": "modalities",
    "claime_toy": "ehr",
    "cleanclip_toy": "shapes",
    "clip_toy": "shapes",
    "deconfound_toy": "trifactor",
    "dissect_toy": "shapes, noisy",
    "ecg_cmr_no_mdm_toy": "heart",
    "ecg_cmr_toy": "heart",
    "ecg_mdm_toy": "heart",
    "ecg_scratch_toy": "heart",
    "ecg_simclr_toy": "heart",
    "ecg_text_toy": REAL,
    "limoe_ecg_toy": REAL,
    "limoe_toy": "shapes",
    "mcl_clip_toy": "trifactor",
    "mcl_toy": "trifactor",
    "par_toy": "shapes",
    "poisoned_toy": "shapes",
    "select_ecg_text_toy": REAL,
    "select_then_train_toy": "shapes, noisy",
    "siglip_toy": "shapes",
    "supervised_cure_toy": "shapes",
}
LEFT_OUT = {
    "ehr_contrastive_toy": "no simulated cohort has codes and notes",
    "risk_table_toy": "nothing is trained but its probes",
    "volume_graph_toy": "no simulated cohort has volumes and graphs",
}


ONE = "from benchmarks.evaluation.evaluation_cost import one; one"


def cpu() -> float:
    """CPU seconds of this process and of the children that have ended."""
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def timed(work: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    """The same work; its CPU seconds are added to those of a name."""

    @wraps(work)
    def run(*args: Any, **more: Any) -> Any:
        began = cpu()
        try:
            return work(*args, **more)
        finally:
            spent[name] = spent.get(name, 0.0) + cpu() - began

    return run


def one(recipe: str, cohort: str, profile: str) -> None:
    """Train and evaluate a recipe; print CPU seconds by part."""
    import tempfile

    import torch

    import medmcl
    from medmcl.stages.evaluate import stage
    from medmcl.stages.run import report, training

    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    training.run_stage = timed(training.run_stage, spent, "training")
    stage.run_evaluate = timed(stage.run_evaluate, spent, "evaluation")
    report.write_run_report = timed(report.write_run_report, spent, "report")
    with tempfile.TemporaryDirectory() as folder, cProfile.Profile() as watch:
        if not profile:
            watch.disable()
        run = medmcl.pretrain(cohort, recipe=recipe, out=Path(folder) / "run")
        wrecked = len(run.wrecked) if run is not None else 0
    if profile:
        pstats.Stats(watch).dump_stats(profile)
    rounded = {name: round(seconds, 2) for name, seconds in spent.items()}
    print(json.dumps({"wrecked": wrecked, **rounded}))


def parts(found: dict[str, Row]) -> dict[str, str]:
    """The table, and how many recipes meet the aim."""
    rows = []
    for recipe, part in sorted(found.items()):
        kind, settings = COHORTS.get(RECIPES[recipe], (REAL, {}))
        people = f"{kind}, {settings['subjects']:,}" if settings else f"{kind} (real)"
        share = (part["evaluation"] + part["report"]) / part["training"]
        rows.append({"recipe": recipe, "cohort": people, **part, "share": share})
    columns = {
        "recipe": "recipe",
        "cohort (`medmcl simulate`, subjects; or real)": "cohort",
        **{name: number(name, ".2f") for name in ("training", "evaluation", "report")},
        "share": percent("share"),
    }
    left = {**LEFT_OUT, **dict.fromkeys(sorted({*RECIPES} - {*found}), "not run")}
    met = sum(row["share"] <= 1 for row in rows)
    return {
        "costs": table(columns, rows),
        "met": f"{met} of {len(rows)}",
        "above": ", ".join(f"`{row['recipe']}`" for row in rows if row["share"] > 1) or "none",
        "wrecked": str(sum(part.get("wrecked", 0) > 0 for part in found.values()) or "none"),
        "left out": "\n".join(f"- `{name}`: {why}" for name, why in left.items()),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--profile", default="", help="file for a profile of the last recipe")


def run(given: argparse.Namespace) -> Iterator[dict[str, Row]]:
    """Run each recipe in a process of its own; the numbers of all that are kept, after each."""
    import medmcl

    found = STUDY.kept(given.out) or {}
    for recipe in given.recipes:
        name = RECIPES[recipe]
        cohort = REAL if name == REAL else str(given.work.resolve() / name.replace(", ", "_"))
        if name != REAL and not Path(cohort).exists():
            medmcl.simulate(COHORTS[name][0], cohort, COHORTS[name][1])
        call = [sys.executable, "-c", f"{ONE}({recipe!r}, {cohort!r}, {given.profile!r})"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(call, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{recipe}: {done.stderr[-600:]}", flush=True)
            continue
        found[recipe] = json.loads(done.stdout.splitlines()[-1])
        print(recipe, found[recipe], flush=True)
        yield found


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
