"""Events of patients as readers give them: who, when, which code; in whole patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import field_validator, model_validator

from medmcl.core.config import Config
from medmcl.core.errors import CohortError

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


SOURCE = "source"
"""Column with the table that an event came from; `to_meds` writes it."""


class ModalityRule(Config):
    """What makes an event one of this modality; all that is given must hold."""

    prefix: tuple[str, ...] = ()
    """The code starts with one of these."""
    not_prefix: tuple[str, ...] = ()
    """The code starts with none of these."""
    column: str | None = None
    """A column, which must hold one of ``values``."""
    values: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    """The event came from one of these tables."""

    @field_validator("prefix", "not_prefix", "values", "source", mode="before")
    @classmethod
    def _one(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> ModalityRule:
        if (self.column is None) != (not self.values):
            raise ValueError("name a column and the values that it must hold")
        if self.column == SOURCE:
            raise ValueError(f"write source: [...] for the column '{SOURCE}'")
        if not (self.prefix or self.not_prefix or self.column or self.source):
            raise ValueError("say what its events have in common: prefix, column or source")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        own = () if self.column is None else (self.column,)
        return (*own, SOURCE) if self.source else own

    def holds(self, events: Events) -> np.ndarray:
        """Say which events belong, (n,) bool."""
        found = np.ones(len(events), dtype=bool)
        if self.prefix:
            found &= _where(events.code, [v.startswith(self.prefix) for v in events.code.values])
        if self.not_prefix:
            bad = [v.startswith(self.not_prefix) for v in events.code.values]
            found &= ~_where(events.code, bad)
        for name, values in ((self.column, self.values), (SOURCE, self.source)):
            if values and name is not None:
                column = events.columns[name]
                found &= _where(column, [value in values for value in column.values])
        return found


def assign(events: Events, rules: Mapping[str, ModalityRule]) -> np.ndarray:
    """Give the number of each event's modality, -1 if it has none, (n,) int64.

    Raises:
        CohortError: Two modalities claim an event.
    """
    found = np.full(len(events), -1, dtype=np.int64)
    for number, (name, rule) in enumerate(rules.items()):
        holds = rule.holds(events)
        both = np.flatnonzero(holds & (found >= 0))
        if len(both):
            other = list(rules)[int(found[both[0]])]
            raise CohortError(
                f"modalities {other} and {name} both claim an event",
                got=f"code '{events.code.values[events.code.number[both[0]]][:80]}'",
                expected="at most one modality an event",
                fix="narrow one of them with prefix, not_prefix, column or source",
            )
        found[holds] = number
    return found


def _where(column: Labels, marks: list[bool]) -> np.ndarray:
    """Spread a mark of each value over the rows; a row without a value is not marked."""
    return np.array([*marks, False], dtype=bool)[column.number]
