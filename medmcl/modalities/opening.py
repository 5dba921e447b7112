"""The files of records: what every reader refuses, and what is kept of a file for many records."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import AGAIN, RecordError

_P = ParamSpec("_P")
_T = TypeVar("_T")


def require_content(path: Path, fix: str | None = None) -> os.stat_result:
    """Refuse a file that is not there or empty; give what the disk says of it.

    Raises:
        RecordError: Says which; ``fix`` is for one that is not there. Without, whoever reads the
            record says it.
    """
    if not path.is_file():
        raise RecordError("there is no such file", where=path, fix=fix)
    found = path.stat()
    if found.st_size == 0:
        raise RecordError("the file is empty (zero bytes)", where=path, fix=AGAIN)
    return found


def kept(
    most: int,
) -> Callable[[Callable[Concatenate[Path, _P], _T]], Callable[Concatenate[Path, _P], _T]]:
    """Keep what the last ``most`` calls read of a file, while it stays as it is.

    Of a function whose first argument is the file; one that is not there or empty is refused.
    """

    def keep(read: Callable[Concatenate[Path, _P], _T]) -> Callable[Concatenate[Path, _P], _T]:
        @lru_cache(most)
        def remembered(_: object, path: Path, *given: _P.args, **named: _P.kwargs) -> _T:
            return read(path, *given, **named)

        @wraps(read)
        def looked(path: Path, *given: _P.args, **named: _P.kwargs) -> _T:
            found = require_content(path)
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
            return remembered(stamp, path, *given, **named)  # type: ignore[arg-type]  # hashable

        return looked

    return keep


def cell_of(place: RecordRef, column: str) -> Any:
    """Give a cell of the cohort's table; None if it is empty.

    Raises:
        RecordError: There is no such column.
    """
    if column not in place.values:
        known = ", ".join(map(str, place.values))
        what, fix = f"the table has no column '{column}'", "correct its name in cohort.yaml"
        raise RecordError(what, where=place.where, expected=known, fix=fix)
    cell = place.values[column]
    is_nan = isinstance(cell, float) and math.isnan(cell)
    return None if is_nan or str(cell) == "<NA>" else cell


def whole_number(place: RecordRef, column: str, expected: str | None = None) -> int | None:
    """Give the whole number in a cell of the cohort's table; None if the cell is empty.

    Raises:
        RecordError: There is no such column, or it holds something else than ``expected``.
    """
    cell = cell_of(place, column)
    if cell is None or str(cell).strip() == "":
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number):  # written so
        return None
    if not number.is_integer():
        what = f"column '{column}' must be a whole number"
        raise RecordError(what, where=place.where, got=cell, expected=expected)
    return int(number)


def row_number(place: RecordRef, column: str) -> int:
    """Give the row of a record in an array of many, which a cell of the cohort's table says.

    Raises:
        RecordError: As `whole_number`, or the cell is empty.
    """
    expected = "the number of a row, from 0"
    row = whole_number(place, column, expected)
    if row is None:
        what, fix = f"column '{column}' is empty", "say with `present` who has such a record"
        raise RecordError(what, where=place.where, expected=expected, fix=fix)
    return row


def require_row(row: int, count: int, path: Path) -> None:
    """Refuse a row that an array of ``count`` rows does not have.

    Raises:
        RecordError: Says which there are.
    """
    if not 0 <= row < count:
        raise RecordError("there is no such row", where=path, got=row, expected=f"0 to {count - 1}")


def as_text(cell: object) -> str:
    """Give a cell as text; 51, 51.0 and "51" are one, since a gap turns whole numbers to floats."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()
