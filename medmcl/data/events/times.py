"""Times of events from text or offsets, exact to the microsecond, from year 1 to year 9999."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from medmcl.core.errors import CohortError

_ZONE = r"([T ]\d{2}:\d{2}[0-9:.]*)\s*(Z|UTC|[+-]\d{2}:?\d{2})$"
_PATTERN = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?$"
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


def parse_times(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Give timestamp[us]; a time zone is dropped, the local time stays.

    Raises:
        CohortError: A cell that is there but no ISO 8601 date.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"), safe=False)
    text = column.cast(pa.string())
    text = pc.utf8_trim_whitespace(pc.replace_substring_regex(text, _ZONE, r"\1"))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+$", r"\1")
    bad = pc.fill_null(pc.invert(pc.match_substring_regex(text, _PATTERN)), False)
    if pc.any(bad).as_py():
        raise _no_date(column.filter(bad), where)
    try:
        return text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        raise _no_date(_unreadable(text), where) from None


def offsets(column: pa.ChunkedArray, unit: str, where: str) -> pa.ChunkedArray:
    """Give timestamp[us] of offsets, negative ones too, counted from 1970-01-01.

    Raises:
        CohortError: A cell that is there but no number, or out of all bounds.
    """
    try:
        number = pc.cast(column, pa.float64())
        micro = pc.round(pc.multiply(number, float(_SECONDS[unit] * 1_000_000)))
        return pc.cast(pc.cast(micro, pa.int64()), pa.timestamp("us"))
    except pa.ArrowInvalid as error:
        raise CohortError(
            "offsets are no numbers", where=where, got=str(error)[:120], expected=f"{unit}"
        ) from None


def _unreadable(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give the cells that look like dates and are none (month 13)."""
    bad = []
    for cell in text.unique().to_pylist():
        try:
            pa.scalar(cell, pa.string()).cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            bad.append(cell)
    return pa.chunked_array([pa.array(bad, pa.string())])


def _no_date(cells: pa.ChunkedArray, where: str) -> CohortError:
    return CohortError(
        f"{len(cells)} cells are no dates",
        where=where,
        got=repr(cells[0].as_py()),
        expected="ISO 8601, for example 2019-03-31 or 2019-03-31 14:05:00; for numbers since an "
        "origin name offset_unit",
        fix=_fix_of(str(cells[0].as_py())),
    )


def _fix_of(cell: str) -> str | None:
    """What may be written there; day and month of 03/04/2019 cannot be told apart, so no guess."""
    if re.fullmatch(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}.*", cell):
        return "write year, month, day: which of the first two is the day is not guessed"
    if re.fullmatch(r"\d{8}", cell):
        return f"write it with hyphens: {cell[:4]}-{cell[4:6]}-{cell[6:]}"
    return None
