"""Text cells of CSV files that a spreadsheet would take for formulas, written so that it does not.

``=HYPERLINK(…)`` in a cell is run by whoever opens the table. A text that begins as a formula does
is written after an apostrophe, as spreadsheets themselves say that a cell is text; numbers stay as
they are, also those that are text. What was written so is read back as it was.

Where a comma is the decimal sign, a spreadsheet splits at semicolons, and takes no heed of quotes
within a field: what follows a semicolon or a line break in a text is a cell there, and is written
likewise.

Source: OWASP, CSV injection: ``=``, ``+``, ``-``, ``@``, tab, carriage return, line feed, and the
wide forms of the signs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.suppression import placeless

if TYPE_CHECKING:
    import pandas as pd

_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WITHIN = r"(?<=[;\r\n])"
_FORMULA = re.compile(
    rf"\A(?!{_NUMBER}\Z)(?='*[{_SIGNS}\t\r\n])|{_WITHIN}(?!{_NUMBER}(?:[;\r\n]|\Z))(?='*[{_SIGNS}])"
)
"""Where a formula may begin, that is no number."""
_SHIELD = re.compile(rf"\A'(?='*[{_SIGNS}\t\r\n])|{_WITHIN}'(?='*[{_SIGNS}])")
"""The apostrophe that was put there."""
_IN_FILE = re.compile(rb"'[=+\-@\t\r\n\xef]")
_CHUNK = 1 << 20


def shielded(cell: Any) -> Any:
    """A cell as it is written: text that begins as a formula does gets an apostrophe before it."""
    return _FORMULA.sub("'", cell) if isinstance(cell, str) else cell


def unshielded(cell: Any) -> Any:
    """A cell as it was before `shielded`."""
    return _SHIELD.sub("", cell) if isinstance(cell, str) else cell


def csv_text(rows: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> str:
    """Rows as CSV text that no spreadsheet runs; a missing value is an empty cell.

    Args:
        rows: Name of a column to cell.
        names: Columns that come first, without any rows too.
    """
    plain = [placeless(row) for row in rows]
    header = dict.fromkeys([*names, *(name for row in plain for name in row)])
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(map(shielded, header))
    writer.writerows([shielded(row.get(name)) for name in header] for row in plain)
    return buffer.getvalue()


def shielded_table(table: pd.DataFrame) -> pd.DataFrame:
    """Names and cells of a table, as they are written."""
    return _mapped(table, shielded)


def unshielded_table(table: pd.DataFrame) -> pd.DataFrame:
    """Names and cells of a table, as they were before `shielded_table`."""
    return _mapped(table, unshielded)


def holds_shielded(path: Path) -> bool:
    """Whether a file may hold a cell that was written by `shielded`; compressed ones are none."""
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if (b"'" in chunk or last == b"'") and _IN_FILE.search(last + chunk):
                return True
            last = chunk[-1:]
    return False


def _mapped(table: pd.DataFrame, change: Any) -> pd.DataFrame:
    made = table.rename(columns=change)
    for place, kind in enumerate(table.dtypes):
        if kind.kind not in "biufcmM":
            cells = table.iloc[:, place].astype(object)
            made.isetitem(place, cells.map(change, na_action="ignore").to_numpy())
    return made
