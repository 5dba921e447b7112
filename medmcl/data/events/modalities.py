"""Which modality an event belongs to: by the prefix of its code, by a column, or by its table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import field_validator, model_validator

from medmcl.core.config import Config
from medmcl.core.errors import CohortError
from medmcl.data.events.events import Events, Labels

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
