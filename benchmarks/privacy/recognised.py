"""Which counts of the same patients are known again, whatever events they leave out.

``python -m benchmarks.privacy.recognised``

Simulated patients of one site are counted twice: all their events, and some of them, written down
otherwise besides. Whether the second count is taken for the same patients' decides whether releases
of both are looked at together. Other people of the same names must not be.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np

from benchmarks.study import Row, Study, grid
from medmcl.cooccurrence.count.drawn import DAYS, counted_records, drawn
from medmcl.cooccurrence.count.people import (
    People,
    overlap,
    people_of_subjects,
    register_folder,
    register_key,
)
from medmcl.data.events.events import Events, Labels

PATIENTS, CODES, DAY = 1000, 500, 86_400_000_000
LEFT_OUT = (0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999)
SPANS = {"10 years": 3650, "1 year": 365, "3 months": 90}
"""Days over which other people's events lie."""


@dataclass(frozen=True)
class Rows:
    """Events, a row each: whose, on which day, which code, in which setting (from 0 to 1)."""

    subject: np.ndarray
    day: np.ndarray
    code: np.ndarray
    setting: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """Some of them."""
        return Rows(self.subject[rows], self.day[rows], self.code[rows], self.setting[rows])


def cohort(seed: int, patients: int = PATIENTS, span: int = 3650, often: float = 20) -> Rows:
    """Patients with some days (the median is ``often``), each of one setting, with some codes."""
    draw = np.random.default_rng(seed)
    days = np.maximum(np.exp(draw.normal(np.log(often), 0.8, patients)), 1).astype(int)
    owner = np.repeat(np.arange(patients), days)
    day, setting = draw.integers(0, span, len(owner)), draw.random(len(owner))
    each = 1 + draw.poisson(2, len(owner))
    weight = 1 / np.arange(1, CODES + 1)
    code = draw.choice(CODES, each.sum(), p=weight / weight.sum())
    parts = (np.repeat(one, each) for one in (owner, day + 10_000, setting))
    subject, when, where = parts
    return Rows(subject, when, code, where)


def tags(rows: Rows, names: str = "") -> People:
    """What a count of these rows keeps of its patients."""
    order = np.lexsort((rows.day, rows.subject))
    rows = rows.take(order)
    time = rows.day * DAY
    labels = Labels(rows.code, [f"{names}{k}" for k in range(CODES)])
    events = Events(rows.subject, time, labels)
    found = drawn(events, register_key(register_folder()))
    found["record"] = counted_records(events)
    return people_of_subjects(np.unique(rows.subject).tolist(), found)[0]


def shifted(rows: Rows) -> Rows:
    """All dates of a patient as many days later, up to a year."""
    return replace(rows, day=rows.day + 1 + rows.subject * 7919 % 365)


def renamed(rows: Rows) -> Rows:
    return replace(rows, subject=rows.subject + 10_000_000)


def mixed_in(rows: Rows) -> Rows:
    """Beside as many other events as all of them (laboratory values) on other days."""
    more = cohort(10_001)
    more = more.take(more.subject < rows.subject.max(initial=0) + 1)
    parts = [np.concatenate([getattr(rows, one), getattr(more, one)])
             for one in ("subject", "day", "code", "setting")]  # fmt: skip
    return Rows(*parts)


CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "nothing else": (lambda rows: rows, ""),
    "rows in another order": (lambda rows: rows.take(np.arange(len(rows.day))[::-1]), ""),
    "each event twice": (lambda rows: rows.take(np.repeat(np.arange(len(rows.day)), 2)), ""),
    "codes of another vocabulary": (lambda rows: rows, "mapped "),
    "as many events of another source": (mixed_in, ""),
    "all dates of a patient moved": (shifted, ""),
    "other subject ids": (renamed, ""),
    "other ids, dates moved": (lambda rows: renamed(shifted(rows)), ""),
}
FILTERS: dict[str, Callable[[Rows, float, int], np.ndarray]] = {
    "a setting": lambda rows, share, _: rows.setting >= share,
    "single events": lambda rows, share, seed: (
        np.random.default_rng(seed).random(len(rows.day)) >= share
    ),
}


def run(given: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", MEDMCL_REGISTER=folder):
        return tried(given.seeds)


def tried(seeds: int) -> list[Row]:
    """Each change, at each share left out, and other people."""
    found: list[Row] = []
    whole = [cohort(seed) for seed in range(seeds)]
    known = [tags(rows) for rows in whole]
    for kept, rule in FILTERS.items():
        for change, (turn, names) in CHANGES.items():
            for share in LEFT_OUT:
                seen = sum(
                    overlap(one, tags(turn(rows.take(rule(rows, share, seed))), names))
                    for seed, (one, rows) in enumerate(zip(known, whole, strict=True))
                )
                found.append({"filter": kept, "change": change, "left_out": share,
                              "counts": seeds, "known_again": int(seen)})  # fmt: skip
    for span, days in SPANS.items():
        for often in (20, 100):
            pairs = [[cohort(2 * k + n + 1000, 300, days, often) for n in (0, 1)]
                     for k in range(seeds)]  # fmt: skip
            wrong = sum(overlap(*map(tags, pair)) for pair in pairs)
            found.append({"others": span, "days": often, "pairs": seeds, "taken": int(wrong)})
    return found


def parts(rows: list[Row]) -> dict[str, str]:
    def of(kept: str, change: str, share: float) -> str:
        one = next(
            row for row in rows if (row.get("filter"), row.get("change"), row.get("left_out"))
            == (kept, change, share)
        )  # fmt: skip
        return f"{one['known_again']} of {one['counts']}"

    head = ["left out", "beside that", *(f"{share:.1%}" for share in LEFT_OUT)]
    cells = [
        [kept, change, *(of(kept, change, share) for share in LEFT_OUT)]
        for kept in FILTERS
        for change in CHANGES
    ]
    others = [
        [f"{row['days']} days in {row['others']}", f"{row['taken']} of {row['pairs']}"]
        for row in rows
        if "others" in row
    ]
    return {
        "recognised": grid(head, cells),
        "recognised others": grid(["other people of the same names", "taken for the same"], others),
        "recognised days": str(DAYS),
    }


STUDY = Study(__file__, parts=parts, run=run, page="privacy", seeds=50)

if __name__ == "__main__":
    STUDY.main()
