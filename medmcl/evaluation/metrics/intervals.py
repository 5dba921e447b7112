"""Bootstrap intervals over subjects, for one method and for the difference between two.

Subjects are drawn with replacement, all records of a subject together, and the draw is a matrix of
whole-number weights, so that a thousand draws are one vectorised evaluation. The same seed and the
same subjects give the same draws for every metric and method: differences are paired by birth.
Draws may keep the number of subjects of each outcome (strata), may draw whole clusters of subjects,
and may go through sites first and then subjects inside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from medmcl import evaluation
from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.evaluation.metrics import predictions as metrics
from medmcl.evaluation.metrics.metric import Metric, NotEstimable, check_level, is_missing, numbers
from medmcl.evaluation.metrics.sampled import Interval, Sampled, people_among
from medmcl.evaluation.metrics.survival.metric import c_index_ipcw_metric

ENTRIES_AT_ONCE = 2_000_000  # weights held at once: 16 MB; metrics hold some eight such arrays
DRAWN_AT_ONCE = 2**18  # of them, what is drawn at once

SPECS: dict[str, Metric] = {**metrics.SPECS, "c_index_ipcw": c_index_ipcw_metric()}
NEEDS_SETTINGS = {
    "time_dependent_auc": "auc_metric(times)",
    "brier_at": "brier_metric(at)",
    "integrated_brier": "integrated_brier_metric(times)",
    "net_benefit": "net_benefit_metric(threshold)",
}
"""Metrics that do not exist without a setting, and what gives them one."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """How the rows of a sample are drawn with replacement, the same for every metric and method.

    Args:
        subjects: Subject of each row, any codes; default each row its own (see `over`). (N,)
        draws: Number of bootstrap draws W.
        seed: Seed of the draws; equal seeds and subjects give equal draws.
        level: Coverage that intervals aim at.
        strata: Class of each row, any ordered codes, whose number of subjects every draw keeps;
            a subject with rows of several classes is of the highest. ``"outcome"``: whether the
            outcome is above zero. Fits a sample that was taken by outcome. (N,)
        clusters: Cluster of each row, as its site; clusters are drawn with replacement, each with
            all of its subjects. Subjects are still what is counted. (N,)

    Raises:
        ValueError: If both strata and clusters are given, for draws below one and a
            level outside (0, 1). When rows are drawn: for wrong lengths, a subject of several
            clusters, and missing subjects.
    Source:
        Davison & Hinkley 1997, §3.8: clusters drawn whole have nearer the right spread than those
        whose members are drawn anew. Differs: none.
    """

    subjects: Any = None
    _: KW_ONLY
    draws: int = 1000
    seed: int = 0
    level: float = 0.95
    strata: Any = None
    clusters: Any = None

    def __post_init__(self) -> None:
        """Refuse settings that do not exist."""
        check_level(self.level)
        if isinstance(self.draws, bool) or self.draws != int(self.draws) or self.draws < 1:
            raise ConfigError(
                "bootstrap: draws must be a whole number of at least 1", got=self.draws
            )
        object.__setattr__(self, "draws", int(self.draws))
        if self.strata is not None and self.clusters is not None:
            raise ValueError("bootstrap: give strata or clusters, not both")
        if isinstance(self.strata, str) and self.strata != "outcome":
            raise ValueError(f"bootstrap: strata must be codes or 'outcome', got {self.strata!r}")

    @property
    def kind(self) -> str:
        """What is drawn: ``subject``, ``site`` or ``stratified``."""
        if self.strata is not None:
            return "stratified"
        return "subject" if self.clusters is None else "site"

    @property
    def tails(self) -> tuple[float, float]:
        """Shares of the draws below the ends of an interval."""
        return (1 - self.level) / 2, (1 + self.level) / 2

    def take(self, rows: np.ndarray) -> Self:
        """Give the same for some of the rows (a mask or indices)."""
        names = ("subjects", "strata", "clusters")
        given = {name: getattr(self, name) for name in names}
        taken = {name: np.asarray(x)[rows] for name, x in given.items() if np.ndim(x)}
        return replace(self, **taken)

    def over(self, outcome: Any) -> Self:
        """Give the same for rows of an outcome, (N,): each is its own subject if none are given.

        Raises:
            ConfigError: Subjects of another length.
        """
        own = np.arange(len(outcome)) if self.subjects is None else self.subjects
        strata = self.strata
        if isinstance(strata, str):
            strata = numbers(outcome, "targets") > 0
        found = replace(self, subjects=own, strata=strata)
        found.check_rows(targets=[outcome])
        return found

    @cached_property
    def codes(self) -> np.ndarray:
        """Number of the subject of each row, (N,)."""
        return codes_of_labels(self.subjects, "subjects")

    @property
    def num_rows(self) -> int:
        """Rows N."""
        return len(self.codes)

    @cached_property
    def num_subjects(self) -> int:
        """Subjects among the rows."""
        return int(self.codes.max(initial=-1)) + 1

    @cached_property
    def units(self) -> np.ndarray:
        """Code of what is drawn together: the cluster of each row, or its subject, (N,)."""
        parts = self._parts["clusters"]
        if parts is None:
            return self.codes
        home = np.empty(self.num_subjects, dtype=np.int64)
        for code, members in enumerate(parts):
            home[members] = code
        return home[self.codes]

    @cached_property
    def _parts(self) -> dict[str, list[np.ndarray] | None]:
        """The subjects of each class and cluster; None where these are not given."""
        return {
            name: None if labels is None else self._subject_codes(labels, name)
            for name, labels in (("strata", self.strata), ("clusters", self.clusters))
        }

    def _subject_codes(self, labels: Any, name: str) -> list[np.ndarray]:
        """The subjects of each class or cluster."""
        codes = codes_of_labels(labels, name)
        if len(codes) != self.num_rows:
            raise ValueError(f"bootstrap: {len(codes)} {name} for {self.num_rows} rows")
        highest = np.full(self.num_subjects, -1)
        np.maximum.at(highest, self.codes, codes)
        if name != "strata" and (highest[self.codes] != codes).any():
            raise ValueError(f"bootstrap: a subject is at several {name}")
        return [np.flatnonzero(highest == code) for code in range(int(codes.max(initial=-1)) + 1)]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield weights of the rows for some draws at a time, (N, w), in the place of the last."""
        if self._at_once >= self.draws:
            yield self._whole
            return
        generator = numpy_generator(self.seed, "bootstrap", self.num_subjects)
        place = np.empty(self._at_once * self.num_rows)
        for first in range(0, self.draws, self._at_once):
            count = min(self._at_once, self.draws - first)
            yield self._draw(generator, place[: count * self.num_rows].reshape(-1, count))

    @property
    def _at_once(self) -> int:
        return max(1, ENTRIES_AT_ONCE // max(1, self.num_rows))

    @cached_property
    def _whole(self) -> np.ndarray:
        """All draws, kept where they are few."""
        generator = numpy_generator(self.seed, "bootstrap", self.num_subjects)
        return self._draw(generator, np.empty((self.num_rows, self.draws)))

    def _draw(self, generator: np.random.Generator, found: np.ndarray) -> np.ndarray:
        count = found.shape[1]
        is_plain = self.strata is None and self.clusters is None
        few = max(1, DRAWN_AT_ONCE // max(1, self.num_subjects))
        for first in range(0, count, few if is_plain else count):  # drawn in parts, they are alike
            times = self._times(generator, min(few, count - first) if is_plain else count)
            for start in range(0, len(times), few):  # beside the weights no copy of them
                part = times[start : start + few].T.take(self.codes, axis=0)
                found[:, first + start : first + start + part.shape[1]] = part
        return found

    def _times(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """How often each subject comes in each draw, (count, subjects)."""
        strata, clusters = self._parts.values()
        if strata is None and clusters is None:
            return _draw_from(generator, count, self.num_subjects)
        times = np.zeros((count, self.num_subjects), dtype=np.int64)
        if clusters is not None:
            drawn = _draw_from(generator, count, len(clusters))
            for members, often in zip(clusters, drawn.T, strict=True):
                times[:, members] = often[:, None]
        else:
            for members in strata or ():
                times[:, members] = _draw_from(generator, count, len(members))
        return times

    def num_clusters(self, rows: np.ndarray | None = None) -> int | None:
        """Count the clusters of some rows (all by default); None where subjects are drawn."""
        if self.clusters is None:
            return None
        return len(np.unique(self.units if rows is None else self.units[rows]))

    def check_rows(self, **arrays: Sequence[Any]) -> None:
        """Refuse arrays that have not one entry a row, by their names.

        Raises:
            ConfigError: Names the two lengths.
            ValueError: Strata or clusters do not fit the subjects.
        """
        assert self._parts
        for name, several in arrays.items():
            for array in several:
                size = len(array) if np.ndim(array) else 0
                if size != self.num_rows:
                    raise ConfigError(
                        f"bootstrap: {name} and subjects must have one entry a row",
                        got=f"{size} {name}, {self.num_rows} subjects (or first outcomes)",
                        expected="equal lengths, rows in the same order",
                    )

    def sample(
        self,
        metric: str | Callable[..., Any],
        outcomes: Sequence[Any],
        predictions: Sequence[Any],
        rows: np.ndarray | None = None,
    ) -> Sampled:
        """Evaluate a metric in every draw, averaged over ``predictions`` (one a seed).

        Args:
            metric: Name, or a function ``(*outcomes, predictions) -> number``.
            outcomes: Arrays over all N rows, in the metric's order.
            predictions: One array a seed, each over all N rows.
            rows: Which rows count (a mask or indices); default all.
        """
        spec = _spec(metric)
        if len(predictions) == 0:
            raise ConfigError(
                "bootstrap: no predictions", expected="one array a seed, at least one"
            )
        self.check_rows(outcomes=outcomes, predictions=predictions)
        chosen = np.arange(self.num_rows) if rows is None else np.arange(self.num_rows)[rows]
        arrays = [
            spec.check([*(np.asarray(o)[chosen] for o in outcomes), np.asarray(p)[chosen]])
            for p in predictions
        ]
        del predictions  # of many rows each copy is large
        people, counts = self.codes[chosen], spec.counts_events
        base: dict[str, Any] = {
            "n": len(chosen),
            "events": people_among(people, arrays[0][0] > 0) if counts else None,
            "non_events": people_among(people, arrays[0][0] <= 0) if counts else None,
            "subjects": len(np.unique(people)),
            "clusters": self.num_clusters(chosen),
            "inflated": spec.inflated,
        }
        ones = np.ones((len(chosen), 1))
        empty = len(chosen) == 0
        points = np.array([np.nan if empty else spec.draws(*a, ones)[0] for a in arrays])
        if np.isnan(points).any():
            nothing = np.full(self.draws, np.nan)
            lost = arrays[int(np.isnan(points).argmax())]
            reason = "no rows" if empty else spec.reason(lost)
            return Sampled(points=points, draws=nothing, note=reason, **base)

        is_all = np.array_equal(chosen, np.arange(self.num_rows))

        def of(block: np.ndarray) -> np.ndarray:
            own = block if is_all else block[chosen]
            return np.asarray(np.mean([spec.draws(*a, own) for a in arrays], axis=0))

        drawn = [*map(of, self.blocks())]
        note = spec.remark_of(arrays[0])
        return Sampled(points=points, draws=np.concatenate(drawn), note=note, **base)


PLAIN = Resampling()
"""What is drawn where nobody says more: rows, a thousand times."""


def codes_of_labels(labels: Any, name: str) -> np.ndarray:
    """Number labels from 0 in ascending order, (N,).

    Raises:
        ConfigError: If they are missing in places, of kinds that cannot be ordered, or not (N,).
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ConfigError(f"{name}: must be (N,), one label a row", got=f"shape {array.shape}")
    lost = int(is_missing(array).sum())
    if lost:
        raise ConfigError(
            f"{name}: a row without a label would be taken for the subject of the others",
            got=f"{lost} of {len(array)} missing",
            fix="give each such row a label of its own, or leave it out",
        )
    try:
        return np.unique(array, return_inverse=True)[1].reshape(-1)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in array})
        raise ConfigError(f"{name}: labels must be of one kind", got=", ".join(kinds)) from None


def _draw_from(generator: np.random.Generator, count: int, size: int) -> np.ndarray:
    """How often each member comes in each draw with replacement, (count, size)."""
    chosen = generator.integers(0, size, size=(count, size))
    chosen += np.arange(count)[:, None] * size
    return np.bincount(chosen.reshape(-1), minlength=count * size).reshape(count, size)


def bootstrap(
    metric: str | Callable[..., Any],
    targets: Any,
    predictions: Any,
    subjects: Any = None,
    **how: Any,
) -> Interval:
    """Give a metric with its bootstrap interval over subjects.

    Args:
        metric: Name of a metric, one of the metric functions, what a ``*_metric`` function gives
            (as ``integrated_brier_metric(times)``), or any function
            ``(*targets, predictions) -> number``.
        targets: Outcomes (N,); a tuple of arrays for several, as ``(event, time)`` for c_index.
        predictions: (N,), or (N, C) where the metric takes scores a class or a column a time.
        subjects: Subject of each row; records of one subject are drawn together. Default: each row
            is its own subject.
        how: Settings of `Resampling`: ``draws`` (1000), ``seed``, ``level`` (.95), ``strata``, and
            ``clusters``, which draws whole sites.

    Returns:
        An `Interval`; draws in which the metric does not exist are left out, and its note counts
        them. Value and interval of a metric that noise can only add to (ICI) are corrected, see
        `Sampled.corrected`.

    Raises:
        ValueError: For unequal lengths, strata and clusters together, a subject of several
            clusters, missing subjects, and settings that do not exist.
    Source:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13 (percentile interval);
        Davison & Hinkley 1997, §3.2 (strata), §3.8 (clusters drawn whole). Differs: none. How
        often the intervals cover: ``benchmarks/evaluation/interval_coverage.md``.
    """
    outcomes = _outcomes(targets)
    drawn = Resampling(subjects, **how).over(outcomes[0])
    return drawn.sample(metric, outcomes, [predictions]).interval(drawn.level)


def paired_difference(
    metric: str | Callable[..., Any],
    targets: Any,
    predictions: Sequence[Any],
    baseline: Sequence[Any],
    subjects: Any = None,
    **how: Any,
) -> Interval:
    """Give metric(A) - metric(B), averaged over seeds, with an interval over subjects.

    Both methods are scored in the same draws of subjects. The spread over seeds stands beside as
    ``seed_spread``; it is not part of the interval. For a metric where higher is better, a positive
    difference favours A.

    Args:
        metric: As in `bootstrap`.
        targets: As in `bootstrap`.
        predictions: Predictions of A, (N,) or a list of one array a seed.
        baseline: Predictions of B, (N,) or a list of one array a seed (in the same order; a
            single one is compared to each of A's, other numbers by their means).
        subjects: Subject of each row.
        how: As in `bootstrap`.

    Raises:
        ValueError: As `bootstrap`, and for predictions that are a single number.
    Source:
        Davison & Hinkley 1997, §3.8. Differs: the mean over seeds is taken inside each draw.
    """
    both = [_seeds(predictions, "predictions"), _seeds(baseline, "baseline")]
    outcomes = _outcomes(targets)
    drawn = Resampling(subjects, **how).over(outcomes[0])
    ours, theirs = (drawn.sample(metric, outcomes, one) for one in both)
    return ours.minus(theirs).interval(drawn.level)


def _seeds(predictions: Sequence[Any], name: str) -> Sequence[Any]:
    """Take plain predictions (N,) for those of a single seed."""
    if not hasattr(predictions, "__len__"):
        raise ConfigError(
            f"paired_difference: {name} must be (N,), or a list of arrays, one a seed",
            got=type(predictions).__name__,
        )
    plain = len(predictions) > 0 and all(np.ndim(one) == 0 for one in predictions)
    return [predictions] if plain else predictions


def _outcomes(targets: Any) -> tuple[Any, ...]:
    outcomes = targets if isinstance(targets, tuple) else (targets,)
    if not outcomes or np.ndim(outcomes[0]) == 0:
        raise ConfigError(
            "bootstrap: targets must be (N,), or a tuple of such arrays", got=str(outcomes)
        )
    return outcomes


def _spec(metric: str | Callable[..., Any]) -> Metric:
    """Find the vectorised form of a metric, or make a slow one for a foreign function."""
    if isinstance(metric, str):
        if metric in NEEDS_SETTINGS:
            raise ConfigError(
                f"the metric '{metric}' needs a setting", fix=f"give {NEEDS_SETTINGS[metric]}"
            )
        return lookup("metric", metric, SPECS)
    if isinstance(metric, Metric):
        return metric
    if not callable(metric):
        raise ConfigError("a metric is a name or a function", got=type(metric).__name__)
    name = getattr(metric, "__name__", "metric")
    if name in SPECS and getattr(evaluation, name) is metric:
        return SPECS[name]

    def draws(*arrays: np.ndarray) -> np.ndarray:
        *data, weights = arrays
        values = []
        for column in weights.T:
            rows = np.repeat(np.arange(len(column)), column.astype(int))
            value = metric(*(array[rows] for array in data))
            if np.ndim(value) or not isinstance(value, int | float | np.number | NotEstimable):
                raise ConfigError(
                    f"{name}: the function must give a number", got=type(value).__name__
                )
            values.append(np.nan if isinstance(value, NotEstimable) else float(value))
        return np.array(values)

    return _Foreign(name, "higher", draws, "the function gave no number")


class _Foreign(Metric):
    """A function of the user's; its arrays may have columns, (N, ...)."""

    def check(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Give the arrays as floats; refuse unequal lengths and numbers that are not finite."""
        floats = tuple(numbers(array, f"{self.name}: outcomes and predictions") for array in arrays)
        if len({len(array) for array in floats}) != 1:
            shapes = ", ".join(str(array.shape) for array in floats)
            raise ConfigError(f"{self.name}: arrays must have the same rows, got {shapes}")
        if not all(np.isfinite(array).all() for array in floats):
            raise ConfigError(f"{self.name}: outcomes and predictions must be finite numbers")
        return floats
