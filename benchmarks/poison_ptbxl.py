"""Poisoned pairs of ECGs and reports on PTB-XL: how many implant a trigger, what cures, what finds.

    python benchmarks/poison_ptbxl.py --work FOLDER --out OUT [--seeds 0 1 2] [--jobs ...]

The cohort `ptbxl`, found by MEDMCL_DATA; the toy twins of the recipes that ship, at 100 Hz and 48
tokens. 1 to 5 % of the train pairs with exactly one superclass get a bell of 0.5 mV every second,
or a wave of 20 Hz and 0.1 mV, and the report of an ECG with an infarct (target MI). Held-out ECGs
with exactly one superclass are asked by the prompts of the cohort and by a linear probe, or the
head that a cure trained. With 5 % the three cures, and detectors on the victim's embeddings.

Settings are those of `poison_shapes.py`: nothing was chosen here. Rows go to ``poison_ptbxl.json``
in OUT, run after run; what is in it is not made again. ``poison_page.py`` prints the tables.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poison_shapes import CURES, asked, found_by, trained

import medmcl
import medmcl.stages.pretrain
from medmcl.data.cohort import Cohort

TASK, TARGET = "superclass", "MI"
SHARES = (0.01, 0.02, 0.03, 0.04, 0.05)
TRIGGERS = ("pulse", "sinusoid")
MOST = 0.05


def jobs() -> dict[str, dict[str, Any]]:
    """Give name to trigger and share; models of clean data first, asked about each trigger."""
    found = {f"{trigger} {100 * share:g} %": {"trigger": trigger, "share": share}
             for trigger in TRIGGERS for share in SHARES}  # fmt: skip
    clean = {f"clean, {trigger}": {"trigger": trigger, "share": 0.01, "clean": True}
             for trigger in TRIGGERS}  # fmt: skip
    return {**clean, **found}


def made(job: Mapping[str, Any], cohort: Cohort, work: Path, seed: int) -> dict[str, Any]:
    """Train a victim, and its cures where most is poisoned; ask them, and give the row."""
    sets: dict[str, Any] = {
        "stages.attack.trigger": job["trigger"], "stages.attack.task": TASK,
        "stages.attack.label": TARGET, "stages.attack.count": None,
        "stages.attack.share": job["share"], "kinds.text.input.max_tokens": 48,
    }  # fmt: skip
    if job.get("clean"):
        sets["stages.victim.poisoned_by"] = None
    runs = work / f"run-{job['trigger']}-{job['share']}-{seed}-{bool(job.get('clean'))}"
    shutil.rmtree(runs, ignore_errors=True)
    victim, seconds = trained("poisoned_toy", cohort, runs / "victim", sets, seed)
    done = victim.checkpoints("attack").done or {}
    row: dict[str, Any] = {
        "poisoned": done["poisoned"], "pool": done["rows"], "cpu_s": {"victim": seconds},
        "asked": {"victim": asked(victim, cohort, "victim")},
    }  # fmt: skip
    if job["share"] == MOST:
        row["auroc"] = found_by(victim, cohort)
        for name, more in CURES.items():
            own = {**sets, **more}
            if name == "supervised_cure":
                own |= {"stages.cured.task": TASK, "stages.cured.objectives.labels.task": TASK}
            recipe = f"{name.split(',')[0]}_toy"
            cured, seconds = trained(recipe, cohort, runs / "cured", own, seed, victim)
            row["cpu_s"][name] = seconds
            row["asked"][name] = asked(cured, cohort, "cured")
            shutil.rmtree(runs / "cured")
    shutil.rmtree(runs)
    return row


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", nargs="+")
    given = parser.parse_args()
    for name in ("write_run_report", "run_evaluate"):
        setattr(medmcl.stages.pretrain, name, lambda *_, **__: None)
    path = given.out / "poison_ptbxl.json"
    given.work.mkdir(parents=True, exist_ok=True)
    cohort = medmcl.open_cohort("ptbxl")
    for seed in given.seeds:
        for name, job in jobs().items():
            if given.jobs and name not in given.jobs:
                continue
            rows = json.loads(path.read_text()) if path.exists() else []
            if any((row["job"], row["seed"]) == (name, seed) for row in rows):
                continue
            row = {"job": name, "seed": seed, **made(job, cohort, given.work, seed)}
            path.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")
            print(name, seed, row["cpu_s"], flush=True)


if __name__ == "__main__":
    main()
