"""Columns of a cohort unlike those of training: 0/1 for male/female, months, empty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.core.suppression import Covered, shown_part
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.protocol.reach import QUARTILES, ColumnReach
from medmcl.modalities.tabular.adapter import read_cell
from medmcl.stages.predict.other_codes import OtherCodes, other_codes
from medmcl.stages.predict.saved import COLUMNS, load_prediction
from medmcl.stages.run.features import kept_reading
from medmcl.stages.run.run import Run

HANDFUL = 5
"""Fewer values say nothing of the unit of a column: each is told of its own row."""
SHOWN = 8
"""Levels that are named."""
TOO_MUCH = 0.5
"""Share of the people with a value beyond which a column is refused."""
TIMES = 3.0
"""Times those of training that every quartile is, or part of them, where a unit may be another."""
SOME = 20
"""Fewer numbers have no quartiles to compare."""
PARTLY = 0.1
"""Share of the numbers outside beyond which some may be in another unit."""
MANY_TIMES = 3
"""And times the share that lies outside by chance."""
FEW_PEOPLE = 10
"""Fewer people with a value say nothing of how a column is coded, where most have none."""


@dataclass(frozen=True, kw_only=True)
class OtherCoding:
    """A column with cells that the run cannot read as it read its own.

    Attributes:
        modality: The table.
        column: The column.
        levels: Categories that the run knows; None of a number.
        found: Cells of the cohort that it does not know, the most frequent first.
        known: How many people have any.
        whole: How many have a row in the table.
        strange: Subject to such a cell of theirs.
        min_count: Rows of training that a category needed; rarer ones were taken as one, of
            which a new one is then taken to be, too.
    """

    modality: str
    column: str
    levels: tuple[str, ...] | None
    found: tuple[str, ...]
    known: int
    whole: int
    strange: Mapping[str, str]
    min_count: int = 1
    code: ClassVar[str] = "tabular.other_coding"

    @property
    def tells(self) -> bool:
        """Whether those with a value say how the column is coded: some, or most of the people."""
        most = self.known > TOO_MUCH * self.whole and not self.is_pooled
        return self.known >= FEW_PEOPLE or most

    @property
    def is_pooled(self) -> bool:
        """Whether training had people of rare categories, taken as one."""
        return self.min_count > 1 and self.levels is not None

    @property
    def is_too_much(self) -> bool:
        """Whether more than half of the people with a value are strange: no score means much."""
        return self.tells and len(self.strange) > TOO_MUCH * self.known

    @property
    def is_recoded(self) -> bool:
        """Whether nobody's value is one that training had."""
        return self.tells and len(self.strange) == self.known

    def __str__(self) -> str:
        return f"{self.modality}, {self.column}: {self.what}"

    @property
    def what(self) -> str:
        """How many people have what."""
        whom = f"{len(self.strange):,} of {counted(self.known, 'person', 'people')} with a value"
        have = "has" if self.known == 1 else "have"
        cells = _some(self.found)
        if self.levels is None:
            return f"{whom} {have} no number, as in training: {cells}"
        how = f" {self.min_count} times" if self.is_pooled else ""
        return (
            f"{whom} {have} a category that training had not{how}: {cells} "
            f"(training: {_some(self.levels)})"
        )

    @property
    def shown(self) -> str:
        """The same where it leaves: without cells of people, or how many they are."""
        part = shown_part(len(self.strange), self.known)
        what = "no number" if self.levels is None else "a category that training had not"
        return f"{self.modality}, {self.column}: {part} people with a value have {what}"

    def said_of(self, subject: str) -> str:
        """Why somebody strange gets no prediction; empty of others."""
        if subject not in self.strange:
            return ""
        had = "numbers" if self.levels is None else _some(self.levels)
        return f"{self.modality}: {self.column} is {self.strange[subject]!r}, training had {had}"

    @property
    def fix(self) -> str:
        """How to code the column as the run knows it."""
        if self.levels is None:
            return f"recode {self.column} as in training (numbers: for example yes as 1, no as 0)"
        same = {level.strip().casefold(): level for level in self.levels}
        meant = [f"{cell!r} is {same[plain]!r}" for cell in self.found[:SHOWN]
                 if (plain := cell.strip().casefold()) in same]  # fmt: skip
        pairs = ", ".join(f"{cell!r}, …" for cell in self.found[:SHOWN])
        return (
            f"recode {self.column} as in training ({_some(self.levels)}), in the table or by "
            f'derive: {{{self.column}: "recode({self.column}, {pairs})"}} in cohort.yaml'
        ) + (f"; perhaps {', '.join(meant)}" if meant else "")


@dataclass(frozen=True, kw_only=True)
class OtherRange:
    """A column with numbers far beyond the range of training, most outside, or of another size.

    Attributes:
        modality: The table.
        column: The column.
        low: Smallest number of training.
        high: Largest.
        median: Of the numbers that the cohort has.
        known: How many these are.
        outside: Of them, those outside that range.
        beyond: Of them, those beyond it by more than its width.
        people: Of training, whose range it is.
        times: Median by that of training, where all three quartiles differ so (`TIMES`), as mg/dL
            and mg/L may within one range; 1 elsewhere.
    """

    modality: str
    column: str
    low: float
    high: float
    median: float
    known: int
    outside: int
    beyond: int
    people: int
    times: float = 1.0
    code: ClassVar[str] = "tabular.other_range"

    @property
    def is_too_much(self) -> bool:
        """Whether more than half of at least a handful are far beyond: no score means much."""
        return self.known >= HANDFUL and self.beyond > TOO_MUCH * self.known

    @property
    def is_elsewhere(self) -> bool:
        """Whether more than half of at least a handful lie outside, however near."""
        return self.known >= HANDFUL and self.outside > TOO_MUCH * self.known

    @property
    def is_partly(self) -> bool:
        """Whether more lie outside than by chance, at least a handful, and no more than half.

        Of N people like those in training two in N lie outside their range.
        """
        by_chance = 2 * self.known / max(1, self.people)
        most = max(PARTLY * self.known, MANY_TIMES * by_chance)
        return not self.is_elsewhere and self.outside >= HANDFUL and self.outside > most

    is_recoded: ClassVar[bool] = False
    """Not refused by a prediction: it says so of every row, in ``quality`` or ``outside_of``."""

    def __str__(self) -> str:
        return f"{self.modality}, {self.column}: {self.what}"

    @property
    def what(self) -> str:
        """How many numbers lie outside of what."""
        if self.size > 1 and not self.is_elsewhere:
            return f"{counted(self.known, 'value')} (median {self.median:.3g}) are {self._sized}"
        lie = "lies" if self.known == 1 else "lie"
        here = f" (median {shown_in(self.median, self.low, self.high)})" * self.is_elsewhere
        return (
            f"{self._count:,} of {counted(self.known, 'value')}{here} {lie} {self._far}outside "
            f"{self._range} of training: {self._doubt}"
        )

    @property
    def shown(self) -> str:
        """The same where it leaves: without how many they are, or the median of them."""
        if self.size > 1 and not self.is_elsewhere:
            return f"{self.modality}, {self.column}: values are {self._sized}"
        part = shown_part(self._count, self.known)
        return (
            f"{self.modality}, {self.column}: {part} values lie {self._far}outside "
            f"{self._range} of training: {self._doubt}"
        )

    @property
    def _far(self) -> str:
        near = self.is_elsewhere or (self.is_partly and self.beyond < self.outside)
        return "" if near and not self.is_too_much else "far "

    @property
    def _count(self) -> int:
        return self.beyond if self._far else self.outside

    @property
    def _doubt(self) -> str:
        if self.is_elsewhere:
            return "another unit?"
        return "another unit of some?" if self.is_partly else "mistakes, or another unit?"

    @property
    def fix(self) -> str:
        """How to bring the column into the unit of training."""
        return (
            f"write {self.column} in the unit of training ({self._range}), in the table or by "
            f"derive: {{{self.column}: FACTOR * {self.column}}} in cohort.yaml; "
            "a code for a missing cell is named under `missing:` in cohort.yaml"
        )

    @property
    def size(self) -> float:
        """Times of training, larger or smaller; 1 of like numbers."""
        return max(self.times, 1 / self.times)

    @property
    def _sized(self) -> str:
        how = "larger" if self.times > 1 else "smaller"
        return f"about {self.size:.2g} times {how} than in training: another unit, or other people?"

    @property
    def _range(self) -> str:
        ends = self.low, self.high
        return " to ".join(shown_in(one, *ends) for one in ends)


@dataclass(frozen=True, kw_only=True)
class NobodyHas:
    """A column that training had and of which nobody here has a cell.

    Attributes:
        modality: The table.
        column: The column.
        whole: How many people have a row in the table.
    """

    modality: str
    column: str
    whole: int
    code: ClassVar[str] = "tabular.nobody_has"
    is_too_much: ClassVar[bool] = False
    is_recoded: ClassVar[bool] = False
    """Nor refused by a prediction: the others' columns may tell enough."""

    def __str__(self) -> str:
        return f"{self.modality}, {self.column}: {self.what}"

    @property
    def what(self) -> str:
        """How many people lack it, and what follows."""
        return (
            f"none of {counted(self.whole, 'person', 'people')} has a value, which training had: "
            "everybody gets the train mean of it, and is predicted from the rest"
        )

    @property
    def fix(self) -> str:
        """What to look at."""
        return (
            f"look whether the cells of {self.column} were lost, or stand in another column; if "
            "nobody was measured, expect worse predictions than at home"
        )


StrangeColumn = OtherCoding | OtherRange | NobodyHas | OtherCodes


def shown_in(number: float, low: float, high: float, digits: int = 4) -> str:
    """Write a number to some digits of a range: of 0 to 1, rounding leaves 0, not -5.7e-09."""
    width = high - low
    if width > 0:
        number = round(number, digits - 1 - math.floor(math.log10(width))) + 0.0
    return f"{number:.{digits}g}"


def other_ranges(
    cohort: Cohort, modality: str, read: Mapping[str, Any], reach: ColumnReach
) -> tuple[OtherRange, ...]:
    """Compare the numbers of a table with what a run keeps of each column's range.

    Args:
        cohort: The cohort.
        modality: The table.
        read: How the run reads it: settings and state of its adapter.
        reach: Ranges, of numbers standardised as the state says.
    """
    found = []
    places = cohort.records[modality]["place"]
    for column in cohort.spec.modalities[modality].cell_columns:
        if column not in read["state"].get("scales", {}) or column not in reach.names:
            continue
        mean, deviation = read["state"]["scales"][column]
        one = reach.of([column])
        cells = [read_cell(place.values.get(column), "number")[0] for place in places]
        numbers = np.array([cell for cell in cells if cell is not None], dtype=np.float64)
        if not len(numbers):
            continue  # see `nobody_has`
        standard = ((numbers - mean) / deviation)[:, None]
        own = OtherRange(
            modality=modality,
            column=column,
            low=float(one.low[0] * deviation + mean),
            high=float(one.high[0] * deviation + mean),
            median=float(np.median(numbers)),
            known=len(numbers),
            outside=int(one.beyond_range(standard).sum()),
            beyond=int(one.implausible(standard).sum()),
            people=reach.people,
            times=_times(numbers, one.quartiles[:, 0] * deviation + mean),
        )
        if own.beyond or own.is_elsewhere or own.is_partly or own.times != 1:
            found.append(own)
    return tuple(found)


def _times(numbers: np.ndarray, home: np.ndarray) -> float:
    """How many times ``home`` (quartiles, (3,)) those of numbers are, if all by `TIMES`; else 1."""
    here = np.quantile(numbers, QUARTILES)
    if len(numbers) < SOME or not (np.minimum(home, here) > 0).all():
        return 1.0
    ratios = here / home
    is_other = (ratios >= TIMES).all() or (ratios <= 1 / TIMES).all()
    return float(ratios[1]) if is_other else 1.0


def nobody_has(
    cohort: Cohort, modality: str, read: Mapping[str, Any], reach: ColumnReach | None
) -> tuple[NobodyHas, ...]:
    """Find columns that a cohort names and nobody in it has, though people in training had."""
    state = read["state"]
    places = list(cohort.records[modality]["place"])
    whole = len({place.subject for place in places})
    had = {name for name, levels in state.get("levels", {}).items() if levels}
    if reach is not None:
        had |= {
            name
            for name, low in zip(reach.names, reach.low, strict=True)
            if np.isfinite(low) and name in state.get("scales", {})
        }
    return tuple(
        NobodyHas(modality=modality, column=column, whole=whole)
        for column in cohort.spec.modalities[modality].cell_columns
        if whole >= HANDFUL
        and column in had
        and all(read_cell(place.values.get(column), "category")[0] is None for place in places)
    )


def other_coding(cohort: Cohort, modality: str, read: Mapping[str, Any]) -> tuple[OtherCoding, ...]:
    """Compare the cells of a table with how a run reads it: settings and state of its adapter.

    Cells are read as the kind that the column was in training, whatever it is here.
    """
    state = read["state"]
    scales, levels = state.get("scales", {}), state.get("levels", {})
    found = []
    places = list(cohort.records[modality]["place"])
    for column in cohort.spec.modalities[modality].cell_columns:
        if column not in scales and column not in levels:
            continue
        is_number = column in scales
        own = frozenset(() if is_number else levels[column])
        known: set[str] = set()
        strange: dict[str, str] = {}
        for place in places:
            cell, is_read = read_cell(
                place.values.get(column), "number" if is_number else "category"
            )
            if cell is None and is_read:
                continue
            known.add(place.subject)
            if not is_read or (not is_number and cell not in own):
                strange[place.subject] = str(place.values[column] if is_number else cell)
        if strange:
            found.append(
                OtherCoding(
                    modality=modality,
                    column=column,
                    levels=None if is_number else tuple(levels[column]),
                    found=tuple(cell for cell, _ in Counter(strange.values()).most_common()),
                    known=len(known),
                    whole=len({place.subject for place in places}),
                    strange=strange,
                    min_count=int(read["settings"].get("min_count", 1)),
                )
            )
    return tuple(found)


def coded_otherwise(
    run: Run, cohort: Cohort, covariates: str | None, *, is_frozen: bool
) -> tuple[StrangeColumn, ...]:
    """Look at every table, and all codes, read as the run read them: coding, ranges, gaps.

    Args:
        run: The run.
        cohort: The cohort.
        covariates: The table that a probe reads as it is; read as the run did if ``is_frozen``.
        is_frozen: Whether kept probes are applied.
    """
    read: dict[str, Mapping[str, Any]] = {}
    trained = {name for spec in run.stages.values() for name in spec.towers}
    for name, entry in run.preprocessing.items():
        if name in trained or (is_frozen and name != covariates):
            read[name] = entry
    kept = kept_reading(run, covariates) if covariates is not None and is_frozen else None
    if kept is not None and covariates is not None:
        read[covariates] = kept
    have = cohort.spec.modalities
    tables = [name for name in read if name in have and have[name].traits.tabular]
    kept_reach = load_prediction(run).reach
    found: list[StrangeColumn] = []
    for name in tables:
        found += other_coding(cohort, name, read[name])
        reach = kept_reach.get((COLUMNS, name))
        kept_range = reach if isinstance(reach, ColumnReach) else None
        if kept_range is not None:
            found += other_ranges(cohort, name, read[name], kept_range)
        found += nobody_has(cohort, name, read[name], kept_range)
    for name in read:
        if name in have and have[name].traits.records_from == "events":
            own = other_codes(cohort, name, read[name])
            found += [own] if own is not None else []
    return tuple(found)


def said_once(found: Sequence[StrangeColumn]) -> list[str]:
    """A line a column; ranges and gaps beyond `SHOWN` are counted, the worst come first."""
    ranges = [one for one in found if isinstance(one, OtherRange)]
    ranges.sort(key=lambda one: (-one.beyond / one.known, -one.outside / one.known, -one.size))
    empty = [one for one in found if isinstance(one, NobodyHas)]
    lines = [
        _line(one)
        for one in found
        if isinstance(one, OtherCoding) or (isinstance(one, OtherCodes) and one.is_said)
    ]
    some: tuple[tuple[Sequence[StrangeColumn], str], ...] = (
        (ranges, "with values outside training"),
        (empty, "that nobody has and training had"),
    )
    for kind, how in some:
        lines += map(_line, kind[:SHOWN])
        if len(kind) > SHOWN:
            lines.append(f"{counted(len(kind) - SHOWN, 'more column')} {how}")
    return lines


def _line(one: StrangeColumn) -> str:
    return str(one) if isinstance(one, NobodyHas) else Covered(str(one), one.shown)


def refuse_other_coding(found: Sequence[StrangeColumn], where: object) -> None:
    """Refuse columns that are coded otherwise, all in one error.

    Raises:
        CohortError: There are some.
    """
    if found:
        raise CohortError(
            f"{counted(len(found), 'column')} coded otherwise than where the run learned "
            + ("them" if len(found) > 1 else "it"),
            where=where,
            got="; ".join(said_once(found)),
            fix="; ".join(one.fix for one in found[:SHOWN])
            + "; leave out people who truly have such values (subjects.where)"
            * any(isinstance(one, OtherRange) for one in found),
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name) for name in names[:SHOWN]) + more
