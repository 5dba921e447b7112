"""Events from tables as people have them: a row an event, columns named by the user.

CSV, TSV and JSON lines (also .gz) and parquet, read some rows at a time. Every reader gives the
same columns (`COLUMNS`); rows need no order.
"""

from __future__ import annotations

import gzip
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from csv import reader as split_lines
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError
from medmcl.core.limits import parse_json
from medmcl.core.path_suggestions import require_file
from medmcl.core.plain_text import bounded_line, encoding_fix, separator_of
from medmcl.data.events.meds import open_parquet, sound_batches

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


log = logging.getLogger(__name__)
COLUMNS = ("subject", "time", "code", "visit", "site", "text", "value", "description")
"""What a reader may give of an event: text, but ``time``, which is timestamp[us]."""
_ROWS = 1 << 18
_BLOCK = 16 << 20
_LINES = (".jsonl", ".ndjson")
Unit = Literal["seconds", "minutes", "hours", "days"]


@dataclass(frozen=True, kw_only=True)
class EventTable:
    """A table of events.

    Attributes:
        path: The file.
        name: What rows of it say of their source.
        columns: Of `COLUMNS`, the column of the file that holds it.
        prefix: Put before every code, for example ``ICD10CM//``.
        offset_unit: ``time`` is a number of these since an origin of the patient or stay.
        join: Another table, and the column (here, there) that rows are matched by; it adds
            columns that are not here.
        keep: Column to the values that a row must have in it.
        drop: Column to the values that a row must not have in it.
    """

    path: Path
    name: str
    columns: Mapping[str, str]
    prefix: str = ""
    offset_unit: Unit | None = None
    join: tuple[Path, str, str] | None = None
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_events(table: EventTable) -> Iterator[pa.Table]:
    """Give the rows of a table of events, all in `COLUMNS`, empty where the file has none.

    Raises:
        CohortError: No such file or column, damaged bytes, or a time that is none.
    """
    asked = {*table.columns.values(), *table.keep, *table.drop}
    joined = _Join(table, asked) if table.join else None
    here = asked if joined is None else (asked - joined.columns.keys()) | {joined.on}
    read = kept = blanks = points = 0
    for rows in _read(table.path, sorted(here)):
        read += rows.num_rows
        if joined is not None:
            rows = joined.to(rows)
        for name, values in (*table.keep.items(), *table.drop.items()):
            found = pc.is_in(_text(rows[name]), pa.array(values, pa.string()))
            rows = rows.filter(found if name in table.keep else pc.invert(found))
        kept += rows.num_rows
        blanks += _number_of(rows, table, ("code",), r"^\s|\s$")
        points += _number_of(rows, table, ("subject", "visit"), r"^\s*\d+\.0\s*$")
        yield _canonical(rows, table)
    if read > kept:
        log.info("%s: %d of %d rows left out by keep or drop", table.name, read - kept, read)
    if blanks:
        log.info("%s: %d codes had blanks around them, which are taken off", table.name, blanks)
    if points:
        log.info("%s: %d ids written as 11.0 are read as 11", table.name, points)


def _number_of(rows: pa.Table, table: EventTable, names: Sequence[str], pattern: str) -> int:
    """How many cells of some columns look so."""
    found = 0
    for column in (table.columns[name] for name in names if name in table.columns):
        text = rows[column].cast(pa.string())
        found += pc.sum(pc.match_substring_regex(text, pattern)).as_py() or 0
    return found


def _canonical(rows: pa.Table, table: EventTable) -> pa.Table:
    found = {}
    for name in COLUMNS:
        column = table.columns.get(name)
        if column is None:
            kind = pa.timestamp("us") if name == "time" else pa.string()
            found[name] = pa.nulls(rows.num_rows, kind)
        elif name == "time" and table.offset_unit:
            found[name] = offsets(rows[column], table.offset_unit, f"{table.path}, {column}")
        elif name == "time":
            found[name] = parse_times(rows[column], f"{table.path}, {column}")
        elif name in ("subject", "visit"):
            found[name] = _identifier(rows[column])
        else:
            found[name] = _text(rows[column])
    if table.prefix:
        found["code"] = pc.binary_join_element_wise(
            pa.scalar(table.prefix), found["code"].cast(pa.string()), ""
        )
    return pa.table(found)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give cells as text, trimmed; empty ones as missing, whole numbers without ``.0``."""
    if pa.types.is_floating(column.type):
        column = pc.replace_substring_regex(column.cast(pa.string()), r"\.0$", "")
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _identifier(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give ids as text; ``11.0``, which tools write where some ids are missing, is ``11``."""
    return pc.replace_substring_regex(_text(column), r"^(\d+)\.0$", r"\1")


class _Join:
    """Columns of another table that are asked for and not here, one row a key."""

    def __init__(self, table: EventTable, asked: set[str]) -> None:
        assert table.join is not None
        path, self.on, key = table.join
        adds = asked.intersection(header_of(path)).difference(header_of(table.path), {self.on})
        rows = pa.concat_tables(_read(path, sorted({*adds, key})))
        names = _identifier(rows[key]).to_pylist()
        keys = [one for one in names if one is not None]
        self._row = {one: n for n, one in enumerate(names)}
        if len(set(keys)) < len(keys):
            raise CohortError("a key stands twice in the joined table", where=f"{path}, {key}")
        self.columns = {name: _text(rows[name]) for name in adds}

    def to(self, rows: pa.Table) -> pa.Table:
        """Add the columns; empty where no key matches."""
        keys = _identifier(rows[self.on]).to_pylist()
        at = pa.array([None if k is None else self._row.get(k) for k in keys], pa.int64())
        for name, column in self.columns.items():
            rows = rows.append_column(name, column.take(at))
        return rows


def _read(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    suffix = _suffix(path)
    require_file(path, CohortError)
    reader = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    if suffix in _LINES:
        yield from _read_lines(path, columns)
        return
    if suffix not in reader:
        raise CohortError(
            "is no table of events that can be read",
            where=path,
            expected=".csv, .tsv, .jsonl (each also .gz) or .parquet",
        )
    try:
        yield from reader[suffix](path, columns)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _suffix(path: Path) -> str:
    return next((s for s in reversed(path.suffixes) if s.lower() != ".gz"), "").lower()


def header_of(path: Path) -> list[str]:
    """Give the columns of a csv, tsv or parquet file; of JSON lines, the keys of the first."""
    require_file(path, CohortError)
    if _suffix(path) == ".parquet":
        return list(open_parquet(path).schema_arrow.names)
    header = _first_line(path)
    if _suffix(path) not in _LINES:
        return next(split_lines([header], delimiter=_separator(path, header)), [])
    try:
        return list(parse_json(header))
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _first_line(path: Path) -> str:
    try:
        with _opened(path) as file:
            return bounded_line(file, path, CohortError).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, EOFError, ValueError) as error:  # text that is no UTF-8 among them
        raise _damaged(path, error) from None


def _separator(path: Path, header: str) -> str:
    """As the name says; where the header has none of it, what it has (``;`` of a German Excel)."""
    return separator_of(header, "\t" if _suffix(path) == ".tsv" else ",")


def _read_csv(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    separator = _separator(path, _first_line(path))
    _require(columns, header_of(path), path)
    options = {
        "parse_options": csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        "convert_options": csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    }
    with _opened(path) as file:
        reader = csv.open_csv(file, csv.ReadOptions(block_size=_BLOCK), **options)
        for batch in reader:
            if any(pc.any(pc.match_substring(one, "\0")).as_py() for one in batch.columns):
                raise CohortError("holds zero bytes: it is no text, or damaged", where=path,
                                  fix="copy it again from its source")  # fmt: skip
            yield pa.Table.from_batches([batch])


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        if path.suffix.lower() != ".gz":
            yield raw
            return
        with gzip.open(raw) as file:
            yield file  # type: ignore[misc]  # a GzipFile reads as IO[bytes] does


def _read_parquet(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    file = open_parquet(path)
    _require(columns, file.schema_arrow.names, path)
    for batch in sound_batches(file, path, columns, _ROWS):
        yield pa.Table.from_batches([batch])


def _read_lines(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Read JSON lines; a key that a line lacks is an empty cell."""
    rows: list[dict[str, str | None]] = []
    known: set[str] = set()
    number = 0
    try:
        with _opened(path) as file:
            while line := bounded_line(file, path, CohortError):
                number += 1
                if not line.strip():
                    continue
                value = parse_json(line)
                known.update(value)
                cells = {c: value.get(c) for c in columns}
                rows.append({c: None if v is None else str(v) for c, v in cells.items()})
                if len(rows) >= _ROWS:
                    yield _of_rows(rows, columns)
                    rows = []
    except (OSError, EOFError, ValueError, AttributeError, TypeError) as error:
        raise _damaged(path, error, f", line {number}" if number else "") from None
    _require(columns, sorted(known), path)
    yield _of_rows(rows, columns)


def _of_rows(rows: list[dict[str, str | None]], columns: list[str]) -> pa.Table:
    return pa.table({c: pa.array([row[c] for row in rows], pa.string()) for c in columns})


def _require(columns: list[str], there: list[str], path: Path) -> None:
    for column in columns:
        if column not in there:
            raise CohortError(
                f"there is no column '{column}'{nearest(column, there)}",
                where=path,
                fix="correct the name in the spec; names are case-sensitive",
            )


def _damaged(path: Path, error: Exception, line: str = "") -> CohortError:
    text = re.sub(r"\s+", " ", str(error))[:200]
    return CohortError(
        "cannot be read as a table of events",
        where=f"{path}{line}",
        got=f"{type(error).__name__}: {text}",
        fix=encoding_fix(path)
        or "check that the file is complete, UTF-8, and separated as its name says",
    )
