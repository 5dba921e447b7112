"""Whose labels a method was fitted and chosen with, counted: what a label fraction stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from medmcl.core.targets import Targets


@dataclass(frozen=True, kw_only=True)
class LabelCounts:
    """People whose labels of a task were used.

    Attributes:
        subjects: People that the method was fitted on.
        tuning_subjects: People that its settings were chosen on.
        events: Column or class to the people with it among those fitted on; of a survival task the
            task itself. Targets without events (numbers, means over columns) are not named.
    """

    subjects: int
    tuning_subjects: int
    events: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, targets: Targets, subjects: np.ndarray, train: np.ndarray, tuning: np.ndarray
    ) -> LabelCounts:
        """Count the people behind rows of a task.

        Args:
            targets: The task over N rows.
            subjects: Subject of each row. (N,)
            train: Rows fitted on (indices).
            tuning: Rows chosen on (indices).
        """
        people = np.asarray(subjects)
        return cls(
            subjects=len(np.unique(people[train])),
            tuning_subjects=len(np.unique(people[tuning])),
            events={
                name: len(np.unique(people[train][has])) for name, has in _events(targets, train)
            },
        )

    @classmethod
    def middle(cls, parts: Sequence[LabelCounts]) -> LabelCounts | None:
        """Give the median over folds, each count on its own; None of nothing."""
        if not parts:
            return None
        return cls(
            subjects=int(median(one.subjects for one in parts)),
            tuning_subjects=int(median(one.tuning_subjects for one in parts)),
            events={
                name: int(median(one.events[name] for one in parts)) for name in parts[0].events
            },
        )

    def about(self, target: str) -> dict[str, Any]:
        """Give the columns of a result row for one target."""
        return {
            "train_subjects": self.subjects,
            "train_events": self.events.get(target),
            "tuning_subjects": self.tuning_subjects,
        }


def _events(targets: Targets, rows: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """Name each target that has events, and which of some rows have it."""
    values, known = targets.values[rows], targets.known[rows]
    if targets.kind == "survival":
        yield targets.name, values[:, targets.columns.index("event")] > 0
    elif targets.kind == "multiclass":
        for number, name in enumerate(targets.classes):
            yield str(name), known[:, 0] & (values[:, 0] == number)
    elif targets.kind != "regression":
        for column, name in enumerate(targets.columns):
            yield name, known[:, column] & (values[:, column] > 0)
