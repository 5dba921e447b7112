"""Targets of a task, one row a sample, with what is unknown stated and not guessed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from medmcl.core.split_guard import SplitGuard

TaskKind = Literal["binary", "multiclass", "multilabel", "regression", "survival"]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a task asks of each sample.

    Attributes:
        name: Task name in the cohort.
        kind: Kind of outcome.
        columns: Names along C. Survival: ``("time", "event")``. Multiclass: one column that holds
            the class number.
        values: (N, C) float64; zeros where unknown.
        known: (N, C) bool.
        classes: Names of the classes of a multiclass task, in order of their number.
        unit: Unit of a regression target or of survival time.
        horizons_years: Times at which survival metrics are asked for.
        modality: The modality whose records carry the labels; None = labels belong to subjects.
        competing: Survival: whether a competing event ended follow-up, (N,) bool; None = no other
            event competes. Such rows have no event.
        sides: Which split the rows are in; then nothing is fitted on those of `held_out`.
    """

    name: str
    kind: TaskKind
    columns: tuple[str, ...]
    values: np.ndarray
    known: np.ndarray
    classes: tuple[str, ...] = ()
    unit: str = ""
    horizons_years: tuple[float, ...] = ()
    modality: str | None = None
    competing: np.ndarray | None = field(default=None, compare=False, repr=False)
    sides: SplitGuard | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse shapes that do not agree and unknowns that are not zero."""
        if self.values.shape != self.known.shape or self.values.ndim != 2:
            raise ValueError(f"values {self.values.shape} and known {self.known.shape} must agree")
        if self.values.shape[1] != len(self.columns):
            raise ValueError(f"{self.values.shape[1]} columns of values, {len(self.columns)} names")
        if not np.isfinite(self.values).all() or self.values[~self.known].any():
            raise ValueError("values must be finite, and zero where not known")
        if self.sides is not None and len(self.sides) != len(self.values):
            raise ValueError(f"sides of {len(self.sides)} rows for {len(self.values)} rows")

        if self.competing is not None:
            self._check_competing(self.competing)

    def _check_competing(self, competing: np.ndarray) -> None:
        if self.kind != "survival" or competing.shape != (len(self.values),):
            raise ValueError(f"competing {competing.shape} needs a survival task of as many rows")
        both = competing & self.event
        if both.any():
            raise ValueError(f"{int(both.sum())} rows have the event and a competing one; name one")

    @property
    def num_outputs(self) -> int:
        """Numbers a model must give: classes, labels, columns, or one log-hazard."""
        return 1 if self.kind == "survival" else len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is predicted: classes, labels, or columns."""
        return self.classes if self.kind == "multiclass" else self.columns

    @property
    def event(self) -> np.ndarray:
        """Survival: whether the event was seen, (N,) bool."""
        return np.asarray(self.values[:, self.columns.index("event")] > 0)

    @property
    def time(self) -> np.ndarray:
        """Survival: how long they were followed, (N,)."""
        return np.asarray(self.values[:, self.columns.index("time")])

    def cases(self) -> dict[str, np.ndarray]:
        """Name each event, label or class, with who has it, (N,) bool; of numbers nothing."""
        if self.kind == "regression":
            return {}
        if self.kind == "survival":
            return {self.name: self.event}
        if self.kind == "multiclass":
            found = self.known & (self.values == np.arange(len(self.classes)))
        else:
            found = self.known & (self.values > 0)
        return {str(name): found[:, number] for number, name in enumerate(self.names)}

    @property
    def complete(self) -> np.ndarray:
        """Samples with every column known, (N,) bool."""
        return np.asarray(self.known.all(axis=1))

    def take(self, rows: np.ndarray) -> Targets:
        """The same task for some rows."""
        sides = None if self.sides is None else self.sides.take(rows)
        competing = None if self.competing is None else self.competing[rows]
        return replace(
            self, values=self.values[rows], known=self.known[rows], sides=sides, competing=competing
        )

    def column(self, number: int) -> Targets:
        """One column of a task of several, as a task of its own."""
        part = slice(number, number + 1)
        return replace(
            self,
            columns=self.columns[part],
            values=self.values[:, part],
            known=self.known[:, part],
        )

    def of_competing(self) -> Targets:
        """The same task with the competing event as the event; the own one is censored."""
        assert self.competing is not None  # asked for where there is one
        values = self.values.copy()
        values[:, self.columns.index("event")] = self.competing
        return replace(self, values=values, competing=None)

    def refuse_leak(self, what: str, *parts: np.ndarray | None) -> None:
        """Refuse rows (indices) that ``what`` must not be fitted on; see `SplitGuard.refuse_leak`.

        Raises:
            LeakageError: If the rows' sides are known and a row must stay unseen.
        """
        for rows in parts:
            if self.sides is not None and rows is not None:
                self.sides.refuse_leak(rows, what)
