"""Events of patients as readers give them: who, when, which code; in whole patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

NO_TIME = np.iinfo(np.int64).min
"""An event without a time."""
NO_VISIT = -1
"""An event without a visit."""
LONGEST_CODE = 1000
"""Characters; what is longer is no code (a note in the code column)."""


@dataclass(frozen=True)
class Labels:
    """A column of few different texts: a number a row, -1 where there is none."""

    number: np.ndarray
    values: Sequence[str]


@dataclass(frozen=True)
class Events:
    """Events of whole patients, one row an event; rows of a patient stand together.

    Attributes:
        subject: (n,) int64.
        time: Microseconds since 1970, `NO_TIME` if there is none, (n,) int64.
        code: What happened.
        visit: Number of the visit within these events, `NO_VISIT` if there is none, (n,) int64;
            None if the source names no visits.
        columns: Further columns that were asked for, by name.
    """

    subject: np.ndarray
    time: np.ndarray
    code: Labels
    visit: np.ndarray | None = None
    columns: Mapping[str, Labels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.subject)

    def person(self) -> np.ndarray:
        """Number the patients from 0 in their order, (n,) int64."""
        return runs(self.subject)

    def take(self, rows: np.ndarray) -> Events:
        """Give some rows (a mask, or row numbers that may repeat)."""
        return Events(
            self.subject[rows],
            self.time[rows],
            replace(self.code, number=self.code.number[rows]),
            None if self.visit is None else self.visit[rows],
            {k: replace(v, number=v.number[rows]) for k, v in self.columns.items()},
        )


def runs(values: np.ndarray) -> np.ndarray:
    """Number the runs of equal values from 0, (n,) int64."""
    changed = np.zeros(len(values), dtype=np.int64)
    changed[1:] = values[1:] != values[:-1]
    return np.cumsum(changed)


def starts(values: np.ndarray) -> np.ndarray:
    """Give the first value of each run of equal values."""
    return values[np.r_[True, values[1:] != values[:-1]]] if len(values) else values


def roll_up(events: Events, parents: Mapping[str, Sequence[str]]) -> Events:
    """Put the parents of a code in its place, one event each; a code without parents stays.

    Args:
        events: Events with the codes of a source.
        parents: Code to the codes it belongs under (``parent_codes`` of MEDS).
    """
    targets: dict[str, int] = {}
    found = [
        [targets.setdefault(name, len(targets)) for name in parents.get(code) or (code,)]
        for code in events.code.values
    ]
    length = np.array([len(one) for one in found], dtype=np.int64)
    start = np.r_[0, np.cumsum(length)]
    flat = np.array([target for one in found for target in one], dtype=np.int64)
    times = length[events.code.number]
    grown = events.take(np.repeat(np.arange(len(events)), times))
    within = np.arange(len(grown)) - np.repeat(np.cumsum(times) - times, times)
    number = flat[start[grown.code.number] + within]
    return replace(grown, code=Labels(number, list(targets)))
