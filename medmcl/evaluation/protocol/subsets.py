"""Whose labels are used where labels are scarce, the same for every method, and how many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets


def label_subset(
    targets: Targets,
    subjects: np.ndarray,
    rows: np.ndarray,
    fraction: float,
    *,
    draw: int = 0,
    seed: int = 0,
    min_per_class: int = 2,
) -> np.ndarray:
    """Choose the rows of a random ``fraction`` of labelled subjects.

    Depends on the task's name and labels, the seed, the draw and the fraction, and on nothing that
    a method could change. For one draw, smaller fractions lie inside larger ones. Subjects are
    drawn within classes (within event and no event for survival), and every class of every label
    keeps at least ``min_per_class`` subjects where it has that many, so a tiny fraction may keep a
    few more than asked for. Of a regression, every column keeps ``min_per_class`` subjects, and two
    that differ, where it has them. At least 2 subjects are chosen where 2 have labels. Subjects
    without any label are never chosen.

    Args:
        targets: The task, over all N samples.
        subjects: Subject of each sample. (N,)
        rows: Candidate samples (indices), usually the train split.
        fraction: Share of labelled subjects in (0, 1].
        draw: Number of the draw.
        seed: Seed of the draws.
        min_per_class: Subjects kept of each class whatever the fraction.

    Returns:
        Chosen sample indices, ascending.

    Raises:
        ConfigError: If the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError("a label fraction must lie above 0 and up to 1", got=fraction)
    rows = np.sort(np.asarray(rows, dtype=np.int64))
    labelled = rows[targets.known[rows].any(axis=1)]
    if fraction == 1 or len(labelled) == 0:
        return labelled
    names, codes = np.unique(np.asarray(subjects)[labelled], return_inverse=True)
    generator = numpy_generator(seed, "label_subset", targets.name, draw)
    order = generator.permutation(len(names))
    classes = list(_classes(targets, labelled, codes, len(names)))
    chosen = np.zeros(len(names), dtype=bool)
    for stratum in _strata(targets, classes, len(names)):
        members = order[stratum[order]]
        chosen[members[: math.ceil(round(fraction * len(members), 9))]] = True
    for members in classes:
        chosen[order[members[order]][:min_per_class]] = True
    if targets.kind == "regression":
        # Choose the first ``count`` subjects of each column, and the first that differs from these.
        # They depend on the order alone, so that smaller fractions stay inside larger ones.
        place = np.argsort(order)[codes]  # of each row's subject in the order
        for column in range(targets.values.shape[1]):
            known = targets.known[labelled, column]
            if not known.any():
                continue
            values, places = targets.values[labelled[known], column], place[known]
            differs = values != values[places.argmin()]
            chosen[order[np.unique(places)[:min_per_class]]] = True
            chosen[order[np.unique(places[differs])[:1]]] = True
    if chosen.sum() < 2:
        chosen[order[:2]] = True
    return labelled[chosen[codes]]


def _classes(
    targets: Targets, rows: np.ndarray, codes: np.ndarray, count: int
) -> Iterator[np.ndarray]:
    """Yield, for each class of each label, which subjects have a record in it. (subjects,) bool."""
    values, known = targets.values[rows], targets.known[rows]
    if targets.kind == "regression":
        return
    columns = (
        [targets.columns.index("event")] if targets.kind == "survival" else range(values.shape[1])
    )
    for column in columns:
        for value in np.unique(values[known[:, column], column]):
            members = np.zeros(count, dtype=bool)
            members[codes[known[:, column] & (values[:, column] == value)]] = True
            yield members


def _strata(targets: Targets, classes: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Disjoint groups to draw within; one group where labels overlap too much to stratify."""
    if targets.kind == "multilabel" or not classes:
        return [np.ones(count, dtype=bool)]
    # a subject with records in several classes belongs to the last of them (the positive one)
    taken = np.zeros(count, dtype=bool)
    strata = []
    for members in reversed(classes):
        strata.append(members & ~taken)
        taken |= members
    return strata + ([~taken] if (~taken).any() else [])


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
                name: len(np.unique(people[train[has[train]]]))
                for name, has in targets.cases().items()
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
