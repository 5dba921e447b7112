"""Tables: numbers and categories of a record, any cell of which may be missing.

A prepared row is (2, F): values, and flags that say which cells are present. Whatever stood in an
absent cell is zeroed before anything else sees it.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ConfigError, RecordError
from medmcl.core.findings import Finding, counted, first_of, record_finding
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import ShownCells
from medmcl.modalities.opening import as_text
from medmcl.modalities.tabular.gap_codes import in_yaml, renamed_fix, said_missing
from medmcl.modalities.tabular.settings import (
    Column,
    Kind,
    TabularAugment,
    TabularSettings,
    TabularSource,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

fault = partial(record_finding, "tabular")

Cell = float | str | None

MISSING_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null", "<na>", "nat", "."})
UNSEEN = 0  # index of every category that fitting did not see (or saw too rarely)


class Tabular:
    """Tables of numbers and categories, a record a row; see `medmcl.core.contracts.Adapter`.

    Attributes:
        unseen: Column to how many prepared cells held a category that fitting had not seen.
    """

    kind: ClassVar[str] = "tabular"
    measured: ClassVar[bool] = False
    tabular: ClassVar[bool] = True
    Source: ClassVar[type[Config]] = TabularSource
    Settings: ClassVar[type[Config]] = TabularSettings
    Augment: ClassVar[type[Config]] = TabularAugment

    def __init__(self, source: TabularSource, settings: TabularSettings) -> None:
        self.source, self.settings = source, settings
        self.columns = {name: one.of_kind("number") for name, one in source.columns.items()}
        self.unseen: Counter[str] = Counter()
        self._scales: dict[str, tuple[float, float]] = {}
        self._levels: dict[str, list[str]] = {}
        self._without_variation: list[str] = []
        self._is_given = False  # learned elsewhere: see load_state

    def read(self, place: RecordRef) -> dict[str, Cell]:
        """Column to a number, a category or None; a number that cannot be read is None too.

        Raises:
            RecordError: The table has no such column.
        """
        values = place.values
        missing = [name for name in self.columns if name not in values]
        if missing:
            raise RecordError(
                f"the table has no column {first_of(map(repr, missing), 8)}",
                where=place.where,
                expected=first_of(map(str, values), 8),
                fix="correct the names under modalities.NAME.columns in cohort.yaml",
            )
        return {
            name: read_cell(values[name], column.kind)[0] for name, column in self.columns.items()
        }

    def inspect(self, raw: Mapping[str, Cell], place: RecordRef) -> list[Finding]:
        """Numbers that are none or out of range, new categories, records without any cell."""
        where = place.where
        findings = []
        for name in self._worth_a_look(raw):
            column, value, cell = self.columns[name], raw[name], place.values.get(name)
            if value is None and not read_cell(cell, column.kind)[1]:
                findings.append(_unreadable(name, cell, where, is_given=self._is_given))
            elif isinstance(value, float) and not _within(value, column):
                findings.append(_out_of_range(name, value, column, where))
            elif isinstance(value, str) and self._is_unseen(name, value):
                what = f"column '{name}' has '{value}', which the training records did not have"
                fix = "it is treated as unseen; correct its spelling if it is none"
                findings.append(fault("unseen", where, what, fix, "warning"))
        if all(value is None for value in raw.values()):
            fix = "say with `present` who has these data"
            findings.append(fault("empty", where, "every cell is missing", fix))
        return findings

    def look(self, cells: pd.DataFrame) -> list[str]:
        """Which rows are sound; see `medmcl.core.contracts.LooksAtRows`."""
        if self._levels or not {*self.columns} <= {*cells.columns}:
            return [""] * len(cells)
        sound, missing = np.ones(len(cells), dtype=bool), np.ones(len(cells), dtype=bool)
        content = np.empty((len(cells), len(self.columns)))
        for number, (name, column) in enumerate(self.columns.items()):
            if column.kind == "category":
                told, absent = _categories(cells[name])
            else:
                told, absent = _numbers(cells[name])
                low = -math.inf if column.min is None else column.min
                high = math.inf if column.max is None else column.max
                sound &= absent | (np.isfinite(told) & (low <= told) & (told <= high))
            content[:, number] = np.where(absent, np.nan, told)
            missing &= absent
        digests = (hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest() for row in content)
        is_sound = sound & ~missing
        return [one if ok else "" for one, ok in zip(digests, is_sound, strict=True)]

    def show(self, raw: Mapping[str, Cell]) -> ShownCells:
        """Every column with its unit; cells without a value are counted."""
        cells = []
        for name, value in raw.items():
            if value is not None:
                shown = f"{value:.6g}" if isinstance(value, float) else str(value)
                cells.append((name, f"{shown} {self.columns[name].unit}".rstrip()))
        missing = len(raw) - len(cells)
        note = f"{counted(missing, 'cell')} missing" if missing else ""
        return ShownCells(cells=tuple(cells), note=note)

    def _worth_a_look(self, raw: Mapping[str, Cell]) -> list[str]:
        """Columns with no value, or whose value may be at fault; of wide tables these are few."""
        bare = self._bare
        return [name for name, value in raw.items() if value is None or name not in bare]

    @cached_property
    def _bare(self) -> frozenset[str]:
        """Number columns without limits."""
        return frozenset(
            name
            for name, column in self.columns.items()
            if column.kind == "number" and column.min is None and column.max is None
        )

    def _is_unseen(self, name: str, value: str) -> bool:
        return name in self._levels and value not in self._levels[name]

    def fit(self, raws: Iterable[Mapping[str, Cell]]) -> None:
        """Learn mean and deviation of each number, and the categories of each category column."""
        cells, rows = self._filled(raws)
        self._scales, self._levels, self._is_given = {}, {}, False
        self.unseen.clear()
        self._without_variation = [
            name for name, seen in cells.items() if rows and all(one == seen[0] for one in seen)
        ]
        for name, column in self.columns.items():
            if column.kind == "number":
                self._scales[name] = _scale(cells[name])
            else:
                counts = Counter(cells[name])
                least = self.settings.min_count
                self._levels[name] = sorted(v for v, n in counts.items() if n >= least)

    def inspect_together(self, raws: Iterable[Mapping[str, Cell]]) -> list[Finding]:
        """Columns of one value, categories spelt in two ways, numbers that lie far from others."""
        cells, _ = self._filled(raws)
        found: list[Finding | None] = []
        for name, column in self.columns.items():
            if column.kind == "number":
                found.append(_codes_for_gaps(name, cells[name]))
                if found[-1] is None and (column.min is None or column.max is None):
                    found.append(_far_apart(name, cells[name]))
            else:
                found += [_two_spellings(name, cells[name]), _many_levels(name, cells[name])]
        return [*self._constant(), *(one for one in found if one is not None)]

    def _filled(self, raws: Iterable[Mapping[str, Cell]]) -> tuple[dict[str, Any], int]:
        """Column to the cells that are not missing; and how many rows there are."""
        cells: dict[str, Any] = {
            name: array("d") if one.kind == "number" else [] for name, one in self.columns.items()
        }
        rows = 0
        for raw in raws:
            rows += 1
            for name, value in raw.items():
                if value is not None:
                    cells[name].append(value)
        return cells, rows

    def _constant(self) -> list[Finding]:
        """Name the columns that had one value or none in the rows that `fit` saw."""
        names = self._without_variation
        if not names:
            return []
        what = f"{counted(len(names), 'column')} of {len(self.columns):,} with one value or none "
        what += f"in train, which tell nothing: {first_of(names, 8)}"
        fix = (
            "nothing, if that is meant; otherwise complete the table, or leave them out of columns:"
        )
        return [fault("constant", "columns", what, fix, "warning")]

    def prepare(self, raw: Mapping[str, Cell]) -> np.ndarray:
        """Values and flags, (2, F) float32: standardised numbers, numbers of categories."""
        self._need_fit()
        row = np.zeros((2, len(self.columns)), dtype=np.float32)
        cells = [raw[name] for name in self.columns]
        row[1] = [cell is not None for cell in cells]
        numbers, names = self._number_columns
        if len(numbers):
            means, deviations = np.array([self._scales[name] for name in names]).T
            values = np.array([cells[k] for k in numbers], dtype=np.float64)  # None becomes NaN
            scaled = (values - means) / deviations
            limit = self.settings.clip_sd
            scaled = scaled if limit is None else np.clip(scaled, -limit, limit)
            row[0, numbers] = np.where(np.isnan(values), 0.0, scaled)
        for number, (name, column) in enumerate(self.columns.items()):
            value = cells[number]
            if column.kind == "category" and value is not None:
                row[0, number] = self._level(name, str(value))
        return row

    @cached_property
    def _number_columns(self) -> tuple[np.ndarray, list[str]]:
        """Places and names of the columns that are numbers."""
        numbers = [k for k, column in enumerate(self.columns.values()) if column.kind == "number"]
        names = list(self.columns)
        return np.array(numbers, dtype=np.int64), [names[k] for k in numbers]

    def _standardise(self, name: str, value: float) -> float:
        mean, deviation = self._scales[name]
        scaled = (value - mean) / deviation
        limit = self.settings.clip_sd
        return scaled if limit is None else min(max(scaled, -limit), limit)

    def _level(self, name: str, value: str) -> int:
        levels = self._levels[name]
        if value not in levels:
            self.unseen[name] += 1
            return UNSEEN
        return levels.index(value) + 1

    def simple_features(self, raw: Mapping[str, Cell]) -> dict[str, float]:
        """Standardised numbers, and a 0 or 1 for each category (``sex=M``, ``sex=unseen``)."""
        self._need_fit()
        values: dict[str, float] = {}
        for name, column in self.columns.items():
            value = raw[name]
            if column.kind == "number":
                values[name] = math.nan if value is None else self._standardise(name, float(value))
                continue
            levels = self._levels[name]
            is_seen = value in levels
            for level in levels:
                values[f"{name}={level}"] = math.nan if value is None else float(value == level)
            values[f"{name}=unseen"] = math.nan if value is None else float(not is_seen)
        return values

    def _need_fit(self) -> None:
        if set(self._scales) | set(self._levels) != set(self.columns):
            raise RuntimeError("fit or load_state comes before prepare and input_shape")

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(2, F): values and presence flags."""
        return (2, len(self.columns))

    @property
    def input_shape(self) -> InputShape:
        """As prepared; cardinality 0 marks a number, level 0 of a category is 'unseen'."""
        self._need_fit()
        cardinalities = tuple(
            0 if column.kind == "number" else len(self._levels[name]) + 1
            for name, column in self.columns.items()
        )
        return InputShape(
            kind=self.kind,
            shape=self.prepared_shape,
            cardinalities=cardinalities,
            names=tuple(self.columns),
        )

    def plain(self, x: Tensor) -> Tensor:
        """Rows (B, 2, F) with absent cells zeroed, whatever stood in them."""
        from medmcl.core.layers import zero_absent

        return zero_absent(x)

    def augment(self, x: Tensor, options: TabularAugment, generator: RowGenerator) -> Tensor:
        """Replace some present cells by those of other rows, add noise to numbers, drop some."""
        import torch

        x = self.plain(x)
        values, flags = x[:, 0], x[:, 1]
        draws = generator.uniform(3, *values.shape, row_dim=1)
        donors = _draw_donors(values, flags, draws[0])
        values = torch.where((draws[1] < options.corruption) & (flags > 0), donors, values)
        if options.noise:
            numbers = torch.as_tensor(self._number_columns[0], device=x.device)
            noise = generator.normal(len(values), len(numbers))
            values = values.index_add(1, numbers, noise, alpha=options.noise)
        flags = flags * (draws[2] >= options.dropout)
        return self.plain(torch.stack([values, flags], dim=1))

    def state(self) -> dict[str, Any]:
        """Means, deviations and categories."""
        return {
            "scales": {name: list(scale) for name, scale in self._scales.items()},
            "levels": {name: list(levels) for name, levels in self._levels.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            ConfigError: A column is of another kind than it was, or there is another set of them.
        """
        learned = {
            **dict.fromkeys(state["scales"], "number"),
            **dict.fromkeys(state["levels"], "category"),
        }
        here = {
            name: self.columns[name].kind if name in self.columns else "not there"
            for name in learned
        }
        wrong = [name for name, kind in learned.items() if here[name] != kind]
        if wrong:
            lacking = [name for name in wrong if name not in self.columns]
            written = ", ".join(f"{name}: {learned[name]}" for name in wrong)
            fixes = [f"write {written} under columns: in cohort.yaml"]
            if lacking:
                fixes.append(renamed_fix(lacking, (x for x in self.columns if x not in learned)))
            fixes += [
                f"recode the cells of {name} as in training "
                f"({_coded(learned[name], state['levels'].get(name, ()))}) where they differ"
                for name in wrong
                if name not in lacking
            ]
            raise ConfigError(
                "; ".join(
                    f"the column '{name}' was a {learned[name]} where it was learned"
                    for name in wrong
                ),
                where="columns of a table modality",
                got=", ".join(here[name] for name in wrong),
                fix="; ".join(fixes),
            )
        self._is_given = True
        self._scales = {name: (mean, sd) for name, (mean, sd) in state["scales"].items()}
        self._levels = {name: list(levels) for name, levels in state["levels"].items()}
        self._need_fit()


FEW_CELLS = 10
"""Fewer other cells say nothing of where a column's numbers lie."""
MOST_CODES = 3
"""Numbers below zero that may all be codes: -1, do not know; -3, do not want to say."""


def _codes_for_gaps(name: str, cells: list[float]) -> Finding | None:
    """Numbers of nines, such as 999, farther from all others than these lie apart; and -1 or -3.

    Whole numbers below zero are codes where they are few, stand in several cells, and all others,
    of many values, are not below zero.
    """
    values = np.array(cells)
    nines = np.isin(np.abs(values), [9.0, 99.0, 999.0, 9999.0, 99999.0])
    below = np.unique(values[values < 0])
    is_below = values < 0
    if (
        len(below) > MOST_CODES
        or (below != np.rint(below)).any()
        or is_below.sum() <= len(below)
        or len(np.unique(values[~is_below & ~nines])) <= FEW_CELLS
    ):
        is_below[:] = False
    others = values[~nines & ~is_below]
    if len(others) < FEW_CELLS:
        return None
    low, high = others.min(), others.max()
    is_far = is_below | (nines & ((values > 2 * high - low) | (values < 2 * low - high)))
    if not is_far.any():
        return None
    far, only_below = values[is_far], bool((is_far == is_below).all())
    why = "and no other is below 0" if only_below else "far from all others"
    code, count = Counter(far.tolist()).most_common(1)[0]
    codes = ", ".join(f"{one:g}" for one in np.unique(far))
    what = (
        f"{code:g} stands in {counted(count, 'cell')} of the {len(values):,} looked at, {why} "
        f"({low:g} to {high:g}): a code for a missing value?"
    )
    fix = (
        f"if it is, write `missing: {{{in_yaml(name)}: [{codes}]}}` at the top level of "
        "cohort.yaml, or leave such cells empty; otherwise say what is possible: "
        f"{name}: {{kind: number, min: {low:g}, max: {high:g}}} under columns:"
    )
    return fault("gap_code", f"column '{name}'", what, fix, "warning")


def _far_apart(name: str, cells: list[float]) -> Finding | None:
    """Numbers of which some lie farther from the others than either lie apart: slips, other units.

    Where none is below zero, factors are compared: one number of many may be large by itself.
    """
    each = np.array(cells)
    if len(each) and each.min() >= 0:
        each = each[each > 0]
    values = np.unique(each)
    if len(values) <= FEW_CELLS:
        return None
    scale = np.log(values) if values[0] > 0 else values
    gaps = np.diff(scale)
    cut = int(gaps.argmax())
    if gaps[cut] <= max(scale[cut] - scale[0], scale[-1] - scale[cut + 1]):
        return None
    sides = [each[each <= values[cut]], each[each > values[cut]]]
    few, many = sorted(sides, key=len)
    told = f"{few.min():g}" if few.min() == few.max() else f"{few.min():g} to {few.max():g}"
    what = (
        f"{told} in {counted(len(few), 'cell')} of the {len(cells):,} looked at, far from all "
        f"others ({many.min():g} to {many.max():g}): a slip, or another unit?"
    )
    fix = (
        "correct it, or bring all to one unit; if it is true, say what is possible: "
        f"{name}: {{kind: number, min: {min(cells):g}, max: {each.max():g}}} under columns:"
    )
    return fault("far_apart", f"column '{name}'", what, fix, "warning")


_SHORT = {"female": "f", "male": "m", "woman": "f", "man": "m", "yes": "y", "no": "n", "true": "t"}


def _two_spellings(name: str, cells: list[str]) -> Finding | None:
    """Categories that differ by capitals or spaces alone, or a word beside its first letter."""
    spelt: dict[str, Counter[str]] = {}
    for cell in cells:
        word = " ".join(cell.casefold().split())
        spelt.setdefault(_SHORT.get(word, word), Counter())[cell] += 1
    twice = [ways for ways in spelt.values() if len(ways) > 1]
    if not twice:
        return None
    ways = twice[0].most_common()
    told = " and ".join(f"'{way}' ({count:,})" for way, count in ways)
    what = f"{told} are taken as {len(ways)} categories"
    fix = f"write '{ways[0][0]}' for each, if they are one"
    return fault("two_spellings", f"column '{name}'", what, fix, "warning")


def _many_levels(name: str, cells: list[str]) -> Finding | None:
    """A category that hardly two people share: a name or number of a person, and no group."""
    levels = Counter(cells)
    if len(cells) < FEW_CELLS or len(levels) <= len(cells) / 2:
        return None
    what = (
        f"{len(levels):,} categories in the {len(cells):,} cells looked at, "
        f"{sum(count == 1 for count in levels.values()):,} of them once: of one that nobody "
        "else has nothing is learned, and a person's own name or number is no input"
    )
    fix = "take it out of columns:, or put fewer and larger groups into the table"
    return fault("many_levels", f"column '{name}'", what, fix, "warning")


def read_cell(cell: Any, kind: Kind) -> tuple[Cell, bool]:
    """Give what a cell holds and whether that could be read; None where it is missing."""
    if type(cell) is float and kind != "category" and math.isfinite(cell):
        return cell, True
    if cell is None or str(cell).strip().lower() in MISSING_WORDS:
        return None, True
    if kind == "category":
        return as_text(cell), True
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None, False
    return (number, True) if math.isfinite(number) else (None, False)


def _numbers(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a column, and where none is said; infinite where a cell must be read to tell."""
    import pandas as pd

    absent = cells.isna().to_numpy()
    if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_bool_dtype(cells):
        return cells.to_numpy(np.float64, na_value=np.nan), absent
    return np.full(len(cells), np.inf), absent


def _categories(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Hash of the category of each cell as a number, and where none is said."""
    numbers, distinct = cells.factorize()
    names = [None if str(one).strip().lower() in MISSING_WORDS else as_text(one)
             for one in distinct.tolist()]  # fmt: skip
    hashes = [hashlib.blake2b(str(one).encode("utf-8", "surrogatepass"), digest_size=8).digest()
              for one in [*names, ""]]  # fmt: skip
    codes = np.frombuffer(b"".join(hashes), np.float64)
    absent = np.array([*(name is None for name in names), True])
    return codes[numbers], absent[numbers]


def _scale(cells: Sequence[float]) -> tuple[float, float]:
    if not cells:
        return 0.0, 1.0
    deviation = float(np.std(cells))
    return float(np.mean(cells)), deviation if deviation > 0 else 1.0


def _draw_donors(values: Tensor, flags: Tensor, draws: Tensor) -> Tensor:
    """For each cell (B, F), the value of a present cell of its column, drawn evenly."""
    import torch

    order = flags.argsort(dim=0, descending=True, stable=True)  # present rows first
    available = flags.sum(dim=0, keepdim=True)
    choice = (draws * available).long().clamp(max=len(values) - 1)
    choice = torch.minimum(choice, (available.long() - 1).clamp(min=0))
    return values.gather(0, order.gather(0, choice))


def _within(value: float, column: Column) -> bool:
    low = -math.inf if column.min is None else column.min
    high = math.inf if column.max is None else column.max
    return low <= value <= high


def _coded(kind: str, learned: Any) -> str:
    """How the cells of a column were coded where it was learned."""
    return "numbers" if kind == "number" else first_of(map(repr, learned), 8)


def _unreadable(name: str, cell: Any, where: str, *, is_given: bool) -> Finding:
    """``is_given``: it was a number where a run learned it, so that it cannot be a category."""
    words = f"say so: {name}: category"
    words = "recode them as in training (numbers)" if is_given else words
    what = f"column '{name}' must be a number, got {cell!r}"
    fix = (
        f"{said_missing(name, [str(cell)])}write a plain number with a point (89+, 3,5 and <4 "
        f"are none), or leave it empty; if its cells are words, {words}"
    )
    return fault("number", where, what, fix)


def _out_of_range(name: str, value: float, column: Column, where: str) -> Finding:
    what = f"column '{name}' has {value:.10g} {column.unit}".rstrip()
    is_low = column.min is not None and value < column.min
    what += f", below {column.min:.10g}" if is_low else f", above {column.max:.10g}"
    fix = "correct the value or its unit, empty the cell, or widen min and max"
    return fault("range", where, what, fix)
