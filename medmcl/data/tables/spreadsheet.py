"""Text cells of CSV files that a spreadsheet would take for formulas, written so that it does not.

``=HYPERLINK(…)`` in a cell is run by whoever opens the table. A text that begins as a formula does
is written after an apostrophe, as spreadsheets themselves say that a cell is text; numbers stay as
they are, also those that are text. What was written so is read back as it was.

Source: OWASP, CSV injection: ``=``, ``+``, ``-``, ``@``, tab, carriage return, line feed, and the
wide forms of the signs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_BEGINS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{_BEGINS}]")
_SHIELDED = re.compile(f"'+[{_BEGINS}]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_IN_FILE = re.compile(rb"'[=+\-@\t\r\n\xef]")
_CHUNK = 1 << 24


def shielded(cell: Any) -> Any:
    """A cell as it is written: text that begins as a formula does gets an apostrophe before it."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def unshielded(cell: Any) -> Any:
    """A cell as it was before `shielded`."""
    return cell[1:] if isinstance(cell, str) and _SHIELDED.match(cell) else cell


def shielded_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Names and cells of a row, as they are written."""
    return {shielded(name): shielded(cell) for name, cell in row.items()}


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
