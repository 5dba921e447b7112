"""Bootstrap intervals over subjects, for one method and for the difference between two.

Subjects are drawn with replacement, all records of a subject together, and the draw is a matrix of
whole-number weights, so that a thousand draws are one vectorised evaluation. The same seed and the
same subjects give the same draws for every metric and method: differences are paired by birth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.config import lookup
from medmcl.core.rng import numpy_generator
from medmcl.evaluation.metrics import FUNCTIONS, SPECS, Metric, NotEstimable

ENTRIES_AT_ONCE = 8_000_000  # weights held at once: 64 MB
FEW_SUBJECTS = 20  # below this an interval is marked as rough


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its bootstrap interval; `None` where it is not estimable.

    Attributes:
        value: Point value (mean over seeds), or None.
        low: Lower end, or None.
        high: Upper end, or None.
        n: Rows scored.
        events: Positives or events among them; None where the outcome has none.
        note: What a reader must know; the reason if something is None.
        subjects: Subjects drawn.
        seeds: Predictions averaged (seeds, or draws of the labelled subset).
        seed_spread: Standard deviation of the value over them; None for a single one.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    events: int | None = None
    note: str = ""
    subjects: int = 0
    seeds: int = 1
    seed_spread: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"not estimable: {self.note}"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Point values and draws of a metric, before they become an `Interval`.

    Attributes:
        points: One value a seed, (S,); NaN where not estimable.
        draws: Mean over seeds in each draw, (W,); NaN where not estimable.
        n: Rows scored.
        events: Positives or events among them.
        subjects: Subjects drawn.
        note: Reason or remark so far.
    """

    points: np.ndarray
    draws: np.ndarray
    n: int
    events: int | None
    subjects: int
    note: str = ""

    def minus(self, other: Sampled) -> Sampled:
        """Give the paired difference; unequal numbers of seeds are compared by their means."""
        ours, theirs = self.points, other.points
        notes = [note for note in (self.note, other.note) if note]
        if len(ours) != len(theirs) and 1 not in (len(ours), len(theirs)):
            notes.append(f"{len(ours)} and {len(theirs)} seeds, not paired")
            ours, theirs = ours.mean(keepdims=True), theirs.mean(keepdims=True)
        return replace(
            self,
            points=ours - theirs,
            draws=self.draws - other.draws,
            note="; ".join(dict.fromkeys(notes)),
        )

    def interval(self, level: float = 0.95) -> Interval:
        """Turn the draws into a percentile interval with everything a reader must know."""
        value = float(self.points.mean())
        base: dict[str, Any] = {"n": self.n, "events": self.events}
        base["subjects"] = self.subjects
        seeds = len(self.points)
        if np.isnan(value):
            return Interval(value=None, low=None, high=None, note=self.note, seeds=seeds, **base)
        usable = self.draws[~np.isnan(self.draws)]
        spread = float(self.points.std(ddof=1)) if seeds > 1 else None
        found = Interval(value=value, low=None, high=None, seeds=seeds, seed_spread=spread, **base)
        notes = [self.note] if self.note else []
        if self.subjects < 2:
            return replace(found, note="; ".join([*notes, "one subject: no interval"]))
        if len(usable) < len(self.draws) / 2 or len(usable) < 2:
            return replace(found, note="; ".join([*notes, "too few events for an interval"]))
        if len(usable) < len(self.draws):
            left_out = len(self.draws) - len(usable)
            notes.append(f"{left_out} of {len(self.draws)} draws were not estimable, left out")
        if self.subjects < FEW_SUBJECTS:
            notes.append(f"{self.subjects} subjects: rough interval")
        low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
        return replace(found, low=float(low), high=float(high), note="; ".join(notes))


class Resampler:
    """Draws subjects with replacement, the same for every metric and method.

    Args:
        groups: Subject of each row, any codes. (N,)
        draws: Number of bootstrap draws W.
        seed: Seed of the draws.
    """

    def __init__(self, groups: Any, *, draws: int = 1000, seed: int = 0) -> None:
        _, codes = np.unique(np.asarray(groups), return_inverse=True)
        self.codes = codes.reshape(-1)
        self.num_rows = len(self.codes)
        self.num_subjects = int(self.codes.max(initial=-1)) + 1
        self.num_draws = draws
        self.seed = seed
        self._whole: np.ndarray | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield weights of the rows for some draws at a time, (N, w)."""
        if self._whole is not None:
            yield self._whole
            return
        size = max(1, min(self.num_draws, ENTRIES_AT_ONCE // max(1, self.num_rows)))
        generator = numpy_generator(self.seed, "bootstrap", self.num_subjects)
        for first in range(0, self.num_draws, size):
            weights = self._draw(generator, min(size, self.num_draws - first))
            if size == self.num_draws:
                self._whole = weights
            yield weights

    def _draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        size = self.num_subjects
        chosen = generator.integers(0, size, size=(count, size))
        chosen += np.arange(count)[:, None] * size
        times = np.bincount(chosen.reshape(-1), minlength=count * size).reshape(count, size)
        return np.ascontiguousarray(times.T[self.codes], dtype=np.float64)

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
        chosen = np.arange(self.num_rows) if rows is None else np.arange(self.num_rows)[rows]
        arrays = [
            spec.check([*(np.asarray(o)[chosen] for o in outcomes), np.asarray(p)[chosen]])
            for p in predictions
        ]
        events = int((np.asarray(outcomes[0])[chosen] > 0).sum()) if spec.counts_events else None
        base: dict[str, Any] = {
            "n": len(chosen),
            "events": events,
            "subjects": len(np.unique(self.codes[chosen])),
        }
        ones = np.ones((len(chosen), 1))
        empty = len(chosen) == 0
        points = np.array([np.nan if empty else spec.draws(*a, ones)[0] for a in arrays])
        if np.isnan(points).any():
            nothing = np.full(self.num_draws, np.nan)
            reason = "no rows" if empty else spec.missing
            return Sampled(points=points, draws=nothing, note=reason, **base)
        parts = [
            np.mean([spec.draws(*a, block[chosen]) for a in arrays], axis=0)
            for block in self.blocks()
        ]
        return Sampled(points=points, draws=np.concatenate(parts), **base)


def mean_of(parts: Sequence[Sampled], names: Sequence[str]) -> Sampled:
    """Average columns of a task (macro mean), naming those that are not estimable."""
    usable = [part for part in parts if not np.isnan(part.points).any()]
    lost = [name for name, part in zip(names, parts, strict=True) if np.isnan(part.points).any()]
    if not usable:
        return replace(parts[0], note=f"estimable for none of {len(parts)} columns")
    events = [part.events for part in usable if part.events is not None]
    largest = max(usable, key=lambda part: part.subjects)
    note = f"mean over {len(usable)} of {len(parts)}; not estimable: {', '.join(lost)}"
    return Sampled(
        points=np.mean([part.points for part in usable], axis=0),
        draws=np.mean([part.draws for part in usable], axis=0),
        n=max(part.n for part in usable),
        events=sum(events) if events else None,
        subjects=largest.subjects,
        note=note if lost else "",
    )


def bootstrap(
    metric: str | Callable[..., Any],
    targets: Any,
    predictions: Any,
    groups: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Give a metric with its percentile bootstrap interval over subjects.

    Args:
        metric: Name of a metric, one of the metric functions, or any function
            ``(*targets, predictions) -> number``.
        targets: Outcomes (N,); a tuple of arrays for several, as ``(event, time)`` for c_index.
        predictions: (N,), or (N, C) where the metric takes scores a class.
        groups: Subject of each row; records of one subject are drawn together. Default: each row
            is its own subject.
        draws: Bootstrap draws.
        seed: Seed of the draws; equal seeds and subjects give equal draws.
        level: Coverage aimed at.

    Returns:
        An `Interval`; draws in which the metric does not exist are left out, and its note counts
        them.
    Source:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13 (percentile interval);
        Davison & Hinkley 1997, §3.8 (clusters drawn whole). Differs: none.
    """
    outcomes = _outcomes(targets)
    codes = np.arange(len(outcomes[0])) if groups is None else groups
    sampler = Resampler(codes, draws=draws, seed=seed)
    return sampler.sample(metric, outcomes, [predictions]).interval(level)


def paired_difference(
    metric: str | Callable[..., Any],
    targets: Any,
    predictions: Sequence[Any],
    baseline: Sequence[Any],
    groups: Any = None,
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Give metric(A) - metric(B), averaged over seeds, with an interval over subjects.

    Both methods are scored in the same draws of subjects. The spread over seeds stands beside as
    ``seed_spread``; it is not part of the interval. For a metric where higher is better, a positive
    difference favours A.

    Args:
        metric: As in `bootstrap`.
        targets: As in `bootstrap`.
        predictions: Predictions of A, one array a seed.
        baseline: Predictions of B, one array a seed (in the same order; a single one is compared
            to each of A's, other numbers by their means).
        groups: Subject of each row.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage aimed at.
    Source:
        Davison & Hinkley 1997, §3.8. Differs: the mean over seeds is taken inside each draw.
    """
    outcomes = _outcomes(targets)
    codes = np.arange(len(outcomes[0])) if groups is None else groups
    sampler = Resampler(codes, draws=draws, seed=seed)
    ours = sampler.sample(metric, outcomes, predictions)
    return ours.minus(sampler.sample(metric, outcomes, baseline)).interval(level)


def _outcomes(targets: Any) -> tuple[Any, ...]:
    return targets if isinstance(targets, tuple) else (targets,)


def _spec(metric: str | Callable[..., Any]) -> Metric:
    """Find the vectorised form of a metric, or make a slow one for a foreign function."""
    if isinstance(metric, str):
        return lookup("metric", metric, SPECS)
    if isinstance(metric, Metric):
        return metric
    name = getattr(metric, "__name__", "metric")
    if FUNCTIONS.get(name) is metric:
        return SPECS[name]

    def draws(*arrays: np.ndarray) -> np.ndarray:
        *data, weights = arrays
        values = []
        for column in weights.T:
            rows = np.repeat(np.arange(len(column)), column.astype(int))
            value = metric(*(array[rows] for array in data))
            values.append(np.nan if isinstance(value, NotEstimable) else float(value))
        return np.array(values)

    return Metric(name, "higher", draws, "the function gave no number")
