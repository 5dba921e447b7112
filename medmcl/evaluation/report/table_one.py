"""Table 1: the subjects of each split, and how far the splits differ.

One row of the input is one subject. Counts of few people are not shown, and neither is another
number from which such a count could be worked out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from medmcl.core.suppression import FEWEST_SUBJECTS, WITHHELD, Hiding, few, to_step
from medmcl.data.tables.mapped import leave
from medmcl.evaluation.metrics.standardised import smd_categories, smd_moments

Kind = Literal["number", "category"]
MOST_LEVELS = 12  # levels of a category with lines of their own; the rarest others are pooled


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A column of the subjects to describe.

    Attributes:
        name: Column.
        kind: ``number`` or ``category``.
        unit: Unit of a number.
        about: What readers see; the name if empty.
        is_outcome: Other files tell how many have a value, unless few lack one; then they tell how
            many have the event.
    """

    name: str
    kind: Kind
    unit: str = ""
    about: str = ""
    is_outcome: bool = False

    @property
    def shown(self) -> str:
        """Name with its unit."""
        name = self.about or self.name
        return f"{name} ({self.unit})" if self.unit else name


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What stands in one cell; None where it does not apply or is not shown.

    Attributes:
        text: As shown.
        count: Subjects.
        share: Of the subjects with a known value (of all, for missing).
        mean: Mean of a number, as it is shown: rounded, so that it tells of no count.
        sd: Its standard deviation, n - 1.
        median: Its median.
        lower: Its first quartile.
        upper: Its third quartile.
    """

    text: str
    count: int | None = None
    share: float | None = None
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        variable: Name of the variable, with unit.
        level: Level of a category, ``missing``, or what is described of a number.
        statistic: ``subjects``, ``mean (SD)``, ``median [IQR]``, ``count`` or ``missing``.
        cells: One a split.
        differences: Standardised mean difference of each split to the first; None at the first,
            where it does not exist, and where it would give a small count away. Only the first
            line of a variable has them.
    """

    variable: str
    level: str
    statistic: str
    cells: tuple[Cell, ...]
    differences: tuple[float | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableOne:
    """Table 1 as shown: nothing in it is held back from the page and given elsewhere.

    Attributes:
        splits: Columns; differences are to the first.
        rows: Lines.
        fewest: Counts below it are not shown.
        notes: How to read it.
    """

    splits: tuple[str, ...]
    rows: tuple[Row, ...]
    fewest: int
    notes: tuple[str, ...] = ()

    def column(self, split: str, name: str) -> TableOne:
        """Give the table of one split alone, under another name."""
        place = self.splits.index(split)
        rows = (replace(row, cells=(row.cells[place],), differences=()) for row in self.rows)
        return replace(self, splits=(name,), rows=tuple(rows), notes=())

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> TableOne:
        """Read what `dataclasses.asdict` gave of a table of one column."""
        rows = tuple(
            Row(variable=one["variable"], level=one["level"], statistic=one["statistic"],
                cells=tuple(Cell(**cell) for cell in one["cells"]))
            for one in tree["rows"]
        )  # fmt: skip
        return cls(splits=tuple(tree["splits"]), rows=rows, fewest=int(tree["fewest"]))

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns of `cells`."""
        compared = [f"SMD {name}" for name in self.splits[1:]]
        return ("variable", "level", "statistic", *self.splits, *compared)

    @property
    def text_rows(self) -> tuple[tuple[str, ...], ...]:
        """Cells as text, under `header`."""
        return tuple(
            (
                row.variable,
                row.level,
                row.statistic,
                *(cell.text for cell in row.cells),
                *(_difference(row, column) for column in range(1, len(self.splits))),
            )
            for row in self.rows
        )


def table_one(
    subjects: pd.DataFrame,
    split: Sequence[object] | np.ndarray,
    variables: Sequence[Variable],
    *,
    splits: Sequence[str] = ("train", "tuning", "held_out"),
    fewest: int = FEWEST_SUBJECTS,
    rule: Hiding | None = None,
) -> TableOne:
    """Describe the subjects of each split.

    A count of 1 to ``fewest`` - 1 subjects is shown as ``<fewest``. Where the total of a split
    would give hidden counts of a variable away, the next smallest is withheld too; so are the
    standardised difference, and shares whose base tells who is missing. Numbers of fewer than
    ``fewest`` subjects are not summarised.

    Args:
        subjects: One row a subject.
        split: Split of each row. (N,)
        variables: Columns to describe, in order.
        splits: Splits that become columns; empty ones are left out.
        fewest: Smallest count shown; 1 shows all.
        rule: How counts are shown, in place of ``fewest``. Where it rounds them, levels that few
            have in every split are left out.

    Raises:
        ValueError: If a subject stands in two rows, or the lengths differ.
    Source:
        Austin 2009, Stat Med 28:3083-3107 (numbers and two levels); Yang & Dalton 2012, SAS Global
        Forum 335 (several levels). Differs: none.
    """
    if subjects.index.has_duplicates:
        raise ValueError("table_one: a subject stands in several rows; give one row a subject")
    sides = np.asarray(split, dtype=object)
    if len(sides) != len(subjects):
        raise ValueError(f"table_one: {len(sides)} splits for {len(subjects)} subjects")
    used = tuple(name for name in splits if (sides == name).any())
    parts = [sides == name for name in used]
    rule = rule or Hiding(fewest)
    sizes, fewest = [int(part.sum()) for part in parts], rule.first
    cells = tuple(
        Cell(text=few(n, fewest))
        if n < fewest
        else Cell(text=f"{rule.count(n):,}", count=rule.count(n))
        for n in sizes
    )
    if not parts:  # nobody is in a split that is described
        return TableOne(splits=(), rows=(), fewest=fewest, notes=())
    rows = [Row(variable="subjects", level="", statistic="subjects", cells=cells)]
    names = [one.name for one in variables]
    is_number = [one.kind == "number" and not _is_flag(subjects[one.name][np.any(parts, axis=0)])
                 for one in variables]  # fmt: skip
    secret = [_parts((subjects[name][part] for name in names), is_number, rule)
              for part in parts]  # fmt: skip
    for place, variable in enumerate(variables):  # of one at a time the people of a split are held
        make, columns = _numbers if is_number[place] else _categories, subjects[variable.name]
        more = [found.get(place, set()) for found in secret]
        rows += make(variable, [columns[part] for part in parts], rule, more)
        leave()
    if rule.rounds:  # that a line is there would tell that somebody is of it
        rows = [row for row in rows if row.statistic not in ("count", "missing")
                or any(cell.count for cell in row.cells)]  # fmt: skip
    return TableOne(splits=used, rows=tuple(rows), fewest=fewest, notes=_notes(used, fewest))


def beside(first: TableOne, other: TableOne) -> TableOne:
    """Set two tables of one column each beside one another, with the differences to the first.

    Variables are those of ``other``, told by name and unit; differences come from what either
    table shows, so that nothing is given away that they hold back.
    """
    known, here = _by_variable(first), _by_variable(other)
    rows = [row for name, lines in here.items() for row in _joined(known.get(name, {}), lines)]
    splits = (*first.splits, *other.splits)
    bare = {_bare(name): name for name in known if name not in here}
    units = {bare[_bare(name)]: name for name in here if name not in known and _bare(name) in bare}
    lost = [name for name in known if name not in here and name not in units]
    alone = [name for name in here if name not in known and name not in units.values()]
    notes = [
        *_notes(splits, max(first.fewest, other.fewest)),
        *other.notes[len(_notes(other.splits, other.fewest)) :],
        *(f"Of {splits[0]} only: {', '.join(one[:8])}{' …' if one[8:] else ''}."
          for one in (lost,) if one),
        *(f"Not set beside one another, as names or units differ: {pairs}. If it is the same, in "
          "one unit, write so: `unit` of the column."
          for pairs in (", ".join(f"{a} and {b}" for a, b in [*units.items()][:8]),) if pairs),
        *(f"Not described of {splits[0]}: {', '.join(one[:8])}{' …' if one[8:] else ''}."
          for one in (alone,) if one),
    ]  # fmt: skip
    return replace(other, splits=splits, rows=tuple(rows), notes=tuple(notes))


_Lines = dict[tuple[str, str], Row]
"""Level and statistic to the line of a variable."""
NOBODY = Cell(text="0", count=0)
NOT_THERE = Cell(text="-")


def _bare(variable: str) -> str:
    """A variable without its unit, which stands in brackets."""
    return variable.rpartition(" (")[0] or variable


def _by_variable(table: TableOne) -> dict[str, _Lines]:
    found: dict[str, _Lines] = {}
    for row in table.rows:
        found.setdefault(row.variable, {})[row.level, row.statistic] = row
    return found


def _joined(known: _Lines, here: _Lines) -> list[Row]:
    """Lines of a variable with a cell of either table, and levels that only the first has."""
    kinds = [{key[1] for key in lines} - {"missing"} for lines in (known, here)]
    known = known if kinds[0] == kinds[1] else {}  # a number in one, a category in the other
    every = [*here, *known]
    keys = dict.fromkeys([*(key for key in every if key[1] != "missing"), *every])
    pooled = any(level == OTHERS for level, _ in keys)

    def cell(lines: _Lines, key: tuple[str, str]) -> Cell:
        if key in lines:
            return lines[key].cells[0]
        return NOBODY if lines and not (pooled and key[1] == "count") else NOT_THERE

    pairs = {key: (cell(known, key), cell(here, key)) for key in keys}
    (variable,) = {row.variable for row in here.values()}
    gap = _gap(pairs)
    return [
        Row(variable=variable, level=level, statistic=statistic, cells=cells,
            differences=(None, gap) if not number and statistic != "subjects" else ())
        for number, ((level, statistic), cells) in enumerate(pairs.items())
    ]  # fmt: skip


def _gap(pairs: Mapping[tuple[str, str], tuple[Cell, Cell]]) -> float | None:
    """The standardised difference of a variable from cells as shown; None where one is hidden."""
    counts = [cells for (_, statistic), cells in pairs.items() if statistic == "count"]
    if counts:
        a, b = ([cell.count for cell in side] for side in zip(*counts, strict=True))
        if None in a or None in b:
            return None
        return smd_categories(np.array(a, dtype=np.float64), np.array(b, dtype=np.float64))
    for (_, statistic), cells in pairs.items():
        if statistic == "mean (SD)":
            return _apart(*cells)
    return None


def _apart(first: Cell, other: Cell) -> float | None:
    """The standardised difference of two means as shown."""
    if first.mean is None or first.sd is None or other.mean is None or other.sd is None:
        return None
    return smd_moments((first.mean, first.sd**2), (other.mean, other.sd**2))


def _notes(splits: Sequence[str], fewest: int) -> tuple[str, ...]:
    notes = ["One subject counts once. Shares are of the subjects with a known value."]
    if splits[1:]:
        notes.append(
            f"SMD: standardised mean difference to {splits[0]}, without sign, of means and SDs as "
            "they are shown; above 0.1 is often called an imbalance."
        )
    if fewest > 1:
        notes.append(
            f"Counts of fewer than {fewest} subjects are shown as <{fewest}; '{WITHHELD}' marks "
            "what would give such a count away."
        )
    return tuple(notes)


def _parts(
    columns: Iterable[pd.Series], is_number: Sequence[bool], rule: Hiding
) -> dict[int, set[str | None]]:
    """Levels of a split whose people are a part of another variable's level, all but few of it.

    Of smokers a column says who are former ones, of the ill another how grave it is: then who is
    left follows. None stands for those who lack a value, or have one.

    Args:
        columns: Values of each variable.
        is_number: Of each, whether it has no levels.
        rule: How counts are shown.

    Returns:
        Place of the variable to such levels.
    """
    parts: list[tuple[int, str | None, np.ndarray]] = []
    wholes: list[tuple[int, str | None, int, np.ndarray]] = []
    for place, (column, numeric) in enumerate(zip(columns, is_number, strict=True)):
        leave()
        if numeric:
            known = pd.to_numeric(column, errors="coerce").notna().to_numpy()
            parts += [(place, None, known), (place, None, ~known)]
            continue
        codes, levels = pd.factorize(column.astype(object).map(_level))
        parts += [(place, None, codes >= 0), (place, None, codes < 0)]
        for code, level in enumerate(levels[: 5 * MOST_LEVELS]):
            parts.append((place, level, codes == code))
            wholes += [(place, level, int(one.sum()), one)
                       for one in (codes == code, codes != code)]  # fmt: skip
    found: dict[int, set[str | None]] = {}
    for place, level, part in () if rule.rounds else parts:
        people = int(part.sum())
        if people >= rule.first and any(
            0 < size - people < rule.first and other != place and whole[part].all()
            for other, shown, size, whole in wholes
            if shown not in found.get(other, ())
        ):
            found.setdefault(place, set()).add(level)
    return found


def _numbers(
    variable: Variable,
    columns: Sequence[pd.Series],
    rule: Hiding,
    secret: Sequence[set[str | None]],
) -> list[Row]:
    values = [pd.to_numeric(column, errors="coerce").to_numpy(np.float64) for column in columns]
    known = [one[np.isfinite(one)] for one in values]
    means, medians = zip(*(_summaries(one, rule) for one in known), strict=True)
    differences = [_apart(means[0], one) for one in means]
    missing = [
        rule.parts({None: len(v) - len(k), "known": len(k)}, secret=more)
        for v, k, more in zip(values, known, secret, strict=True)
    ]
    gone = tuple(
        _count(cells[None], len(v), rule) for cells, v in zip(missing, values, strict=True)
    )
    rows = [
        Row(variable=variable.shown, level="", statistic="mean (SD)", cells=means,
            differences=(None, *differences[1:])),
        Row(variable=variable.shown, level="", statistic="median [IQR]", cells=medians),
    ]  # fmt: skip
    if any(len(v) > len(k) for v, k in zip(values, known, strict=True)):
        rows.append(Row(variable=variable.shown, level="missing", statistic="missing", cells=gone))
    return rows


_YEARS = (1800, 2200)
"""What is whole and within is taken for a calendar year."""


def _summaries(values: np.ndarray, rule: Hiding) -> tuple[Cell, Cell]:
    if len(values) < max(rule.first, 1):
        text = "-" if len(values) == 0 else WITHHELD
        return Cell(text=text), Cell(text=text)
    step = _unit(values) * rule.step(len(values))
    told = [float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan,
            *np.quantile(values, [0.25, 0.5, 0.75]).tolist()]  # fmt: skip
    deviation = told[1] if told[1] > 0 else None
    if rule.first > 1:
        told = [_rounded(told[0], step, deviation), *(_rounded(one, step) for one in told[1:])]
    mean, lower, median, upper = told[0], *told[2:]
    sd = None if math.isnan(told[1]) else told[1]
    spread = "-" if sd is None else _short(sd)
    is_year = bool(((values >= _YEARS[0]) & (values < _YEARS[1]) & (values % 1 == 0)).all())
    said, *three = (
        one.replace(",", "") if is_year else one  # 2017, not 2,017
        for one in (_short(mean, deviation), *map(_short, (median, lower, upper)))
    )
    return (
        Cell(text=f"{said} ({spread})", mean=mean, sd=sd),
        Cell(
            text=f"{three[0]} [{three[1]}, {three[2]}]",
            median=median,
            lower=lower,
            upper=upper,
        ),
    )


def _is_flag(column: pd.Series) -> bool:
    """Whether a number is 0 or 1, or has two other values: of mean and SD their counts follow."""
    values = pd.to_numeric(column, errors="coerce").dropna()
    return values.nunique() == 2 or (len(values) > 0 and bool(values.isin([0, 1]).all()))


def _unit(values: np.ndarray) -> float:
    """The power of ten that all values are multiples of: 1 of whole years, 0.1 of 27.3."""
    for power in range(6, -4, -1):
        if np.allclose(values, np.round(values, -power), rtol=0, atol=10.0 ** (power - 6)):
            return float(10.0**power)
    return 0.0


def _rounded(value: float, step: float, beside: float | None = None) -> float:
    """A number as `_short` writes it, and no finer than a step."""
    coarse = to_step(value, step) if step and math.isfinite(value) else value
    return float(_short(coarse, beside).replace(",", ""))


def _categories(
    variable: Variable,
    columns: Sequence[pd.Series],
    rule: Hiding,
    secret: Sequence[set[str | None]],
) -> list[Row]:
    names = [column.astype(object).map(_level) for column in columns]
    levels = _levels(names)
    counts: list[dict[str | None, int]] = []
    for one in names:
        pooled = one.where(one.isna() | one.isin(levels), OTHERS)
        found = pooled.value_counts()
        count: dict[str | None, int] = {level: int(found.get(level, 0)) for level in levels}
        counts.append({**count, None: int(one.isna().sum())})
    hidden = [
        _hidden(count, rule, variable, one, more)
        for count, one, more in zip(counts, names, secret, strict=True)
    ]
    vectors = [np.array([rule.count(count[level]) for level in levels], dtype=np.float64)
               for count in counts]  # fmt: skip
    texts = [_any_text(cells.values()) for cells in hidden]
    differences = [
        None if texts[0] or hides else smd_categories(vectors[0], vector)
        for hides, vector in zip(texts, vectors, strict=True)
    ]
    shown: list[str | None] = [*levels, *([None] if any(c[None] for c in counts) else [])]
    rows = []
    for position, level in enumerate(shown):
        cells = []
        for count, mask in zip(counts, hidden, strict=True):
            whole = sum(count.values()) - (0 if level is None else count[None])
            told = level is not None and isinstance(mask[None], str)  # by the share: who is missing
            cells.append(_count(mask[level], whole, rule, bare=told and not rule.rounds))
        rows.append(
            Row(
                variable=variable.shown,
                level="missing" if level is None else level,
                statistic="missing" if level is None else "count",
                cells=tuple(cells),
                differences=(None, *differences[1:]) if position == 0 else (),
            )
        )
    return rows


def _hidden(
    counts: Mapping[str | None, int],
    rule: Hiding,
    variable: Variable,
    values: pd.Series,
    secret: set[str | None],
) -> dict[str | None, int | str]:
    """Hide levels; of an outcome as results do, which tell who lacks it and name each class."""
    few_lack = 0 < counts[None] < rule.first
    if rule.rounds or not variable.is_outcome or few_lack or None in secret:
        return rule.parts(counts, "yes" if variable.is_outcome else "", secret)
    each = {str(level): int(n) for level, n in values.value_counts().items()}
    shown = rule.parts(each, secret=secret)
    own: dict[str | None, int | str] = {
        level: shown.pop(level, 0) for level in counts if level not in (OTHERS, None)
    }
    pooled = list(shown.values())
    told = pooled[0] if len(pooled) == 1 else WITHHELD if _any_text(pooled) else counts.get(OTHERS)
    if told is not None and OTHERS in counts:
        own[OTHERS] = told
    return {**own, None: counts[None]}


def _any_text(values: Iterable[int | str]) -> bool:
    return any(isinstance(value, str) for value in values)


OTHERS = "others"


def _level(value: object) -> str | None:
    """A level as text; whole numbers without their point."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return " ".join(str(value).split()) or None


def _levels(names: Sequence[pd.Series]) -> list[str]:
    """Levels in order of their names; beyond `MOST_LEVELS`, the rarest are pooled at the end."""
    counts = pd.concat(list(names)).dropna().value_counts()
    found = sorted(counts.index, key=_natural)
    if len(found) <= MOST_LEVELS:
        return found
    kept = set(counts.index[: MOST_LEVELS - 1])
    return [*(level for level in found if level in kept and level != OTHERS), OTHERS]


def _natural(level: str) -> tuple[int, float, str]:
    try:
        return (0, float(level), level)
    except ValueError:
        return (1, 0.0, level.lower())


def _count(value: int | str, whole: int, rule: Hiding, *, bare: bool = False) -> Cell:
    if isinstance(value, str):
        return Cell(text=value)
    if bare:
        return Cell(text=f"{value:,}", count=value)
    if whole < max(rule.first, 1):
        return Cell(text="-" if value == 0 else WITHHELD)
    share = min(1.0, value / rule.count(whole))
    return Cell(text=f"{value:,} ({100 * share:.1f} %)", count=value, share=share)


def _difference(row: Row, column: int) -> str:
    if not row.differences:
        return ""
    value = row.differences[column]
    return "-" if value is None else f"{value:z.2f}"


def _short(value: float, beside: float | None = None) -> str:
    """A number with about three figures that matter, never in powers of ten below a million.

    A mean has as many decimals as give three figures of the SD ``beside`` it.
    """
    size = abs(value)
    own = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    digits = own if beside is None else max(own, min(2 - math.floor(math.log10(beside)), 9))
    if size >= 1e6 or (0 < size < 1e-3 and digits == own):
        return f"{value:.3g}"
    return f"{value:,.{digits}f}"
