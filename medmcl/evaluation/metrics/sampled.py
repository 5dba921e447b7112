"""Points and draws of a metric, and the interval they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.suppression import Stepped, few
from medmcl.evaluation.metrics.metric import check_level

FEW_SUBJECTS = 20  # below this an interval is marked as rough
FEW_CLUSTERS = 10  # the same, where whole clusters (sites) are drawn
FEWEST_CLUSTERS = 5  # below this there is none: draws of so few have only a handful of values
LAST_DIGIT = 0.001  # of numbers as written
ROUNDING = 1e-12  # by which draws of one value may differ
ALL_THE_SAME = "every draw gives the same: no interval"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its bootstrap interval; `None` where it is not estimable.

    Attributes:
        value: Point value (mean over seeds), or None.
        low: Lower end, or None.
        high: Upper end, or None.
        n: Rows scored.
        events: People with a positive row or an event; None where the outcome has none.
        non_events: People with a row without it; None where that says nothing.
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
    non_events: int | None = None
    note: str = ""
    subjects: int = 0
    seeds: int = 1
    seed_spread: float | None = None

    @property
    def least(self) -> float | None:
        """What every draw, or all but a few, lies above: the lower end, or what all draws give."""
        return self.value if ALL_THE_SAME in self.note else self.low

    def __str__(self) -> str:
        if self.value is None:
            return f"not estimable: {self.note}"
        return in_brackets(self.value, self.low, self.high)

    def numbers(self) -> dict[str, Any]:
        """What rows of tables take of it: the number, its ends, of whom, and the note."""
        names = ("value", "low", "high", "n", "events", "subjects", "note")
        return {name: getattr(self, name) for name in names}


def in_brackets(value: float, low: float | None, high: float | None, sign: str = "") -> str:
    """Write ``0.812 (0.790 to 0.830)``, or the value alone; ``sign``: "+" of a difference.

    A number that was rounded to a wider step than its last digit is ``about 0.95 (0.90 to 1.00)``.
    """
    shown = f"{value:{sign}z.3f}"
    if isinstance(value, Stepped) and value.step > LAST_DIGIT and not shown.startswith("<"):
        shown = f"about {shown}"
    if low is None or high is None:
        return shown
    return f"{shown} ({low:{sign}z.3f} to {high:{sign}z.3f})"


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Point values and draws of a metric, before they become an `Interval`.

    Attributes:
        points: One value a seed, (S,); NaN where not estimable.
        draws: Mean over seeds in each draw, (W,); NaN where not estimable.
        n: Rows scored.
        events: People with a positive row or an event.
        subjects: Subjects drawn.
        non_events: People with a row without it; None where that says nothing.
        note: Reason or remark so far.
        inflated: Whether noise can only add to the metric, see `corrected`.
        clusters: Clusters drawn whole, as sites; None where subjects are drawn.
        encloses: Whether the interval is widened to the value where it would not hold it: the
            correction moves value and draws apart.
        drawn: What ``subjects`` counts, for notes.
        is_of_varied: Whether it is a difference, or a mean of such, of two methods of which one
            at least varies over the draws: that all differences are alike then tells that the two
            are, and is an interval.
    """

    points: np.ndarray
    draws: np.ndarray
    n: int
    events: int | None
    subjects: int
    non_events: int | None = None
    note: str = ""
    inflated: bool = False
    clusters: int | None = None
    encloses: bool = False
    drawn: str = "subjects"
    is_of_varied: bool = False

    def corrected(self) -> Sampled:
        """Take the noise off a metric that noise can only add to (ICI); others pass.

        The sample's noise e is in the value once, in a draw twice. As independent noises add up in
        squares, e**2 = mean(draws)**2 - value**2, the value becomes sqrt(value**2 - e**2), a draw
        sqrt(draw**2 - 2 e**2), both at least zero.

        Source:
            None; coverage and bias are measured in ``benchmarks/evaluation/interval_coverage.md``.
        """
        usable = self.draws[~np.isnan(self.draws)]
        if not self.inflated or len(usable) == 0:
            return replace(self, inflated=False)
        value = float(self.points.mean())
        noise = max(0.0, float(usable.mean()) ** 2 - value**2)
        note = "corrected for noise"
        return replace(
            self,
            points=np.sqrt(np.maximum(self.points**2 - noise, 0)),
            draws=np.sqrt(np.maximum(self.draws**2 - 2 * noise, 0)),
            note="; ".join(text for text in (self.note, note) if text),
            inflated=False,
            encloses=True,
        )

    def minus(self, other: Sampled) -> Sampled:
        """Give the paired difference; unequal numbers of seeds are compared by their means."""
        if self.inflated or other.inflated:
            return self.corrected().minus(other.corrected())
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
            encloses=False,
            is_of_varied=not (self.is_flat and other.is_flat),
        )

    @property
    def is_flat(self) -> bool:
        """Whether every draw gives the same, as of classes that are separated (AUROC 1)."""
        usable = self.draws[~np.isnan(self.draws)]
        return len(usable) > 0 and float(np.ptp(usable)) <= ROUNDING

    def no_interval(self) -> str:
        """Say why the draws give no interval; empty if they do."""
        usable = int((~np.isnan(self.draws)).sum())
        said = too_few(self.subjects, self.clusters, self.drawn)
        if not said and (usable < len(self.draws) / 2 or usable < 2):
            said = "too few events for an interval"
        if not said and self.is_flat and not self.is_of_varied:
            said = ALL_THE_SAME  # (1.000 to 1.000) would claim to know what nobody can
        return said

    def p_value(self) -> float | None:
        """Two-sided p of the value being zero, by inverting the percentile interval.

        The largest level at which the percentile interval does not hold zero, so that a p below
        .05 and a 95 % interval without zero say the same: twice the smaller share of draws on
        either side of zero, a draw at zero counted on both, one more in both counts so that no p
        is zero. None where there is no interval.

        Source:
            Davison & Hinkley 1997, §4.4.5 and §5.4. Differs: none.
        """
        if self.inflated:
            return self.corrected().p_value()
        if np.isnan(self.points).any() or self.no_interval():
            return None
        draws = self.draws[~np.isnan(self.draws)]
        sides = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
        return min(1.0, 2 * (sides + 1) / (len(draws) + 1))

    def interval(self, level: float = 0.95) -> Interval:
        """Turn the draws into an interval with everything a reader must know.

        Raises:
            ConfigError: For a level outside (0, 1).
        """
        check_level(level)
        if self.inflated:
            return self.corrected().interval(level)
        value = float(self.points.mean())
        base: dict[str, Any] = {"n": self.n, "events": self.events, "subjects": self.subjects}
        base["non_events"] = self.non_events
        seeds = len(self.points)
        if np.isnan(value):
            return Interval(value=None, low=None, high=None, note=self.note, seeds=seeds, **base)
        usable = self.draws[~np.isnan(self.draws)]
        spread = float(self.points.std(ddof=1)) if seeds > 1 else None
        found = Interval(value=value, low=None, high=None, seeds=seeds, seed_spread=spread, **base)
        notes = [self.note] if self.note else []
        lacking = self.no_interval()
        if lacking:
            return replace(found, note="; ".join([*notes, lacking]))
        if len(usable) < len(self.draws):
            left_out = len(self.draws) - len(usable)
            notes.append(f"{left_out} of {len(self.draws)} draws were not estimable, left out")
        if self.subjects < FEW_SUBJECTS:
            notes.append(f"{few(self.subjects)} {self.drawn}: rough interval")
        if self.clusters is not None and self.clusters < FEW_CLUSTERS:
            notes.append(
                f"{self.clusters} sites: rough interval, {FEW_CLUSTERS} or more are wanted"
            )
        ends = np.array([(1 - level) / 2, (1 + level) / 2])
        low, high = (float(end) for end in np.quantile(usable, ends))
        if self.encloses:
            low, high = min(low, value), max(high, value)
        return replace(found, low=low, high=high, note="; ".join(notes))


def people_among(subjects: np.ndarray, rows: np.ndarray) -> int:
    """Count the people of some rows: whoever has several counts once.

    Args:
        subjects: Subject of each row, any codes. (N,)
        rows: Which rows. (N,) bool
    """
    return len(np.unique(subjects[rows]))


def too_few(subjects: int, clusters: int | None, drawn: str = "subjects") -> str:
    """Say that there are too few to draw from for an interval; empty if there are enough."""
    if subjects < 2:
        return f"one {drawn.removesuffix('s')}: no interval"
    if clusters is not None and clusters < FEWEST_CLUSTERS:
        return f"{clusters} site{'' if clusters == 1 else 's'}: too few for an interval by site"
    return ""


def mean_of(parts: Sequence[Sampled], names: Sequence[str]) -> Sampled:
    """Average columns of a task (macro mean), naming those that are not estimable."""
    parts = [part.corrected() for part in parts]
    usable = [part for part in parts if not np.isnan(part.points).any()]
    lost = [name for name, part in zip(names, parts, strict=True) if np.isnan(part.points).any()]
    if not usable:
        said = [f"estimable for none of {len(parts)} columns"]
        reasons = {part.note for part in parts}
        said += [note for note in reasons if note] if len(reasons) == 1 else []
        return replace(parts[0], note=": ".join(said))
    events = [part.events for part in usable if part.events is not None]
    largest = max(usable, key=lambda part: part.subjects)
    notes = [f"mean over {len(usable)} of {len(parts)}; not estimable: {', '.join(lost)}"]
    notes = notes if lost else []
    each = np.stack([part.draws for part in usable])
    draws = each.mean(axis=0)
    if np.isnan(draws).sum() > len(draws) / 2:  # some columns are rare: few draws hold all
        known = ~np.isnan(each)
        some = known.sum(axis=0)
        draws = np.where(
            some > 0, np.where(known, each, 0).sum(axis=0) / np.maximum(some, 1), np.nan
        )
        notes.append("interval of rare columns: each draw is the mean over those it can tell")
    return Sampled(
        points=np.mean([part.points for part in usable], axis=0),
        draws=draws,
        n=max(part.n for part in usable),
        events=sum(events) if events else None,
        subjects=largest.subjects,
        clusters=largest.clusters,
        note="; ".join(notes),
        encloses=any(part.encloses for part in usable),
        is_of_varied=any(part.is_of_varied for part in usable),
    )
