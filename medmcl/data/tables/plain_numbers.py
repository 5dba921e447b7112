"""Columns of text that are numbers without a doubt, told of many columns at once.

A table may have 10,000 columns of forty rows or forty columns of 100,000: what is asked of cells is
asked of many together, and each column is told by its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medmcl.data.tables.mapped import let_go, unnamed
from medmcl.data.tables.repeated_words import Gathered
from medmcl.data.tables.wide_cells import WIDE

if TYPE_CHECKING:
    import pyarrow as pa

LEADING_ZERO = r"^[-+]?0\d"
_NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_NOT_WHOLE = r"[.eE]|\d{19}"
_EXACT = 2.0**53
_LONG = 1e17
"""Smaller than all whole numbers of 19 digits: those are names, of which float64 makes one."""
_AT_ONCE = 2**14
"""Cells."""


def plain_numbers(
    columns: Mapping[str, pd.Series], names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Read text that is numbers without a doubt; None where the long way must tell.

    Args:
        columns: By name, each of the same rows; asked for one only when it is read. (N,)
        names: Those to read.

    Yields:
        For each its name and the array of its numbers, (N,) float64, NaN where missing, or Int64.
    """
    if names:
        step = max(1, _AT_ONCE // max(1, len(columns[names[0]])))
        for start in range(0, len(names), step):
            some = names[start : start + step]
            cells = [_cells(columns[name]) for name in some]
            numbers = iter(_told([one for one in cells if one is not None]))
            for name, one in zip(some, cells, strict=True):
                yield name, None if one is None else next(numbers)
            let_go()


def with_numbers(
    parts: Iterable[pd.DataFrame], text: Collection[str], most: int
) -> pd.DataFrame | None:
    """Put pieces of a table of text together, each column of plain numbers as numbers.

    Of these columns the text of one piece is held at a time.

    Args:
        parts: The pieces; their cells are text.
        text: Columns that stay text.
        most: Rows that there may be.

    Returns:
        The table, its columns as `plain_numbers` reads them or text; None where a column is numbers
        in some pieces and text in others, or of whole numbers that no float64 holds.
    """
    columns: dict[str, pd.Series] = {}
    texts: dict[str, Gathered] = {}
    numbers: dict[str, np.ndarray] = {}
    spoken, broken = set(), set()  # columns with words, with fractions
    count = 0
    for part in parts:
        columns = {str(name): cells for name, cells in part.items()}
        start, count = count, count + len(part)
        told = dict(plain_numbers(columns, [name for name in columns if name not in text]))
        numbers = numbers if start else _begun(told, most)
        for name, cells in columns.items():
            if (own := told.get(name)) is None:
                texts.setdefault(name, Gathered()).add(cells)
                spoken |= {name} if cells.notna().any() else set()
                continue
            if isinstance(own, np.ndarray):
                broken.add(name)
            else:
                own = own.to_numpy(np.float64, na_value=np.nan)
                spoken |= {name} if (np.abs(own) >= _EXACT).any() else set()
            if name not in numbers:
                numbers[name] = np.full(most, np.nan)
            numbers[name][start:count] = own
        if spoken & set(numbers):
            return None
    found: dict[str, Any] = {}
    for name in columns:
        if name in numbers:
            own = numbers[name][:count]
            found[name] = own if name in broken else _whole(own)
            own.flags.writeable = False  # what is mapped is one for all forks
        else:
            found[name] = texts.pop(name).column()
    return pd.DataFrame(found, copy=len(found) >= WIDE) if found else None


def _begun(told: Mapping[str, Any], most: int) -> dict[str, np.ndarray]:
    """Give each column of which numbers are told so many rows of NaN."""
    names = [name for name, own in told.items() if own is not None]
    return dict(zip(names, unnamed((len(names), most)), strict=True))


def _whole(numbers: np.ndarray) -> pd.arrays.IntegerArray:
    """Write whole numbers as such, in their place."""
    gap, whole = np.isnan(numbers), numbers.view(np.int64)
    whole[:] = np.where(gap, 1, numbers)
    whole.flags.writeable = False
    return pd.arrays.IntegerArray(whole, gap)


def _cells(column: pd.Series) -> pa.LargeStringArray | None:
    """The cells of a column of text; None of lists, dates, numbers among texts."""
    import pyarrow as pa

    try:
        cells = pa.array(column, type=pa.large_string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    return cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells


def _told(columns: list[pa.LargeStringArray]) -> list[Any]:
    """Read some columns as `plain_numbers` does; those that can be cast are, the rest in halves."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers: list[Any] = [None] * len(columns)
    if not columns or not len(columns[0]):
        return numbers
    cells = columns[0] if len(columns) == 1 else pa.concat_arrays(columns)
    stripped = pc.utf8_trim_whitespace(cells)
    is_given = pc.fill_null(pc.not_equal(stripped, ""), fill_value=False)
    places = is_given.to_numpy(zero_copy_only=False).reshape(len(columns), -1)
    given = stripped.filter(is_given)
    counts = places.sum(axis=1)
    chosen, begins = np.flatnonzero(counts), np.cumsum(counts) - counts
    firsts = given.take(pa.array(begins[chosen]))  # of texts the first tells, faster than all
    chosen = chosen[_has(firsts, _NUMBER)]
    if len(chosen) < len(columns):
        is_chosen = np.zeros(len(columns), bool)
        is_chosen[chosen] = True
        given = given.filter(pa.array(np.repeat(is_chosen, counts)))
    if not len(chosen):
        return numbers
    begins = np.cumsum(counts[chosen]) - counts[chosen]

    def of_all(cells: np.ndarray) -> np.ndarray:
        """Whether it is so of all cells of each column that is chosen, (C,) bool."""
        return np.logical_and.reduceat(cells, begins)

    try:
        values = given.cast(pa.float64()).to_numpy()
        sound = of_all(np.isfinite(values) & ~_has(given, LEADING_ZERO))
        maybe = np.repeat(of_all(values == np.floor(values)) & sound, counts[chosen])
        broken = ~maybe
        broken[maybe] = _has(given.filter(pa.array(maybe)), _NOT_WHOLE)
        whole = of_all(~broken)
        for one in np.flatnonzero(sound & ~whole & ~of_all(np.abs(values) < _LONG)):
            column = given.slice(begins[one], counts[chosen[one]])
            sound[one] = bool(_has(column, "[.eE]").any())
        integers = given.filter(pa.array(np.repeat(whole, counts[chosen]))).cast(pa.int64())
    except pa.ArrowInvalid:  # a cell of one of them is no number
        middle = len(columns) // 2
        return [*_told(columns[:middle]), *_told(columns[middle:])] if middle else numbers
    kept = np.ones((int(whole.sum()), places.shape[1]), dtype=np.int64)
    kept[places[chosen[whole]]] = integers.to_numpy()
    for number, row in zip(chosen[whole], kept, strict=True):
        numbers[number] = pd.arrays.IntegerArray(row, ~places[number])
    real = sound & ~whole
    spread = np.full((int(real.sum()), places.shape[1]), np.nan)
    spread[places[chosen[real]]] = values[np.repeat(real, counts[chosen])]
    for number, row in zip(chosen[real], spread, strict=True):
        numbers[number] = row
    return numbers


def _has(cells: pa.LargeStringArray, pattern: str) -> np.ndarray:
    """Which cells have a pattern in them. (N,) bool."""
    import pyarrow.compute as pc

    return np.asarray(pc.match_substring_regex(cells, pattern).to_numpy(zero_copy_only=False), bool)
