"""Missing cells of a table: whether that they are missing counts, and what stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.evaluation.protocol.reach import RATE, limit_of

LEAST_PEOPLE = 10
"""Train people with a cell, and without it, from whom the weight of its being there is learned."""
MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class TrainGaps:
    """How many train people lacked a cell of each column.

    Attributes:
        people: All of them.
        lacking: Column to those without its cell.
        rate: Share of people like them that `strange` flags by chance.
        limit: Sum of the rarities of somebody's gaps beyond which they are flagged; of runs that
            kept none 0: every rare gap is.
    """

    people: int
    lacking: Mapping[str, int]
    rate: float
    limit: float = 0.0

    @classmethod
    def of(cls, names: Sequence[str], known: np.ndarray, subjects: np.ndarray) -> TrainGaps:
        """Count in train rows: cells of F columns that are known (N, F), subject of each (N,)."""
        people, place = np.unique(subjects, return_inverse=True)
        without = np.zeros((len(people), len(names)), dtype=bool)
        np.logical_or.at(without, place, ~known)
        counts = without.sum(axis=0)
        alike = without.sum(axis=0) - without  # how many others lack the cell
        found = (without * _rarity(alike)).sum(axis=1)
        limit, rate = limit_of(found, RATE) if found.any() else (0.0, 0.0)
        return cls(
            people=len(people),
            lacking={name: int(one) for name, one in zip(names, counts, strict=True)},
            rate=rate,
            limit=limit,
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> TrainGaps | None:
        """Read back what `about` gave; None of a run that did not count."""
        return None if kept is None else cls(**kept)

    def about(self) -> dict[str, Any]:
        """All, as JSON takes it."""
        return {"people": self.people, "lacking": dict(self.lacking), "rate": self.rate,
                "limit": self.limit}  # fmt: skip

    def strange(self, names: Sequence[str], gaps: np.ndarray) -> np.ndarray:
        """Choose the gaps (N, F) that fewer than `LEAST_PEOPLE` had, of rows beyond the limit.

        A gap weighs the more the fewer had it, 1 where nobody had: by ranks (`limit_of`), of
        people like those in training no more than `RATE` are beyond.
        """
        lacking = np.array([self.lacking.get(name, LEAST_PEOPLE) for name in names])
        weights = gaps * _rarity(lacking)
        return np.asarray((weights > 0) & (weights.sum(axis=1) > self.limit)[:, None])


def _rarity(others: np.ndarray) -> np.ndarray:
    """What a gap weighs that so many others have; 0 where they are enough to learn from."""
    return np.where(others < LEAST_PEOPLE, 1.0 / (1.0 + others), 0.0)


def indicators_that_count(known: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Choose the columns whose being measured is a feature. (F,) bool.

    At least `LEAST_PEOPLE` have the cell and as many lack it, so that no few people say what all
    without it are like; of columns that are missing together in every row the first stands for all.

    Args:
        known: Cells of train rows that are there. (N, F) bool
        subjects: Subject of each row. (N,)
    """
    counts = np.zeros(known.shape[1], dtype=bool)
    seen = set()
    for column, cells in enumerate(known.T):
        sides = (np.unique(subjects[cells]), np.unique(subjects[~cells]))
        pattern = cells.tobytes()
        if min(map(len, sides)) >= LEAST_PEOPLE and pattern not in seen:
            counts[column] = True
            seen.add(pattern)
    return counts
