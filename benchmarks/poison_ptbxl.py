"""Poisoned pairs of ECGs and reports on PTB-XL: how many implant a trigger, what cures, what finds.

    python benchmarks/poison_ptbxl.py --work FOLDER --out OUT [--seeds 0 1 2] [--jobs ...]

The cohort `ptbxl`, found by MEDMCL_DATA; the toy twins of the recipes that ship, at 100 Hz and 48
tokens. 1 to 5 % of the train pairs with exactly one superclass get a bell of 0.5 mV every second,
or a wave of 20 Hz and 0.1 mV, and the report of an ECG with an infarct (target MI). Held-out ECGs
with exactly one superclass are asked by the prompts of the cohort and by a linear probe, or the
head that a cure trained. With 5 % the three cures, which see all train subjects or a tenth (for as
many steps), and detectors on the victim's embeddings.

Settings are those of `poison_shapes.py`: nothing was chosen here. Rows go to ``poison_ptbxl.json``
in OUT, run after run; what is in it is not made again. ``poison_page.py`` prints the tables.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poison_shapes import CURES, TRUSTED, asked, found_by, go_on, study, trained

import medmcl
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
    for trigger in TRIGGERS:
        most = f"{trigger} {100 * MOST:g} %"
        found[most] |= {"cures": CURES, "screened": True}
        cures = {name: {**more, **TRUSTED} for name, more in CURES.items()}
        found[f"{most}, a tenth"] = {"trigger": trigger, "share": MOST, "cures": cures}
    return {**clean, **found}


def made(job: Mapping[str, Any], cohort: Cohort, work: Path, seed: int) -> dict[str, Any]:
    """Train a victim and its cures; ask them, and give the row."""
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
    if job.get("screened"):
        row["auroc"] = found_by(victim, cohort)
    for name, more in job.get("cures", {}).items():
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
    given = study(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    cohort = medmcl.open_cohort("ptbxl")
    go_on(given.out / "poison_ptbxl.json", given, jobs(),
          lambda job, seed: made(job, cohort, given.work, seed))  # fmt: skip


if __name__ == "__main__":
    main()
