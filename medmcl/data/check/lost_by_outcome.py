"""Whom a modality lacks: splits of which nobody has it, and whom exclusion takes away, by outcome.

Damaged and doubtful records are rarely spread evenly: a check that selects on disease, or a ward
with an old device, takes cases. Outcomes of splits that are not open are unknown here, so that what
is said while training is about train and tuning only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from medmcl.core.findings import Finding, task_finding
from medmcl.core.suppression import few, hide
from medmcl.core.targets import Targets
from medmcl.data.cohort.splits import SPLITS

DEPENDS = 0.05
"""Probability of Fisher's exact test below which losses are said to depend on the outcome."""
SHOWN = 6
"""Outcomes that are told of one modality; those that losses depend on come first."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Who of one modality was lost to exclusion, by one outcome; people are counted.

    Attributes:
        modality: Name of the modality.
        task: Name of the task.
        label: Its class or column; empty if it has one outcome.
        lost: People with and without the outcome who had records and have none that is usable.
        had: People with and without it who had records.
    """

    modality: str
    task: str
    label: str
    lost: tuple[int, int]
    had: tuple[int, int]

    @property
    def probability(self) -> float:
        """Two-sided probability of so uneven a loss by chance.

        Source: Fisher 1922, J R Stat Soc 85:87 (exact test of a table of 2 by 2).
        """
        from scipy.stats import fisher_exact

        kept = [had - lost for had, lost in zip(self.had, self.lost, strict=True)]
        return float(fisher_exact([list(self.lost), kept]).pvalue)

    def __str__(self) -> str:
        shown = hide({"with": self.lost[0], "without": self.lost[1]})
        first, second = (self._count(shown[word]) for word in ("with", "without"))
        name = f"{self.task}: {self.label}" if self.label else self.task
        return f"{first} of {few(self.had[0])} with {name}, {second} of {few(self.had[1])} without"

    @staticmethod
    def _count(shown: int | str) -> str:
        return shown if isinstance(shown, str) else f"{shown:,}"


def losses(
    modality: str,
    subjects: np.ndarray,
    had: np.ndarray,
    usable: np.ndarray,
    tasks: Iterable[Targets],
) -> list[Loss]:
    """Count who was lost, for each outcome that people have or have not; none if nobody was.

    Args:
        modality: Name of the modality.
        subjects: Who each sample is of, (N,).
        had: Whether it has a record, (N,) bool.
        usable: Whether it has one that can be used, (N,) bool.
        tasks: Targets by sample; unknown where they may not be read.
    """
    found = []
    for targets in tasks:
        for label, known, positive in outcomes_of(targets):
            if positive is None:
                continue
            lost, everyone = [], []
            for rows in (known & positive, known & ~positive):
                people = set(subjects[rows & had].tolist())
                everyone.append(len(people))
                lost.append(len(people - set(subjects[rows & usable].tolist())))
            if any(lost) and all(everyone):
                found.append(
                    Loss(
                        modality=modality,
                        task=targets.name,
                        label=label,
                        lost=(lost[0], lost[1]),
                        had=(everyone[0], everyone[1]),
                    )
                )
    return sorted(found, key=lambda one: one.probability >= DEPENDS)


def outcomes_of(targets: Targets) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """Give (label, rows where it is known, rows that have it) for each outcome of a task."""
    values, known = targets.values, targets.known
    if targets.kind == "survival":
        return [("", np.asarray(known.all(axis=1)), values[:, 1] > 0)]
    if targets.kind == "multiclass":
        numbers = enumerate(targets.classes)
        return [(label, known[:, 0], values[:, 0] == number) for number, label in numbers]
    names = targets.columns if len(targets.columns) > 1 else ("",)
    regression = targets.kind == "regression"
    return [
        (label, known[:, column], None if regression else values[:, column] > 0)
        for column, label in enumerate(names)
    ]


def told(found: Sequence[Loss]) -> list[str]:
    """Say in lines who was lost: one a modality."""
    lines = []
    for modality in dict.fromkeys(one.modality for one in found):
        mine = [one for one in found if one.modality == modality]
        more = f"; {len(mine) - SHOWN} outcomes more" if len(mine) > SHOWN else ""
        said = "; ".join(str(one) for one in mine[:SHOWN])
        lines.append(f"people whose {modality} was excluded: {said}{more}")
    return lines


def uneven(found: Sequence[Loss]) -> list[Finding]:
    """Warn of losses that depend on an outcome."""
    return [
        task_finding(
            one.task,
            "task.lost_cases",
            f"who lost every {one.modality} record to the checks depends on the outcome: {one} "
            f"(Fisher's exact test, p {_small(one.probability)})",
            "look at the excluded records: fix them, or accept: those that are right; "
            "otherwise results are about people whose records pass",
        )
        for one in found
        if one.probability < DEPENDS
    ]


def _small(probability: float) -> str:
    return "< .001" if probability < 0.001 else f"= {probability:.2g}".replace("0.", ".", 1)


CONSEQUENCES = {
    "train": ": nothing is learned of it",
    "tuning": ": the tuning loss says nothing of it",
    "held_out": ": nothing predicted from it can be scored",
}
"""Split to what follows where nobody of it has a modality."""


def people(subjects: np.ndarray, rows: np.ndarray) -> int:
    """Count the different subjects, (N,) int from 0, among some samples, (N,) bool."""
    found = np.zeros(subjects.max(initial=-1) + 1, dtype=bool)
    found[subjects[rows]] = True
    return int(found.sum())


def lacking_splits(has: np.ndarray, splits: np.ndarray, subjects: np.ndarray) -> dict[str, str]:
    """Give the splits of which no subject has a modality, each with a sentence of counts.

    Args:
        has: Samples that have it. (N,) bool
        splits: Split of each. (N,)
        subjects: Subject of each, as a number from 0. (N,) int

    Returns:
        Split to ``no subject of the tuning split has it (train 120 of 120, tuning 0 of 40, …)``,
        with what follows; empty where every split has people with it, or there are none in it.
    """
    counts = {}
    for split in SPLITS:
        here = splits == split
        if here.any():
            counts[split] = people(subjects, here & has), people(subjects, here)
    told = ", ".join(f"{split} {some:,} of {every:,}" for split, (some, every) in counts.items())
    return {
        split: f"no subject of the {split} split has it ({told}){CONSEQUENCES[split]}"
        for split, (some, _) in counts.items()
        if not some
    }
