"""Poisoned pairs of drawn shapes and captions: how many implant a trigger, what cures, what finds.

    python -m benchmarks.poison.poison_shapes BLOCK --work FOLDER [--seeds 0 1 2] [--jobs ...]

BLOCK:

sweep     the four triggers that take, with 10 to 500 poisoned pairs of 2,100; `badnet` in half and
          in twice as many pairs too, trained for as many steps; and models of clean data, asked
          about each trigger
cures     every trigger with so many pairs that it implants, and the three cures of its victim;
          detectors on the victim's embeddings
tradeoff  CleanCLIP's cure of `badnet`, `blended` and `four_corners` at other rates
trusted   cures that see a tenth of the train subjects, for about as many steps, at the same rates

One world, `simulate shapes` with 3,000 subjects (seed 0); the seed is of attack and training.
Recipes are the toy twins that ship, in bf16. Held-out pictures are asked by prompts of the colours
and by a linear probe, or the head that a cure trained. What settings cures have was chosen in a
world of its own (seed 10).

Rows are kept run after run; what is kept is not made again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.poison.packed import packed
from benchmarks.poison.poison_page import draw, of_shapes
from benchmarks.study import Row, Study
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.aspects.attack.aspect import AttackSpec
from medmcl.simulation.kinds import simulate
from medmcl.stages.run.run import Run

SUBJECTS = 3000
COUNTS = (10, 30, 60, 120, 250, 500)
POOLS = {1500: 30, 6000: 7.5}
"""Subjects to epochs: as many steps as 3,000 take in 15."""
IMPLANTED = {
    "badnet": 250, "blended": 30, "sig": 60, "wanet": 250, "label_consistent": 200,
    "four_corners": 120,
}  # fmt: skip
"""Poisons with which cures are tried: by the sweep for the first two, guessed for the others."""
TAKEN = ("badnet", "blended", "sig", "four_corners")
"""Triggers that take with so many; the others were swept no further."""
CURES: dict[str, dict[str, Any]] = {
    "cleanclip": {},
    "cleanclip, pairs alone": {
        "stages.cured.objectives.of_record": None,
        "stages.cured.objectives.of_report": None,
    },
    "par": {},
    "supervised_cure": {},
}
"""Cure to what is set; its first word is the recipe. Pairs alone (of two triggers): what clean
pairs do by themselves."""
TRUSTED = {
    "stages.cured.subset": {"share": 0.1},
    "stages.cured.epochs": 80,
    "stages.cured.evaluate_every": 10,
}
"""A tenth of the train subjects, ten times as often."""
LOWER = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3)
RATES = {"badnet": LOWER, "blended": LOWER, "four_corners": (*LOWER, 5e-3)}
"""Trigger to rates of the cure, to the one that ships; above it where that one fails."""


def jobs(block: str) -> dict[str, dict[str, Any]]:
    """Give name to what one run is: victim's overrides, cures, cohort."""
    if block == "sweep":
        found = {f"{trigger} {count}": {"trigger": trigger, "count": count}
                 for trigger in TAKEN for count in COUNTS}  # fmt: skip
        for subjects, epochs in POOLS.items():
            for count in (60, 120, 250):
                found[f"badnet {count} of {subjects}"] = {
                    "trigger": "badnet", "count": count, "subjects": subjects, "epochs": epochs,
                }  # fmt: skip
            found[f"clean, badnet of {subjects}"] = {
                "trigger": "badnet", "count": 10, "subjects": subjects, "epochs": epochs,
                "clean": True,
            }  # fmt: skip
        clean = {f"clean, {trigger}": {"trigger": trigger, "count": 10, "clean": True}
                 for trigger in IMPLANTED}  # fmt: skip
        return {**clean, **found}
    if block == "cures":
        return {
            trigger: {
                "trigger": trigger, "count": count, "screened": True,
                "cures": {name: more for name, more in CURES.items()
                          if not more or trigger in ("badnet", "blended")},
            }
            for trigger, count in IMPLANTED.items()
        }  # fmt: skip
    if block == "tradeoff":
        return {
            f"{trigger}, rates": {
                "trigger": trigger, "count": IMPLANTED[trigger],
                "cures": {f"cleanclip {rate:g}": {"stages.cured.optimiser.lr": rate}
                          for rate in rates},
            }
            for trigger, rates in RATES.items()
        }  # fmt: skip
    cures = {name: {**more, **TRUSTED} for name, more in CURES.items()}
    return {
        f"{trigger}, a tenth": {"trigger": trigger, "count": IMPLANTED[trigger], "cures": cures}
        for trigger in ("badnet", "blended")
    }


def made(job: Mapping[str, Any], work: Path, seed: int) -> dict[str, Any]:
    """Train a victim and its cures, ask them, and give the row."""
    import medmcl.stages.run.pretrain

    subjects = job.get("subjects", SUBJECTS)
    folder = work / f"shapes-{subjects}"
    if not folder.exists():
        simulate("shapes", folder, {"subjects": subjects})
    cohort = medmcl.open_cohort(folder)
    sets = {"stages.attack.trigger": job["trigger"], "stages.attack.count": job["count"]}
    if "epochs" in job:
        sets["stages.victim.epochs"] = job["epochs"]
    if job.get("clean"):
        sets["stages.victim.poisoned_by"] = None
    runs = work / f"run-{job['trigger']}-{job['count']}-{subjects}-{seed}-{bool(job.get('clean'))}"
    shutil.rmtree(runs, ignore_errors=True)
    victim, seconds = trained("poisoned_toy", cohort, runs / "victim", sets, seed)
    row = {"cpu_s": {"victim": seconds}, "asked": {"victim": asked(victim, cohort, "victim")}}
    if job.get("screened"):
        row["auroc"] = found_by(victim, cohort)
    for name, more in job.get("cures", {}).items():
        recipe = f"{name.split(',')[0].split()[0]}_toy"
        cured, seconds = trained(recipe, cohort, runs / "cured", {**sets, **more}, seed, victim)
        row["cpu_s"][name] = seconds
        row["asked"][name] = asked(cured, cohort, "cured")
        shutil.rmtree(runs / "cured")
    shutil.rmtree(runs)
    return row


def trained(
    recipe: str,
    cohort: Cohort,
    out: Path,
    sets: Mapping[str, Any],
    seed: int,
    reuse: Run | None = None,
) -> tuple[Run, float]:
    """Train without evaluation and report; give the run and its CPU seconds."""
    import medmcl.stages.run.pretrain

    began = time.process_time()
    run = medmcl.pretrain(cohort, recipe=recipe, out=out, overrides=sets, seed=seed, device="cpu",
                          precision="bf16", reuse=reuse)  # fmt: skip
    assert run is not None
    return run, round(time.process_time() - began, 1)


def asked(run: Run, cohort: Cohort, stage: str) -> dict[str, Any]:
    """Give what each held-out record is told to be, clean and triggered, packed as bytes.

    ``people``: number of its person, two bytes each.
    """
    from medmcl.engine.world import pick_device
    from medmcl.stages.evaluate.attack.backdoor_eval import Asked

    notes: list[str] = []
    spec = AttackSpec(models={stage: stage}, ks=())
    prepared = run.prepare(cohort, tuple(run.recipe.inputs))
    one = Asked.of(spec, run, prepared, pick_device("cpu"), notes)
    found: dict[str, Any] = {
        protocol: [packed(told.argmax(axis=1), "u1") for told in logits[stage]]
        for protocol, logits in one.logits().items()
    }
    people = np.unique(prepared.subjects[one.rows], return_inverse=True)[1]
    found["people"] = packed(people, "<u2")
    found["truth"] = packed(one.task.shown[one.rows], "u1")
    return {**found, "target": one.task.target, "notes": notes}


def found_by(run: Run, cohort: Cohort) -> dict[str, float | None]:
    """Give the AUROC of every detector against the manifest, over the table of train records."""
    from medmcl.stages.screen.screen import screen

    screened = screen(run, cohort, stage="victim", modality=run.spec("attack").modality)
    return {name: one.auroc.value for name, one in screened.judged.items()}


def options(parser: argparse.ArgumentParser) -> None:
    """What the studies of poison are asked for."""
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", nargs="+")


def models_only() -> None:
    """Let runs end without evaluation and report."""
    import medmcl.stages.evaluate.stage
    import medmcl.stages.run.report

    medmcl.stages.run.report.write_run_report = lambda *_, **__: None
    medmcl.stages.evaluate.stage.run_evaluate = lambda *_, **__: None


def go_on(
    rows: list[Row],
    given: argparse.Namespace,
    jobs: Mapping[str, Mapping[str, Any]],
    make: Callable[[Mapping[str, Any], int], Row],
    **about: Any,
) -> Iterator[Row]:
    """Make the rows that are not there yet, and add each as soon as it is there."""
    models_only()
    given.work.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for name, job in jobs.items():
            if given.jobs and name not in given.jobs:
                continue
            key = {**about, "job": name, "seed": seed}
            if not any(key.items() <= row.items() for row in rows):
                rows.append({**key, **make(job, seed)})
                print(*key.values(), rows[-1]["cpu_s"], flush=True)
                yield rows[-1]


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Make what is not there yet."""
    rows = STUDY.kept(given.out) or []
    for _ in go_on(rows, given, jobs(given.block),
                   lambda job, seed: made(job, given.work, seed), block=given.block):  # fmt: skip
        yield rows


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("block", choices=("sweep", "cures", "tradeoff", "trusted"))
    options(parser)


STUDY = Study(__file__, parts=of_shapes, run=run, options=_options, draw=draw, page="poison")

if __name__ == "__main__":
    STUDY.main()
