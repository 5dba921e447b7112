"""Arrays and tables of graph files, whatever their format; nothing is known of regions here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.core.limits import refuse_large_arrays, refuse_large_parquet
from medmcl.core.plain_text import refuse_unsound_text, text_lines
from medmcl.modalities.opening import as_text, kept, require_row

TABLES = (".csv", ".tsv", ".txt", ".1d", ".parquet", ".pq")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Block:
    """What one file holds.

    Attributes:
        values: Numbers; NaN where a cell is empty.
        names: Names of the last axis, where the file gives any.
        ids: Whose each row of the first axis is, where the file says so.
    """

    values: np.ndarray
    names: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None


@kept(4)
def read_block(path: Path, array: str | None, ids: str | None) -> Block:
    """Read a file of numbers: npy, npz, csv, tsv, txt, 1D (text may be .gz) or parquet.

    Files are kept open, or in memory, for the records that follow.

    Args:
        path: The file.
        array: npz: name of the array; not needed if there is one besides that of the ids.
        ids: npz: name of the array that says whose a row is; tables: the column.

    Raises:
        RecordError: It cannot be read, or does not hold what was asked for.
    """
    ending = ending_of(path)
    if ending == ".npy":
        return Block(_numbers(np.load(path, mmap_mode="r", allow_pickle=False), path))
    if ending == ".npz":
        return _from_npz(path, array, ids)
    if ending in TABLES:
        return _from_frame(read_frame(path, ids), ids, path)
    raise RecordError(
        "is of no format that graphs are read from",
        where=path,
        got=ending or "no ending",
        expected=f".npy, .npz, {', '.join(TABLES)}",
    )


def ending_of(path: Path) -> str:
    """The ending of a file in lower case, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _numbers(values: np.ndarray, where: object) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise RecordError("does not hold numbers", where=where, got=f"dtype {values.dtype}")
    return values


def _from_npz(path: Path, array: str | None, ids: str | None) -> Block:
    refuse_large_arrays(path)
    with np.load(path, allow_pickle=False) as file:
        known = file.files
        for name in (array, ids):
            if name is not None and name not in known:
                raise RecordError(f"has no array '{name}'", where=path, got=", ".join(known))
        choice = [name for name in known if name != ids] if array is None else [array]
        if len(choice) != 1:
            raise RecordError(
                "holds several arrays, and nobody says which",
                where=path,
                got=", ".join(choice),
                fix="say it in cohort.yaml: modalities.NAME.array: ITS NAME",
            )
        values = _numbers(file[choice[0]], f"{path}, array {choice[0]}")
        owners = None if ids is None else tuple(map(as_text, file[ids].ravel().tolist()))
    return Block(values, ids=owners)


def read_frame(path: Path, ids: str | None = None) -> Any:
    """Read a table as it stands: columns with their names, or numbered where it has no heading.

    The column ``ids`` of a text file stays text: 007 is not 7.

    A heading is a first line with a cell that is no number, or, in txt and 1D, a comment (#) with
    as many words as there are columns.
    """
    import pandas as pd

    ending = ending_of(path)
    if ending in (".parquet", ".pq"):
        refuse_large_parquet(path)
        return pd.read_parquet(path)
    refuse_unsound_text(path)
    separator = _SEPARATORS.get(ending, r"\s+")
    comments, first = _head(path)
    words = first.split("\t" if separator == "\t" else "," if separator == "," else None)
    has_heading = not all(_is_number(word) for word in words)
    frame = pd.read_csv(
        path,
        sep=separator,
        header=0 if has_heading else None,
        comment="#",
        skipinitialspace=True,
        dtype=None if ids is None else {ids: str},
    )
    if not has_heading and comments and len(comments[-1].split()) == frame.shape[1]:
        frame.columns = comments[-1].replace(",", " ").split()
    return frame


def _head(path: Path) -> tuple[list[str], str]:
    """Comments before the first line, without their sign, and that line."""
    import gzip

    opened = gzip.open if path.name.lower().endswith(".gz") else open
    comments: list[str] = []
    with opened(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.lstrip().startswith("#"):
                comments.append(line.strip().lstrip("#"))
            elif line.strip():
                return comments, line.rstrip("\r\n")
    raise RecordError("is empty", where=path)


def _is_number(word: str) -> bool:
    word = word.strip().strip('"')
    try:
        float(word)
    except ValueError:
        return word.lower() in ("", "na", "n/a")
    return True


def _from_frame(frame: Any, ids: str | None, path: Path) -> Block:
    owners = None
    if ids is not None:
        if ids not in frame.columns:
            got = ", ".join(map(str, frame.columns[:12]))
            raise RecordError(f"has no column '{ids}'", where=path, got=got)
        owners = tuple(map(as_text, frame.pop(ids).tolist()))
    named = frame.columns.dtype.kind not in "iu"
    first = frame.columns[0]
    if named and (frame[first].dtype.kind not in "fiub" or str(first).startswith("Unnamed: 0")):
        frame = _without_index(frame, path)
    wrong = [str(name) for name in frame.columns if frame[name].dtype.kind not in "fiub"]
    if wrong:
        raise RecordError(f"column '{wrong[0]}' does not hold numbers", where=path)
    names = tuple(map(str, frame.columns)) if named else None
    return Block(frame.to_numpy(dtype=np.float64), names, owners)


def _without_index(frame: Any, path: Path) -> Any:
    """Take off a first column that names the rows; of a square table it must name the columns."""
    rows, rest = frame[frame.columns[0]], frame[frame.columns[1:]]
    square = len(rest) == rest.shape[1] and rows.dtype.kind not in "fiub"
    if square and list(map(str, rows)) != list(map(str, rest.columns)):
        raise RecordError(
            "rows and columns name the regions in different orders",
            where=path,
            got=f"rows {', '.join(map(str, rows[:3]))}, ...",
            expected=f"as the columns: {', '.join(map(str, rest.columns[:3]))}, ...",
        )
    return rest


def row_of(block: Block, record: str, row: int | None, listed: Path | None, where: Path) -> int:
    """Number of the row of a record in a block of everybody.

    Args:
        block: What the file holds.
        record: The record's id.
        row: The number, if the cohort's table says it.
        listed: A file of ids, one a line, in the order of the rows.
        where: The file, for messages.

    Raises:
        RecordError: There is none, there are several, or nobody says which.
    """
    count = len(block.values)
    if row is not None:
        require_row(row, count, where)
        return row
    owners = block.ids if listed is None else read_lines(listed)
    if owners is None:
        raise RecordError(
            "holds several records, and nobody says which",
            where=where,
            got=f"shape {block.values.shape}",
            fix="say whose a row is in cohort.yaml: ids: NAME of an array or column, a file of "
            "ids (path: {path: ..., ids: ...}), or row: COLUMN of your table",
        )
    if len(owners) != count:
        raise RecordError(
            "has another number of ids than rows", where=listed or where,
            got=f"{len(owners)} ids", expected=f"{count}",
        )  # fmt: skip
    found = _places(owners).get(record, ())
    if len(found) != 1:
        raise RecordError(
            "has no row of this record" if not found else "has several rows of this record",
            where=listed or where,
            got=f"{len(found)} rows with the id {record}",
            fix="say with `present` who has it" if not found else "give each record one row",
        )
    return found[0]


@lru_cache(maxsize=4)
def _places(owners: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    places: dict[str, tuple[int, ...]] = {}
    for place, owner in enumerate(owners):
        places[owner] = (*places.get(owner, ()), place)
    return places


@kept(8)
def read_lines(path: Path) -> tuple[str, ...]:
    """Read a text file of names, one a line; empty lines do not count."""
    return tuple(line.strip() for line in text_lines(path) if line.strip())
