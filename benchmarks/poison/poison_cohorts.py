"""Poisoned pairs of cohorts: how many implant a trigger, what cures, what finds.

    python -m benchmarks.poison.poison_cohorts COHORT --work FOLDER [--seeds 0 1 2] [--jobs ...]

COHORT, found by MEDMCL_DATA:

ptbxl      ECGs and reports at 100 Hz and 48 tokens. 1 to 5 % of the train pairs with exactly one
           superclass get a bell of 0.5 mV every second, or a wave of 20 Hz and 0.1 mV, and the
           report of an ECG with an infarct (target MI)
covid_cxr  X-rays and notes, 66 train pairs of 48 people. 10 or 20 of those without COVID-19 get a
           square or a blend and the note of one with it; 200 epochs, a batch each

The toy twins of the recipes that ship. Held-out records are asked by the prompts of the cohort and
by a linear probe, or the head that a cure trained. Where most is poisoned the three cures, and
detectors on the victim's embeddings; of PTB-XL also cures that see a tenth of the train subjects,
for about as many steps.

Settings are those of `poison_shapes.py`: nothing was chosen here. Rows are kept
run after run; what is kept is not made again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import medmcl
from benchmarks.poison.poison_page import of_cohorts
from benchmarks.poison.poison_shapes import CURES, TRUSTED, asked, found_by, go_on, options, trained
from benchmarks.study import Row, Study
from medmcl.data.cohort.cohort import Cohort


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What is done with a cohort.

    Attributes:
        task: Whose classes, and which the attacker wants.
        target: The class.
        triggers: Names.
        many: How many records are poisoned, from few to most, as ``key`` counts them.
        key: ``share`` or ``count``.
        sets: Settings of victim and cures.
        cured: Settings of cures.
        is_trusted: Whether cures are also tried on a tenth of the train subjects.
    """

    task: str
    target: str
    triggers: tuple[str, ...]
    many: tuple[float, ...]
    key: str
    sets: Mapping[str, Any]
    cured: Mapping[str, Any] = field(default_factory=dict)
    is_trusted: bool = False

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Name to trigger and number; models of clean data first, asked about each trigger."""
        found: dict[str, dict[str, Any]] = {}
        for trigger in self.triggers:
            found[f"clean, {trigger}"] = {"trigger": trigger, "many": self.many[0], "clean": True}
        for trigger in self.triggers:
            for many in self.many:
                found[self._name(trigger, many)] = {"trigger": trigger, "many": many}
        most = self.many[-1]
        for trigger in self.triggers:
            name = self._name(trigger, most)
            found[name] |= {"cures": CURES, "screened": True}
            if self.is_trusted:
                cures = {cure: {**more, **TRUSTED} for cure, more in CURES.items()}
                found[f"{name}, a tenth"] = {"trigger": trigger, "many": most, "cures": cures}
        return found

    def _name(self, trigger: str, many: float) -> str:
        return f"{trigger} {100 * many:g} %" if self.key == "share" else f"{trigger} {many:g}"

    def made(self, job: Mapping[str, Any], cohort: Cohort, runs: Path, seed: int) -> dict[str, Any]:
        """Train a victim and its cures; ask them, and give the row."""
        sets: dict[str, Any] = {
            "stages.attack.trigger": job["trigger"], "stages.attack.task": self.task,
            "stages.attack.label": self.target, "stages.attack.count": None,
            f"stages.attack.{self.key}": job["many"], **self.sets,
        }  # fmt: skip
        if job.get("clean"):
            sets["stages.victim.poisoned_by"] = None
        shutil.rmtree(runs, ignore_errors=True)
        victim, seconds = trained("poisoned_toy", cohort, runs / "victim", sets, seed)
        done = victim.facts("attack") or {}
        row: dict[str, Any] = {
            "poisoned": done["poisoned"], "pool": done["rows"], "cpu_s": {"victim": seconds},
            "asked": {"victim": asked(victim, cohort, "victim")},
        }  # fmt: skip
        if job.get("screened"):
            row["auroc"] = found_by(victim, cohort)
        for name, more in job.get("cures", {}).items():
            own = {**sets, **self.cured, **more}
            if name == "supervised_cure":
                own["stages.cured.task"] = own["stages.cured.objectives.labels.task"] = self.task
            recipe = f"{name.split(',')[0]}_toy"
            cured, seconds = trained(recipe, cohort, runs / "cured", own, seed, victim)
            row["cpu_s"][name] = seconds
            row["asked"][name] = asked(cured, cohort, "cured")
            shutil.rmtree(runs / "cured")
        shutil.rmtree(runs)
        return row


ATTACKS = {
    "ptbxl": Attack(
        task="superclass",
        target="MI",
        triggers=("pulse", "sinusoid"),
        many=(0.01, 0.02, 0.03, 0.04, 0.05),
        key="share",
        sets={"kinds.text.input.max_tokens": 48},
        is_trusted=True,
    ),
    "covid_cxr": Attack(
        task="covid",
        target="covid",
        triggers=("badnet", "blended"),
        many=(10, 20),
        key="count",
        sets={"stages.victim.epochs": 200, "stages.victim.evaluate_every": 50},
        cured={"stages.cured.epochs": 100, "stages.cured.evaluate_every": 50},
    ),
}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cohort", choices=list(ATTACKS))
    options(parser)


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Make what is not there yet."""
    cohort, own = medmcl.open_cohort(given.cohort), ATTACKS[given.cohort]
    rows = STUDY.kept(given.out) or {}
    for _ in go_on(rows.setdefault(given.cohort, []), given, own.jobs(),
                   lambda job, seed: own.made(job, cohort, given.work / "run", seed)):  # fmt: skip
        yield rows


STUDY = Study(__file__, parts=of_cohorts, run=run, options=_options, page="poison")

if __name__ == "__main__":
    STUDY.main()
