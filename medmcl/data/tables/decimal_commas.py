"""Numbers with decimal commas, ``27,5``, in tables whose cells have semicolons between them."""

from __future__ import annotations

import re
from collections.abc import Collection

import pandas as pd

_MARK = "decimal_commas"
_NUMBER = re.compile(r"[-+]?\d+(?:,\d+)?(?:[eE][-+]?\d+)?")
_NO_THOUSANDS = re.compile(r"[-+]?(?:0,\d+|\d+,(?:\d{1,2}|\d{4,}))(?:[eE][-+]?\d+)?")


_COMMA = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+(?:[eE][-+]?\d+)?")


def first_with_comma(cells: pd.Series) -> str | None:
    """Give the first cell that looks like a number with a comma if most of the cells do."""
    known = [str(cell).strip() for cell in cells.dropna()]
    found = [cell for cell in known if _COMMA.fullmatch(cell)]
    return found[0] if 2 * len(found) > len(known) else None


def marked(frame: pd.DataFrame) -> pd.DataFrame:
    """Note of a table, in place, that its numbers may be written with commas."""
    frame.attrs[_MARK] = True
    return frame


def with_points(frame: pd.DataFrame, text: Collection[str]) -> pd.DataFrame:
    """Write such numbers with points, in the columns of a marked table that hold nothing else.

    A column of which every cell could be thousands (1,250) stays as it is.

    Args:
        frame: Cells as text.
        text: Columns that stay text as it stands.
    """
    if not frame.attrs.get(_MARK):
        return frame
    names = [str(name) for name in frame.columns if str(name) not in text]
    return frame.assign(**{name: _rewritten(frame[name]) for name in names})


def _rewritten(column: pd.Series) -> pd.Series:
    cells = [cell.strip() for cell in column.dropna() if cell.strip()]
    if not any(map(_NO_THOUSANDS.fullmatch, cells)) or not all(map(_NUMBER.fullmatch, cells)):
        return column
    return column.str.replace(",", ".", regex=False)
