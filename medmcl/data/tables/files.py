"""Tables as people have them: csv, tsv, parquet, gzipped, or many small key-value files.

Columns are numbers only if nothing is lost by it: a column with a leading zero (``007``) stays
text. Missing cells are those that pandas reads as missing, ``n/a`` of BIDS included.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted, first_of
from medmcl.core.limits import refuse_large_parquet, refuse_many_columns
from medmcl.core.path_suggestions import instead_of
from medmcl.core.plain_text import encoding_fix, heading, refuse_unsound_text
from medmcl.data.tables.listed_files import is_listing, is_packed, list_files
from medmcl.data.tables.lost_zeros import PARTS, refuse_lost_zeros
from medmcl.data.tables.mapped import let_go
from medmcl.data.tables.patterns import find_files, is_pattern, named_parts
from medmcl.data.tables.plain_numbers import LEADING_ZERO, plain_numbers, with_numbers
from medmcl.data.tables.repeated_words import Words, is_repeated, repeated
from medmcl.data.tables.small_files import small_rows
from medmcl.data.tables.spreadsheet import holds_shielded, unshielded_table
from medmcl.data.tables.wide_cells import WIDE

Emptied = Callable[[pd.DataFrame], pd.DataFrame]
_MARK = "decimal_commas"
THOUSANDS = "thousands"
"""Key of ``attrs`` where commas are decimal: column to a cell whose point may part thousands."""
_IN_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
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
    written = {name: _rewritten(frame[name]) for name in names}
    found = frame.assign(**written)
    if not all(written[name].equals(frame[name]) for name in names):
        cells = {name: _thousands(frame[name]) for name in names}
        found.attrs[THOUSANDS] = {name: cell for name, cell in cells.items() if cell is not None}
    return found


def _thousands(column: pd.Series) -> str | None:
    """Give the first cell with a point, if every such cell of the column could be of thousands."""
    cells = [cell.strip() for cell in column.dropna() if cell.strip()]
    pointed = [cell for cell in cells if not cell.isdigit()]
    return pointed[0] if pointed and all(map(_IN_THOUSANDS.fullmatch, pointed)) else None


def _rewritten(column: pd.Series) -> pd.Series:
    cells = [cell.strip() for cell in column.dropna() if cell.strip()]
    if not any(map(_NO_THOUSANDS.fullmatch, cells)) or not all(map(_NUMBER.fullmatch, cells)):
        return column
    return column.str.replace(",", ".", regex=False)


_BLOCK = 2**20
_MOST_NOTED = 20
_ROWS_AT_ONCE = 2**12 - 32
_LOOKED_AT = 2**14
_INTEGER = r"[-+]?\d{1,18}"
_EXACT = 2.0**53
YEARS = (1700, 2261)
"""Dates outside stand for none (year 1, year 9999); nanoseconds since 1970 do not reach further."""


class NoTableError(CohortError):
    """A table that is not where it should be."""


@dataclass(frozen=True)
class Table:
    """A table that was read.

    Attributes:
        frame: Its rows; numbers, booleans or text with missing cells, text that repeats as
            categories.
        where: What messages call it.
        files: The files it came from, for the fingerprint.
        listed: Whether its rows list files (shards, a folder): the fingerprint takes the rows.
        notes: What is odd about it, in words.
    """

    frame: pd.DataFrame
    where: str
    files: tuple[Path, ...]
    listed: bool = False
    notes: tuple[str, ...] = ()

    def content(self) -> Iterator[bytes]:
        """What the fingerprint takes; of a list of files what it says, not what they hold."""
        if self.listed:
            yield self.frame.to_csv(index=False).encode("utf-8", "surrogatepass")
        else:
            for file in self.files:
                with file.open("rb") as opened:
                    yield from iter(partial(opened.read, _BLOCK), b"")

    def require(self, column: str, field: str) -> pd.Series:
        """Give a column; the error names its nearest neighbour and the field that asked."""
        if column not in self.frame.columns:
            raise missing_column(column, list(self.frame.columns), f"{field}, table {self.where}")
        return self.frame[column]


def missing_column(column: str, known: list[str], where: str) -> CohortError:
    """Give the error for a column that is not there."""
    return CohortError(
        f"there is no column '{column}'{nearest(column, map(str, known))}",
        where=where,
        fix="correct the name in cohort.yaml; names are case-sensitive",
    )


def read_table(
    root: Path,
    pattern: str,
    text: Collection[str] = (),
    emptied: Emptied | None = None,
    refuse: Callable[[list[tuple[str, Path]]], None] = lambda _: None,
    read: Callable[[Path], pd.DataFrame] | None = None,
    ids: Collection[str] = (),
) -> Table:
    """Read ``root / pattern``: one file, or a glob of tables, small files, images or shards.

    Key-value files and headers of WFDB records give one row a file: see
    `medmcl.data.tables.small_files`. Images and tar shards give one row a sample: see
    `medmcl.data.tables.listed_files`.

    Args:
        root: Where the pattern starts.
        pattern: Path or glob; ``{name}`` in it is a column, and of ``A | B`` the first is read of
            which there are files.
        text: Columns that stay text as it stands: 250.00 and 250 are two codes.
        emptied: Empties cells that stand for nothing, before it is told which columns are numbers.
        refuse: Refuses files that may not be read, each with what it is of.
        read: Reads one of several files, perhaps not all of it.
        ids: Columns that name people or records: 1.10 and 1.1 are two, 5.0 and 5 one.

    Raises:
        CohortError: No such file, a format that is not known, or bytes that cannot be read.
    """
    as_numbers = text if emptied is None else None
    emptied = emptied or (lambda frame: frame)
    if not is_pattern(pattern):
        path = root / pattern
        refuse([("the table", path)])
        if path.is_file() and is_packed(path):
            return _listed(root, pattern, (path,), text, emptied)
        with _telling(path):
            # no name here holds the text of the columns while `tidy` lets it go
            frame = tidy(
                with_points(emptied(_with_ids(path, as_numbers, text, ids)), text), text, ids
            )
        return Table(frame, pattern, (path,))
    chosen, files = find_files(root, pattern)
    if not files:
        raise _no_file(root / chosen)
    refuse([("the table", path) for path in files])
    parts = named_parts(root, chosen, files)
    if is_listing(files):
        if any(parts):
            raise CohortError(
                "images and shards name no column by {...}",
                where=pattern,
                fix="write * in its place; the columns key and folder say where each lies",
            )
        return _listed(root, pattern, files, text, emptied)
    if _suffix(files[0]) in _READERS:
        one = read or read_file
        frames = [one(path).assign(**said) for path, said in zip(files, parts, strict=True)]
        rows = pd.concat(frames, ignore_index=True)
        notes = tuple(islice(_lacking(root, files, frames), _MOST_NOTED)) if read is None else ()
    else:
        notes = ()
        rows = pd.DataFrame(small_rows(root, files, parts))
    with _telling(root / pattern):
        frame = tidy(with_points(emptied(rows), text), text, ids)
        return Table(frame, pattern, files, notes=notes)


def _lacking(root: Path, files: Sequence[Path], frames: Sequence[pd.DataFrame]) -> Iterator[str]:
    """Say which columns of stacked files some of them have not: their rows are without a value."""
    having = Counter(str(name) for frame in frames for name in frame.columns)
    for name, count in having.items():
        if count < len(frames):
            without = [n for n, frame in enumerate(frames) if name not in frame.columns]
            rows = sum(len(frames[n]) for n in without)
            lacking = first_of(
                files[n].as_posix().removeprefix(f"{root.as_posix()}/") for n in without
            )
            empty = f"empty in {counted(rows, 'row')} of {lacking}"
            yield f"'{name}' is in {count:,} of {len(frames):,} files, and {empty}"


def _with_ids(
    path: Path, as_numbers: Collection[str] | None, text: Collection[str], ids: Collection[str]
) -> pd.DataFrame:
    """Read a table; once more where ids would have been broken numbers."""
    frame = read_file(path, as_numbers)
    broken = {one for one in ids if one in frame and frame.dtypes[one] == "float64"}
    if broken and _suffix(path) != ".parquet":
        return read_file(path, {*text, *broken})
    return frame


def _listed(
    root: Path, pattern: str, files: tuple[Path, ...], text: Collection[str], emptied: Emptied
) -> Table:
    found = list_files(root, pattern, files)
    with _telling(root / pattern):
        frame = tidy(with_points(emptied(found.frame), text), text)
    return Table(frame, pattern, files, listed=True, notes=found.notes)


def join(left: Table, right: Table, on: Mapping[str, str]) -> Table:
    """Add the columns of ``right`` to the rows of ``left`` (missing where nothing matches).

    A name that both have is kept from ``left``; the right one becomes ``<file>.<name>``.

    Raises:
        CohortError: A key is missing, stands twice in ``right``, or nothing matches at all.
    """
    field = f"join of {right.where}"
    ours = _keys(left, list(on.keys()), field)
    theirs = _keys(right, list(on.values()), field)
    twice = theirs[theirs.duplicated() & theirs.notna()]
    if len(twice):
        raise CohortError(
            "a key stands more than once in the joined table",
            where=f"{field} on {dict(on)}",
            got=twice.iloc[0],
            expected="one row a key",
            fix="join on a column that is unique, or give the modality this table as its own",
        )
    position = pd.Series(np.arange(len(theirs)), index=theirs)
    rows = ours.map(position[position.index.notna()])
    refuse_lost_zeros(theirs, ours, f"{field} on {dict(on)}")
    if len(ours) and rows.isna().all():
        raise CohortError(
            "no row of the joined table matches",
            where=f"{field} on {dict(on)}",
            got=f"{ours.iloc[0]!r} on the left, {theirs.iloc[0] if len(theirs) else 'nothing'!r}",
        )
    others = right.frame.drop(columns=list(on.values()))
    stem = Path(right.where).name.split(".")[0]
    others = others.rename(columns={c: f"{stem}.{c}" for c in others if c in left.frame})
    added = others.reindex(rows.fillna(-1).astype(int).to_numpy())
    added.index = left.frame.index
    return Table(
        pd.concat([left.frame, added], axis=1), left.where, tuple({*left.files, *right.files})
    )


def texts(column: pd.Series) -> np.ndarray:
    """Give cells as text, None where missing; whole numbers without ``.0``. (N,) object.

    Of cells that are so already no copy is made.
    """
    if is_repeated(column):
        each = [*map(as_text, column.cat.categories), None]
        return np.array(each, dtype=object)[column.cat.codes]  # -1, none, is the last
    if column.dtype == object:
        cells = column.to_numpy()
        if all(cell is None or (type(cell) is str and cell.strip() is cell) for cell in cells):
            return cells
    result = np.full(len(column), None, dtype=object)
    known = column.notna().to_numpy()
    if isinstance(column.dtype, pd.StringDtype):
        number, words = pd.factorize(column[known])  # codes repeat: each text is held once
        result[known] = pd.Series(words).str.strip().to_numpy(object)[number]
    else:
        result[known] = [*map(as_text, column[known].to_numpy(object))]
    return result


def as_text(cell: Any) -> str:
    """Give one cell or code as text; whole numbers without ``.0``."""
    if isinstance(cell, (float, np.floating)):
        number = float(cell)
        return str(int(number)) if number.is_integer() and abs(number) < _EXACT else str(number)
    return str(cell).strip()


def native(cell: Any) -> Any:
    """Give a cell as a plain Python value, None where missing."""
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return None
    return cell.item() if isinstance(cell, np.generic) else cell


def natives(column: pd.Series) -> Sequence[Any] | np.ndarray:
    """Give the cells of a column as `native` does."""
    if is_repeated(column):
        return Words(column)
    if column.dtype == object:
        cells = column.to_numpy()
        if all(cell is None or type(cell) is str for cell in cells):
            return cells  # as they lie in the table
        return [native(cell) for cell in cells]
    cells = column.to_numpy(object)
    cells[column.isna().to_numpy()] = None
    return cells.tolist()


def dates(column: pd.Series, where: str) -> pd.Series:
    """Read a column as points in time, time zone dropped.

    Raises:
        CohortError: A cell that is there but is no date, or stands for none (year 1, year 9999).
    """
    parsed = _parsed(column, where)
    far = is_placeholder(parsed)
    if far.any():
        raise CohortError(
            f"{counted(int(far.sum()), 'date')} of a year that stands for none",
            where=f"{where}, column {column.name}",
            got=str(parsed[far].iloc[0])[:10],
            expected=f"years {YEARS[0]} to {YEARS[1]}",
            fix="leave the cell empty where nothing is known",
        )
    return parsed


def is_placeholder(parsed: pd.Series) -> np.ndarray:
    """Which points in time lie in no year that anybody was in a hospital. (N,) bool."""
    years = parsed.dt.year
    return ((years < YEARS[0]) | (years > YEARS[1])).to_numpy()


def event_dates(column: pd.Series, where: str) -> tuple[pd.Series, np.ndarray]:
    """Read a column as `dates` does; placeholders are given as unknown, and where they stand."""
    parsed = _parsed(column, where)
    far = is_placeholder(parsed)
    return parsed.where(~far, pd.NaT), far


def _parsed(column: pd.Series, where: str) -> pd.Series:
    codes, distinct = pd.factorize(column)  # the same days come often
    cells = pd.Series(distinct, dtype=column.dtype)
    given = pd.Series(texts(cells), dtype=object)  # 20190331 may be a number
    signed = given.astype("str").str.startswith(("-", "+")).fillna(value=False)
    given = given.mask(signed.astype(bool), "an offset")  # pandas takes -1440 for a year
    try:
        parsed = pd.to_datetime(given, errors="coerce", format="ISO8601")
    except ValueError as error:  # offsets that differ, or some cells without one
        local = _of_one_clock(given)
        if local is None:
            raise CohortError(
                "dates of more than one time zone",
                where=f"{where}, column {column.name}",
                got=str(error)[:100],
                fix="write all as the clock of the hospital showed them, without an offset",
            ) from None
        parsed = pd.to_datetime(local, errors="coerce", format="ISO8601")
    if getattr(parsed.dt, "tz", None) is not None:
        parsed = parsed.dt.tz_localize(None)
    parsed = pd.Series(parsed.array.take(codes, allow_fill=True), column.index)
    bad = column[parsed.isna() & column.notna()]
    if len(bad):
        raise CohortError(
            f"{len(bad)} cells are no dates",
            where=f"{where}, column {column.name}",
            got=repr(native(bad.iloc[0])),
            expected="ISO 8601, for example 2019-03-31 or 2019-03-31 14:05:00",
            fix="write the dates as YYYY-MM-DD",
        )
    return parsed


_OFFSET = r"[+-](\d\d):?(\d\d)$"


def _of_one_clock(cells: pd.Series) -> pd.Series | None:
    """What the clock of a place showed in winter and summer; None where offsets are of several.

    All cells with a time have an offset, and these are an hour apart.
    """
    timed = cells.str.contains(":", regex=False).fillna(value=False).astype(bool)
    parts = cells[timed].str.extract(_OFFSET)
    if parts.isna().any(axis=None):
        return None
    west = cells[timed].str.contains(r"-\d\d:?\d\d$")
    minutes = (60 * parts[0].astype(int) + parts[1].astype(int)).where(~west, lambda one: -one)
    if minutes.max() - minutes.min() > 60:
        return None
    return cells.mask(timed, cells.str.replace(_OFFSET, "", regex=True))


def tidy(
    frame: pd.DataFrame, text: Collection[str] = (), ids: Collection[str] = ()
) -> pd.DataFrame:
    """Give every column as numbers, booleans or text; ``text`` and ``ids`` as in `read_table`."""
    said = frame.attrs.get(THOUSANDS)
    frame = frame.reset_index(drop=True).set_axis([str(name) for name in frame.columns], axis=1)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"two columns are called '{twice}'")
    names, index = frame.columns, frame.index
    plain = frame.select_dtypes("float64").drop(columns=list(text), errors="ignore")
    wide = plain.shape[1] >= WIDE  # of many columns those of numbers are tidy as they are
    done = set(plain.columns) if wide else set()
    found: dict[str, Any] = {str(name): one for name, one in frame.items() if name not in done}
    del frame  # the text of a column goes as its numbers come
    told = {name for name, one in found.items() if name in text or is_repeated(one)}
    unclear = [n for n, one in found.items() if n not in told and not _is_clear(one)]
    words = [n for n in found if n in told]  # of text objects are made: once most text is gone
    for name, numbers in plain_numbers(found, unclear):
        if numbers is None or (name in ids and isinstance(numbers, np.ndarray)):
            words.append(name)
        else:
            found[name] = numbers
    for name in words:
        way = _text_column if name in text else _id_column if name in ids else _tidy_column
        found[name] = way(found[name])
        if len(index) > _LOOKED_AT:
            let_go()
    tidied = pd.DataFrame(found, index=index, copy=len(found) >= WIDE)
    tidied = pd.concat([tidied, plain], axis=1)[names] if wide else tidied
    tidied.attrs |= {} if said is None else {THOUSANDS: said}
    return tidied


def _is_clear(column: pd.Series) -> bool:
    """Whether its cells are numbers or truth values already."""
    kind = column.dtype
    return bool(pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind))


def _tidy_column(column: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.astype(str).where(column.notna(), None)
    if _is_clear(column):
        return column
    some = column.head(_LOOKED_AT)
    several = isinstance(column.dtype, pd.StringDtype) and 2 * some.nunique() < len(some)
    if several or is_repeated(column):
        # what a column is, its distinct cells tell
        codes, distinct = pd.factorize(column)
        if 2 * len(distinct) < len(column) or is_repeated(column):
            told = _tidy_column(pd.Series(np.asarray(distinct, dtype=object), name=column.name))
            if told.dtype != object:
                return told.reindex(codes).set_axis(column.index)
            return repeated(codes, told).set_axis(column.index)
    given = column[column.notna()]
    is_text = isinstance(given.dtype, pd.StringDtype) or pd.api.types.infer_dtype(given) == "string"
    given = given.str.strip() if is_text else given.map(_cell_text)
    given = given[given != ""]
    if given.isin(["True", "False", "true", "false", "TRUE", "FALSE"]).all() and len(given):
        return given.str.lower().eq("true").reindex(column.index).astype("boolean")
    number = _numbers(given)
    if number is not None:
        return number.reindex(column.index)
    spread = given.reindex(column.index).astype(object)
    return spread.where(spread.notna(), None) if spread.hasnans else spread


def _text_column(column: pd.Series) -> pd.Series:
    if is_repeated(column):
        words = pd.Series([as_text(one) or None for one in column.cat.categories], dtype=object)
        return repeated(column.cat.codes.to_numpy(), words)
    cells = pd.Series(texts(column), dtype=object)
    return cells.where(cells != "", None)


def _id_column(column: pd.Series) -> pd.Series:
    tidied = _tidy_column(column)
    if tidied.dtype != "float64" or _is_clear(column):
        return tidied
    cells = tidied.map(as_text, na_action="ignore").astype(object)
    is_broken = cells.str.contains(r"\D", na=False)  # no whole number that float64 holds
    return cells.where(~is_broken, _text_column(column)).where(tidied.notna(), None)


def _numbers(given: pd.Series) -> pd.Series | None:
    if given.str.contains(f"{LEADING_ZERO}|[_a-df-zA-DF-Z]").any():
        return None
    if given.str.fullmatch(_INTEGER).all():
        return given.astype("int64").astype("Int64")
    if given.str.fullmatch(r"[-+]?\d+").all():  # of more digits than float64 tells apart: names
        return None
    try:
        return pd.to_numeric(given).astype("float64")
    except (ValueError, TypeError, OverflowError):
        return None


def _cell_text(cell: Any) -> str:
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple, dict, set)):
        return json.dumps(list(cell) if isinstance(cell, set) else cell, default=str)
    return str(cell).strip()


def _keys(table: Table, columns: list[str], field: str) -> pd.Series:
    parts = [pd.Series(texts(table.require(column, field)), dtype=object) for column in columns]
    joined = parts[0]
    for part in parts[1:]:
        joined = (joined + PARTS + part).where(joined.notna() & part.notna(), None)
    return joined


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_file(path: Path, text: Collection[str] | None = None) -> pd.DataFrame:
    """Read one table, its cells as they stand.

    Args:
        path: The file.
        text: Columns that stay text where the others may be numbers already, as `plain_numbers`
            tells them; None: all stay as they stand.

    Raises:
        CohortError: There is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise _no_file(path)
    reader = _READERS.get(_suffix(path))
    if reader is None:
        raise CohortError(
            "is not a table that can be read",
            where=path,
            expected="csv, tsv or parquet (csv and tsv also .gz), a tar of WebDataset, or a glob "
            "of key-value files, of WFDB headers or of images",
        )
    with _telling(path):
        return reader(path, text)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Say which table cannot be read: pandas and pyarrow raise many kinds on damaged bytes."""
    try:
        yield
    except (CohortError, ConfigError):
        raise
    except Exception as error:
        raise CohortError(
            "cannot be read as a table",
            where=path,
            got=f"{type(error).__name__}: {str(error)[:200]}",
            fix=encoding_fix(path)
            or "check the separator, that it is UTF-8, and that the file is complete",
        ) from None


def _read_csv(path: Path, text: Collection[str] | None) -> pd.DataFrame:
    refuse_unsound_text(path, error=CohortError)
    of_heading: dict[str, Any] = {"nrows": 0, "encoding": "utf-8-sig", "index_col": False}
    first = pd.read_csv(path, sep=",", usecols=[0], **of_heading)  # of many columns much faster
    if ";" in str(first.columns[0]) and len(pd.read_csv(path, sep=",", **of_heading).columns) == 1:
        return marked(_read_text(path, None, ";"))
    return _read_text(path, text, ",")


def _read_text(path: Path, text: Collection[str] | None, separator: str) -> pd.DataFrame:
    refuse_unsound_text(path, error=CohortError)
    line = heading(path, CohortError).decode("utf-8-sig", "replace")
    names, count = [], line.count(separator) + 1
    with suppress(csv.Error):  # of a name without end
        names = next(csv.reader([line], delimiter=separator), [])
        count = len(names)
    refuse_many_columns(count, path, CohortError)
    _refuse_heading(names, path)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error", pd.errors.ParserWarning
        )  # cells beyond the heading's are lost
        pieces = partial(  # the parser's own copy of the text is of one at most
            pd.read_csv,
            path,
            sep=separator,
            dtype=str,
            encoding="utf-8-sig",
            index_col=False,
            on_bad_lines="error",
            chunksize=_ROWS_AT_ONCE,
        )
        if text is not None and not holds_shielded(path):
            with pieces() as parts:
                frame = with_numbers(parts, text, _most_rows(path))
            if frame is not None:
                return frame
        with pieces() as parts:
            frame = pd.concat(parts, ignore_index=True)
    return unshielded_table(frame) if holds_shielded(path) else frame


_SIGNS = {"\t": ("tabs", "call it .tsv"), "|": ("|", "write commas in its place")}


def _refuse_heading(names: list[str], path: Path) -> None:
    """Refuse columns that are called alike, of which pandas renames one; and another separator."""
    named = pd.Series(names, dtype=object)
    twice = named[named.duplicated() & (named.str.strip() != "")]
    if len(twice):
        raise CohortError(
            f"two columns are called '{twice.iloc[0]}'", where=path, fix="call each otherwise"
        )
    only = names[0] if len(names) == 1 else ""
    other = next((sign for sign in _SIGNS if sign in only), None)
    if other is not None:
        raise CohortError(
            f"its cells are parted by {_SIGNS[other][0]}",
            where=path,
            got=only,
            expected="commas or semicolons in .csv, tabs in .tsv",
            fix=_SIGNS[other][1],
        )
    if names and names[0].startswith("sep="):
        raise CohortError(
            "its first line is for Excel alone",
            where=path,
            got=names[0],
            expected="the names of the columns",
            fix="take that line out",
        )


def _most_rows(path: Path) -> int:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        blocks = iter(partial(file.read, _BLOCK), b"")
        return sum(max(one.count(b"\n"), one.count(b"\r")) for one in blocks) + 1


def _read_parquet(path: Path, _: object) -> pd.DataFrame:
    import pyarrow.parquet as pq

    refuse_large_parquet(path, error=CohortError)
    refuse_many_columns(len(pq.read_schema(path)), path, CohortError)
    frame = pd.read_parquet(path)
    named = [name for name in frame.index.names if name is not None and name not in frame]
    return frame.reset_index(named) if named else frame  # to_parquet keeps ids that are the index


_READERS: dict[str, Callable[[Path, Collection[str] | None], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": partial(_read_text, separator="\t"),
    ".parquet": _read_parquet,
}


def _no_file(path: Path) -> NoTableError:
    return NoTableError(
        f"there is no such file{instead_of(path)}",
        where=path,
        fix="correct the name in cohort.yaml, or say where the data lie: "
        "--set data_root=FOLDER, or the environment variable MEDMCL_DATA",
    )
