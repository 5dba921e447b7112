"""What the evaluation of every toy recipe costs beside its training, in CPU seconds of one run.

``python benchmarks/evaluation/evaluation_cost.py WORK [RECIPE ...]`` simulates the cohorts into the folder
WORK, trains and evaluates each toy recipe there (all of them by default), keeps the numbers in
``evaluation_cost.json`` and writes ``evaluation_cost.md`` beside itself. Torch and BLAS have one
thread, so that CPU seconds are those of a calm machine; each run is a process of its own.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

HERE = Path(__file__)
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

WHY = {
    "claime_toy": " (it trains for {training:.2f} s: its evaluation alone, {evaluation:.2f} s, takes "
    "more, and no report can cost less)"
}


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


def one(recipe: str, cohort: str, profile: str) -> dict[str, float]:
    """Train and evaluate a recipe; CPU seconds by part."""
    import tempfile

    import torch

    import medmcl
    from medmcl.stages.evaluate import stage
    from medmcl.stages.run import pretrain

    torch.set_num_threads(1)
    spent: dict[str, float] = {}
    pretrain.run_stage = timed(pretrain.run_stage, spent, "training")
    stage.run_evaluate = timed(stage.run_evaluate, spent, "evaluation")
    pretrain.write_run_report = timed(pretrain.write_run_report, spent, "report")
    with tempfile.TemporaryDirectory() as folder, cProfile.Profile() as watch:
        if not profile:
            watch.disable()
        run = medmcl.pretrain(cohort, recipe=recipe, out=Path(folder) / "run")
        wrecked = len(run.wrecked) if run is not None else 0
    if profile:
        pstats.Stats(watch).dump_stats(profile)
    return {"wrecked": wrecked, **{name: round(seconds, 2) for name, seconds in spent.items()}}


def page(found: dict[str, dict[str, float]]) -> str:
    """The table as Markdown."""
    lines = []
    for recipe, part in sorted(found.items()):
        training, rest = part["training"], part["evaluation"] + part["report"]
        kind, settings = COHORTS.get(RECIPES[recipe], (REAL, {}))
        people = f"{kind}, {settings['subjects']:,}" if settings else f"{kind} (real)"
        share = f"{100 * rest / training:,.0f} %"
        lines.append(
            f"| {recipe} | {people} | {training:.2f} | "
            f"{part['evaluation']:.2f} | {part['report']:.2f} | {share} |"
        )
    share_of = {
        recipe: (part["evaluation"] + part["report"]) / part["training"]
        for recipe, part in found.items()
    }
    above = [name for name, share in sorted(share_of.items()) if share > 1]
    missing = sorted({*RECIPES} - {*found})
    left = [f"- `{name}`: {why}" for name, why in LEFT_OUT.items()]
    left += [f"- `{name}`: not run" for name in missing]
    wrecked = sum(part.get("wrecked", 0) > 0 for part in found.values()) or "none"
    said = (
        "; ".join(f"`{name}`{WHY.get(name, '').format(**found[name])}" for name in above) or "none"
    )
    return f"""# Evaluation beside training

`OMP_NUM_THREADS=1 python benchmarks/evaluation/evaluation_cost.py WORK`; CPU seconds within one run and one
process, one thread. Evaluation is everything in the evaluate stage: embeddings, probes, metrics,
1,000 or 400 bootstrap draws as the recipe says, confounders, retrieval. Report is the page with all
of its figures, most of it matplotlib; share is what both take of the training. All rows are of one
commit (0647a31), in two calls; the machine was shared with other work, and CPU seconds were up to
1.7 times those of a calm one, not evenly, so that one run does not settle on which side of 100 % a
share near it lies: none is between 85 and 115 %.

The aim is that evaluation and report take less than the training. {len(found) - len(above)} of
{len(found)} recipes meet it in this run. Above: {said}. Of these sound runs {wrecked} have a stage
that is called wrecked.

What remains, in a profile of `mcl_toy` and `ecg_scratch_toy`: people are encoded one at a time, so
that `predict` gives the same bits (a pass over several may sum in another order); logistic fits;
bands of calibration curves; and drawing: text and ticks of axes, whose room is measured twice
(measured once, tick labels were cut off).

Withdrawn: small fits side by side over cores. Measured by
`OMP_NUM_THREADS=1 python benchmarks/evaluation/fit_speed.py`: two threads beside one after another
gave 0.92 to 1.07 times the pace in the median at four sizes, and 1.29 at most in any round, on a
loaded machine ([fit_speed](fit_speed.md#side-by-side-over-cores)); below 1.3 in the median it was
not built.

| recipe | cohort (`medmcl simulate`, subjects; or real) | training | evaluation | report | share |
|---|---|---|---|---|---|
{chr(10).join(lines)}

Left out:

{chr(10).join(left)}
"""


def main(work: Path, recipes: list[str]) -> None:
    """Run each recipe in a process of its own; write what was found after each."""
    import medmcl

    kept = HERE.with_suffix(".json")
    for recipe in recipes or list(RECIPES):
        name = RECIPES[recipe]
        cohort = REAL if name == REAL else str(work / name.replace(", ", "_"))
        if name != REAL and not Path(cohort).exists():
            medmcl.simulate(COHORTS[name][0], cohort, COHORTS[name][1])
        call = [sys.executable, str(HERE), "--one", recipe, cohort]
        done = subprocess.run(
            call, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        if done.returncode:
            print(f"{recipe}: {done.stderr[-600:]}", flush=True)
            continue
        spent = json.loads(done.stdout.splitlines()[-1])
        print(recipe, spent, flush=True)
        found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        found[recipe] = spent
        kept.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        HERE.with_suffix(".md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        where = sys.argv[4] if len(sys.argv) > 4 else ""
        print(json.dumps(one(sys.argv[2], sys.argv[3], where)))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
