"""Where the people are that a probe was fitted on: what lies outside is flagged.

Kept are a mean, a few principal axes with their variances, ranges of columns and a limit; no row of
anybody. The limit is set so that of new people like those it was learned from a stated share is
flagged by chance (`RATE`), by ranks: nothing is assumed of the shape of the distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.suppression import step_of
from medmcl.data.tables.mapped import taken

RATE = 0.01
"""Share of people like those in training that is flagged by chance."""
AXES = 32
"""Most principal axes that are kept."""
ROWS_AN_AXIS = 10
"""Train rows for each of them."""
FAR_BEYOND = 1.0
"""Widths of the range of train beyond it from which a number is called implausible."""
ROUNDING = 1e-6
"""Share of a range within which a number is its end."""
FOLDS = 5
STEPS = 50
"""Of a range, at most, between the values that its ends may have."""
QUARTILES = (0.25, 0.5, 0.75)
AROUND = 0.05
"""Share of the people on either side of a quartile whose mean is kept as it: nobody's number."""
ENOUGH = 50
"""Fewer people with a number have no quartiles: five stand around each of this many."""


class Kept:
    """What is kept as arrays, and the rest as JSON; `read_reach` reads it back."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {name: one for name, one in vars(self).items() if isinstance(one, np.ndarray)}

    def about(self) -> dict[str, Any]:
        """The rest, as JSON takes it."""
        return {name: one for name, one in vars(self).items() if not isinstance(one, np.ndarray)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Where rows lie.

    Attributes:
        mean: Of the rows. (E,)
        axes: Principal axes, of unit length. (E, K)
        variances: Along them. (K,)
        rest: Variance a dimension off them; 0 if there is none.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float

    @staticmethod
    def of(x: np.ndarray) -> Shape:
        """Of rows (N, E)."""
        mean = x.mean(axis=0)
        centred = x - mean
        values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(x) - 1))
        count = min(AXES, x.shape[1], max(1, len(x) // ROWS_AN_AXIS))
        order = np.argsort(values)[::-1]
        own, others = order[:count], order[count:]
        floor = 1e-9 * max(float(values.max(initial=0.0)), 1e-12)
        rest = max(float(np.maximum(values[others], 0).mean()), floor) if len(others) else 0.0
        variances = np.maximum(values[own], floor)
        return Shape(mean=mean, axes=vectors[:, own], variances=variances, rest=rest)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Root of the mean squared deviation, each direction by its own variance. (N,)."""
        centred = np.asarray(features, dtype=np.float64) - self.mean
        along = centred @ self.axes
        squared = (along**2 / self.variances).sum(axis=1)
        if self.rest:
            off = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
            squared = squared + off / self.rest
        return np.asarray(np.sqrt(squared / max(1, len(self.mean))))


@dataclass(frozen=True, kw_only=True)
class EmbeddingReach(Shape, Kept):
    """Distance of an embedding from those of train, in standard deviations along and off its axes.

    Attributes:
        limit: Distance beyond which an embedding is flagged.
        rate: Share of people like those in training that it flags.
        people: How many the limit was set on.
        whose: Who they are: ``tuning``, or ``train and tuning, in folds``.
    """

    limit: float
    rate: float
    people: int
    whose: str

    @classmethod
    def learn(
        cls,
        features: np.ndarray,
        train: np.ndarray,
        tuning: np.ndarray,
        subjects: np.ndarray,
        *,
        rate: float = RATE,
        seed: int = 0,
    ) -> EmbeddingReach | None:
        """Learn from features (N, E); None with fewer than two train people.

        The limit is set on people of ``tuning``, whom no encoder was trained on, where they are
        enough for ``rate``; otherwise on train and tuning, each person left out of what they are
        measured by.

        Args:
            features: (N, E).
            train: Rows that mean and axes are of (indices).
            tuning: Rows to set the limit on (indices).
            subjects: Subject of each row; one row of each is looked at. (N,)
            rate: Share to flag by chance.
            seed: Of the folds.
        """
        train, tuning = _one_each(subjects, train), _one_each(subjects, tuning)
        if len(train) < 2:
            return None
        whole = Shape.of(features[train])
        if (len(tuning) + 1) * rate >= 1:
            found, whose = whole.distance(features[tuning]), "tuning"
        else:
            every = np.concatenate([train, tuning])
            found, whose = _left_out(features[every], seed), "train and tuning, in folds"
        limit, flagged = limit_of(found, rate)
        return cls(**vars(whole), limit=limit, rate=flagged, people=len(found), whose=whose)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance of each row, in units of the limit: above 1 is outside. (N,)."""
        return np.asarray(super().distance(features) / max(self.limit, 1e-12))


@dataclass(frozen=True, kw_only=True)
class ColumnReach(Kept):
    """Ranges of numbers in train, wider by a slack that keeps chance flags to their rate.

    Attributes:
        names: The columns, F.
        low: Smallest value of each in train, rounded down: it is somebody's. (F,)
        high: Largest, rounded up. (F,)
        slack: Share of its range by which a column may exceed it.
        rate: Share of people like those in training that is flagged.
        people: How many the slack was set on.
        quartiles: Of each column, as means of those around them; NaN of fewer than `ENOUGH`
            numbers. (3, F)
    """

    names: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    quartiles: np.ndarray
    slack: float
    rate: float
    people: int

    @classmethod
    def learn(
        cls,
        values: np.ndarray,
        names: Sequence[str],
        rows: np.ndarray,
        subjects: np.ndarray,
        *,
        rate: float = RATE,
        seed: int = 0,
    ) -> ColumnReach | None:
        """Learn from values (N, F), NaN where missing; None with fewer than two people.

        Args:
            values: (N, F).
            names: The F columns.
            rows: Rows to learn from (indices).
            subjects: Subject of each row; one row of each is looked at. (N,)
            rate: Share to flag by chance.
            seed: Of the folds.
        """
        rows = _one_each(subjects, rows)
        if len(rows) < 2:
            return None
        x = taken(np.asarray(values), rows)
        fold = _folds(len(x), seed)
        found = np.zeros(len(x))
        for number in range(FOLDS):
            part = fold == number
            low, high = _outward(*_ends(x[~part]))
            found[part] = _excess(x[part], low, high).max(axis=1, initial=0.0)
        slack, flagged = limit_of(found, rate)
        low, high = _outward(*_ends(x))
        return cls(
            names=tuple(names), low=low, high=high, slack=slack, rate=flagged, people=len(x),
            quartiles=_quartiles(x),
        )  # fmt: skip

    def of(self, names: Sequence[str]) -> ColumnReach:
        """The same for columns in another order, or some of them."""
        places = [self.names.index(name) for name in names]
        return replace(
            self, names=tuple(names), low=self.low[places], high=self.high[places],
            quartiles=self.quartiles[:, places],
        )  # fmt: skip

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Which numbers lie outside; a missing one does not. (N, F) bool."""
        return np.asarray(_excess(values, self.low, self.high) > self.slack)

    def beyond_range(self, values: np.ndarray) -> np.ndarray:
        """Which numbers lie outside the bare range, without the slack. (N, F) bool.

        Not of a column that never varied: it tells nothing.
        """
        beyond = _excess(values, self.low, self.high) > ROUNDING
        return np.asarray(beyond & (self.high > self.low))

    def implausible(self, values: np.ndarray) -> np.ndarray:
        """Which numbers lie beyond the range by more than `FAR_BEYOND` of its width. (N, F) bool.

        Not of a column that never varied, whose width says nothing of its scale; nor within the
        slack, which is wider than that where few people were there.
        """
        beyond = _excess(values, self.low, self.high) > max(FAR_BEYOND, self.slack)
        return np.asarray(beyond & (self.high > self.low))


def read_reach(
    about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> EmbeddingReach | ColumnReach:
    """Read back what `about` and `arrays` of either gave."""
    parts: dict[str, Any] = {**arrays, **about}
    if "slack" in about:
        parts.setdefault("quartiles", np.full((len(QUARTILES), len(about["names"])), np.nan))
        return ColumnReach(**{**parts, "names": tuple(about["names"])})
    return EmbeddingReach(**parts)


def limit_of(found: np.ndarray, rate: float) -> tuple[float, float]:
    """Give the limit that a new value of the same kind exceeds with chance ``rate``, and the rate.

    The value of rank ``ceil((n + 1) (1 - rate))``; with too few for it the largest, whose rate is
    1 / (n + 1).

    Source:
        Vovk et al. 2005, Algorithmic Learning in a Random World, ch. 4 (conformal). Differs: none.
    """
    count = len(found)
    rank = min(count, int(np.ceil((count + 1) * (1 - rate) - 1e-9)))
    return float(np.sort(found)[rank - 1]), (count + 1 - rank) / (count + 1)


def _left_out(x: np.ndarray, seed: int) -> np.ndarray:
    """Distance of every row (N, E) from the others' shape, in folds. (N,)."""
    fold = _folds(len(x), seed)
    found = np.zeros(len(x))
    for number in range(FOLDS):
        part = fold == number
        if part.any() and (~part).sum() > 1:
            found[part] = Shape.of(x[~part]).distance(x[part])
    return found


def _folds(count: int, seed: int) -> np.ndarray:
    return np.asarray(numpy_generator(seed, "reach").permutation(count) % FOLDS)


def _one_each(subjects: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first row of each subject among ``rows`` (indices)."""
    rows = np.asarray(rows, dtype=np.int64)
    return np.asarray(rows[np.sort(np.unique(np.asarray(subjects)[rows], return_index=True)[1])])


def _ends(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest number of each column; infinite the other way round without any."""
    low = np.where(np.isnan(x), np.inf, x).min(axis=0, initial=np.inf)
    high = np.where(np.isnan(x), -np.inf, x).max(axis=0, initial=-np.inf)
    return low, high


def _quartiles(x: np.ndarray) -> np.ndarray:
    """Mean of the numbers around each quartile of each column; NaN of few numbers. (3, F)."""
    found = np.full((len(QUARTILES), x.shape[1]), np.nan)
    for column, numbers in enumerate(x.T):
        known = np.sort(numbers[~np.isnan(numbers)])
        if len(known) >= ENOUGH:
            for row, share in enumerate(QUARTILES):
                first, last = (round((share + side) * len(known)) for side in (-AROUND, AROUND))
                found[row, column] = known[first:last].mean()
    return found


def _outward(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends moved out to a grid of 25 to 50 steps a range, so that no digits of a person's are kept.

    A value that lies on the grid stays: of whole numbers (ages) an end may be somebody's own.
    The slack is learned with ends of the same kind. A column that never varied stays.
    """
    ends = []
    for first, last in zip(low.tolist(), high.tolist(), strict=True):
        if not first < last or not np.isfinite(last - first):
            ends.append((first, last))
            continue
        step = step_of(STEPS / (last - first))
        down, up = np.floor(first / step + 1e-9), np.ceil(last / step - 1e-9)
        ends.append((float(down * step), float(up * step)))
    found = np.array(ends, dtype=np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _excess(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far numbers lie outside, as a share of the range; of one that never varied, in its unit.

    A column without any number in train exceeds nothing.
    """
    known = np.isfinite(low)
    first, last = np.where(known, low, 0.0), np.where(known, high, 0.0)
    width = np.where(last > first, last - first, 1.0)
    beyond = np.maximum(first - x, x - last) / width
    return np.asarray(np.where(known & ~np.isnan(x), np.maximum(beyond, 0.0), 0.0))
