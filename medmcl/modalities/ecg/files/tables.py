"""ECGs in tables: a column a lead with a row a sample, or in parquet a row a record with lists."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.files.readers import MAX_VALUES
from medmcl.modalities.ecg.leads import is_known

_RECORD_COLUMNS = (
    *("record", "record_id", "recording", "ecg_id", "study_id", "file", "filename"),
    *("id", "eid", "subject", "subject_id", "patient", "patient_id", "participant_id"),
)
_TIME_COLUMNS = ("time", "time_s", "time_ms", "t", "timestamp", "seconds", "ms", "sample")
LAYOUT = (
    "name the columns after leads, with a row a sample in a file a record; or in parquet a row a "
    "record with a list a lead, and row: COLUMN of your table with the row's number"
)


def read_leads(path: Path, row: int | None) -> tuple[tuple[str, ...], np.ndarray]:
    """Give the columns that are leads, by their names in the file, and the signal (L, S).

    Args:
        path: A parquet, csv or tsv file; columns of other names are ignored.
        row: Row of a parquet file with a list a lead; None if it has one row, or a row a sample.

    Raises:
        RecordError: No column is a lead, there are several records, or rows are not in order.
    """
    import pandas as pd

    if path.name.lower().endswith((".parquet", ".pq")):
        lists = _list_columns(path)
        if lists:
            return tuple(lists), _read_lists(path, lists, row)
        frame = pd.read_parquet(path)
    else:
        separator = "\t" if ".tsv" in path.name.lower() else ","
        frame = pd.read_csv(path, sep=separator, low_memory=False)
    if row is not None:
        raise RecordError("row: has no meaning for a row a sample", where=path, fix=LAYOUT)
    columns = [column for column in map(str, frame.columns) if is_known(column)]
    if not columns:
        got = ", ".join(map(str, frame.columns[:12]))
        raise RecordError(
            "no column is named after a lead",
            where=path,
            got=got,
            expected="I, II, ..., V6",
            fix=LAYOUT,
        )
    _require_one_record(frame, path)
    frame = frame[columns]
    wrong = [name for name in columns if frame[name].dtype.kind not in "fiu"]
    if wrong:
        raise RecordError(f"column '{wrong[0]}' does not hold numbers", where=path, fix=LAYOUT)
    return tuple(columns), frame.to_numpy(dtype=np.float64).T


def _require_one_record(frame: Any, path: Path) -> None:
    """Refuse several records one below another, and samples that are not in order."""
    for column in map(str, frame.columns):
        name = column.strip().lower()
        if name in _RECORD_COLUMNS and frame[column].nunique(dropna=False) > 1:
            raise RecordError(
                f"column '{column}' says that there are several records one below another",
                where=path,
                got=f"{frame[column].nunique(dropna=False)} records",
                expected="one record a file",
                fix="write a file a record: for name, part in "
                f"frame.groupby('{column}'): part.to_parquet(f'ecg/{{name}}.parquet')",
            )
        if name in _TIME_COLUMNS and frame[column].dtype.kind in "fiu":
            back = np.flatnonzero(np.diff(frame[column].to_numpy(dtype=np.float64)) < 0)
            if len(back):
                raise RecordError(
                    f"column '{column}' runs backwards",
                    where=path,
                    got=f"at row {back[0] + 1}",
                    fix="sort the rows by time; of several records write a file each",
                )


def _list_columns(path: Path) -> list[str]:
    """Leads that a parquet file holds as lists."""
    import pyarrow.parquet as pq
    from pyarrow import types

    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    fields = pq.read_schema(path)
    return [f.name for f in fields if is_known(f.name) and any(test(f.type) for test in is_list)]


def _read_lists(path: Path, leads: list[str], row: int | None) -> np.ndarray:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    total = sum(groups)
    if row is None and total != 1:
        raise RecordError(
            "holds several records, a row each, and nobody says which",
            where=path,
            got=f"{total} rows",
            fix="say it in cohort.yaml: row: COLUMN of your table with the row's number, from 0",
        )
    row = row or 0
    if not 0 <= row < total:
        raise RecordError("there is no such row", where=path, got=row, expected=f"0 to {total - 1}")
    ends = np.cumsum(groups)
    group = int(np.searchsorted(ends, row, side="right"))
    stamp = path.stat()
    table = _row_group(path, group, tuple(leads), stamp.st_size, stamp.st_mtime_ns)
    place = row - int(ends[group]) + groups[group]
    cells = [table.column(lead)[place] for lead in leads]
    lengths = {lead: len(cell.values or ()) for lead, cell in zip(leads, cells, strict=True)}
    if len(set(lengths.values())) > 1:
        raise RecordError("leads have different lengths", where=path, got=lengths)
    return np.stack([np.asarray(cell.as_py() or [], dtype=np.float64) for cell in cells])


@lru_cache(maxsize=1)
def _row_group(path: Path, group: int, leads: tuple[str, ...], *_stamp: int) -> Any:
    """Read a row group once for its rows that are asked for one after another."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata.row_group(group)
        values = sum(about.column(number).num_values for number in range(about.num_columns))
        if values > MAX_VALUES:
            raise RecordError(
                "a row group is too large to be read for one record",
                where=path,
                got=f"{values} values",
                expected=f"at most {MAX_VALUES}",
                fix="write it with to_parquet(..., row_group_size=100)",
            )
        return file.read_row_group(group, columns=list(leads))
