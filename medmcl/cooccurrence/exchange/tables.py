"""The parquet tables of saved counts: columns, types and checksums.

The checksum of a manifest over its own content finds accidents and edits by hand. It is no
signature: who wants to deceive computes it anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medmcl.cooccurrence.count.counts import Block, Counts, ordered_cells
from medmcl.cooccurrence.count.drawn import DAYS
from medmcl.cooccurrence.count.people import People
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json, whole_bytes
from medmcl.core.sealed import reading
from medmcl.core.writing import file_error

_WHOLE, _TEXT, _TAG = pa.int64(), pa.string(), pa.uint64()


def _schema(needed: dict[str, pa.DataType], others: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema(
        [pa.field(*one, nullable=False) for one in needed.items()]
        + [pa.field(*one) for one in others.items()]
    )


VOCABULARY_SCHEMA = _schema(
    {"index": _WHOLE, "code": _TEXT, "modality": _TEXT, "tokens": _WHOLE, "pairs": _WHOLE},
    {"patients": _WHOLE, "most": _WHOLE},
)
CELLS_SCHEMA = _schema(
    dict.fromkeys(("i", "j", "pairs"), _WHOLE), dict.fromkeys(("patients", "largest"), _WHOLE)
)
PEOPLE_SCHEMA = _schema(
    {"site": _WHOLE, "tag": _TAG}, {"days": pa.binary(4 * DAYS), "content": _TAG, "record": _TAG}
)
_LATER = ("most", "largest", "days", "content", "record")
"""Columns that are written only where they are known; older folders lack them."""


def vocabulary_table(counts: Counts) -> pa.Table:
    """Tokens of all modalities with their margins."""
    parts = []
    for name, words in counts.vocabularies.items():
        margin, size = counts.margins[name], len(words)
        columns = [
            np.arange(size),
            list(words.tokens),
            [name] * size,
            margin.tokens,
            margin.pairs,
            margin.patients,
            margin.most,
        ]
        parts.append(_filled(columns, size, VOCABULARY_SCHEMA))
    return _known(pa.concat_tables(parts))


def _filled(columns: Sequence[Any], rows: int, schema: pa.Schema) -> pa.Table:
    """A table of columns in the order of its schema; None where nothing is known."""
    arrays = [
        pa.nulls(rows, field.type) if values is None else _array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _known(table: pa.Table) -> pa.Table:
    """The table without those of the later columns of which nothing is known."""
    empty = [name for name in _LATER if name in table.column_names]
    return table.drop_columns([name for name in empty if table[name].null_count == len(table)])


def people_table(people: Sequence[People]) -> pa.Table:
    """Tags of the patients of each site, of their days, contents and records."""
    parts = [PEOPLE_SCHEMA.empty_table()]
    for number, one in enumerate(people):
        if one.tags is not None:
            tags = (np.full(len(one.tags), number), one.tags)
            columns = (*tags, one.days, one.contents, one.records)
            parts.append(_filled(columns, len(one.tags), PEOPLE_SCHEMA))
    return _known(pa.concat_tables(parts))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """A column; of a table each row is the bytes of its numbers."""
    if getattr(values, "ndim", 1) == 1:
        return pa.array(values, kind)
    stored = pa.py_buffer(np.ascontiguousarray(values, dtype="<u4").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(values), [None, stored])


def days_of(table: pa.Table, path: Path) -> np.ndarray | None:
    """The drawn days of patients (`medmcl.cooccurrence.count.drawn`); None if none are known.

    Raises:
        ArtefactError: Some patients have none.
    """
    cells = optional(table, "days", path)
    if cells is None:
        return None
    found = np.frombuffer(b"".join(cells), dtype="<u4").astype(np.uint32)
    return found.reshape(len(table), DAYS)


def cells_table(block: Block) -> pa.Table:
    """Cells that are not 0, in order of i and j.

    Raises:
        ArtefactError: If pairs and patients are not of the same cells.
    """
    pairs = ordered_cells(block.pairs)
    rows = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    columns = [rows, pairs.indices, pairs.data, None, None]
    if block.patients is not None:
        patients = ordered_cells(block.patients)
        same = np.array_equal(patients.indptr, pairs.indptr)
        if not (same and np.array_equal(patients.indices, pairs.indices)):
            raise ArtefactError(
                "pairs and patients were counted in different cells",
                got=f"{pairs.nnz} cells with pairs, {patients.nnz} with patients",
            )
        columns[3] = patients.data
    if block.largest is not None:
        columns[4] = ordered_cells(block.largest).data  # one where there are pairs: the sum of them
    return _known(_filled(columns, pairs.nnz, CELLS_SCHEMA))


def sha256_of(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, sha256: str, schema: pa.Schema) -> pa.Table:
    """A parquet file whose checksum and columns are as expected.

    Raises:
        ArtefactError: If it is missing, altered, or holds other columns or types.
    """
    if not path.is_file():
        raise ArtefactError("the manifest names a file that is not there", where=path)
    found = sha256_of(path)
    if found != sha256:
        raise ArtefactError(
            "is not the file that the manifest was written for",
            where=path,
            got=f"sha256 {found[:16]}…",
            expected=f"{sha256[:16]}…",
            fix="the file was altered or cut short on its way: have it sent again",
        )
    with reading(path, "is no parquet file"):
        table = pq.read_table(path)
    if schema is PEOPLE_SCHEMA and "event" in table.column_names:
        raise ArtefactError(
            "was written by an earlier medmcl, which drew one event of each patient: by one, "
            "patients are not surely known again",
            where=path,
            expected="some days of each patient",
            fix="count again; an entry of a register (releases/, released/) is made again by "
            "counting and releasing again what was released then, under a new register "
            "(MEDMCL_REGISTER=FOLDER)",
        )
    for field in schema:
        if field.name in _LATER and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    got = {field.name: str(field.type) for field in table.schema}
    expected = {field.name: str(field.type) for field in schema}
    if got != expected:
        raise ArtefactError(
            "holds other columns, or columns that are no whole numbers",
            where=path,
            got=", ".join(f"{name} {kind}" for name, kind in got.items()),
            expected=", ".join(f"{name} {kind}" for name, kind in expected.items()),
        )
    for field in schema:
        if not field.nullable and table[field.name].null_count:
            raise ArtefactError(f"'{field.name}' has empty cells", where=path)
    return table


def optional(table: pa.Table, name: str, path: Path) -> np.ndarray | None:
    """A column that is there for all rows or for none."""
    missing = table[name].null_count
    if missing == len(table) and len(table):
        return None
    if missing:
        raise ArtefactError(f"'{name}' is empty in {missing} of {len(table)} rows", where=path)
    return np.asarray(table[name].to_numpy())


log = logging.getLogger(__name__)
KEY = "checksum"


def checksum_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of all values but the checksum, as JSON with sorted keys and no blanks."""
    rest = {key: value for key, value in values.items() if key != KEY}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, their checksum last."""
    rest = {key: value for key, value in values.items() if key != KEY}
    return {**rest, KEY: checksum_of(rest)}


def check_checksum(path: Path) -> None:
    """Refuse a JSON file that is not as it was written; warn of one that carries no checksum.

    Raises:
        ArtefactError: If a value was changed, added or taken out.
    """
    values = read_json(path)
    said = values.get(KEY)
    if said is None:
        log.warning(
            "%s has no checksum: whether it was edited by hand cannot be told (made before there "
            "were any, or it was taken out)",
            path,
        )
        return
    found = checksum_of(values)
    if found != said:
        raise ArtefactError(
            "was changed after it was written: its checksum is another",
            where=path,
            got=f"checksum {found[:16]}… of what stands there",
            expected=f"{str(said)[:16]}…",
            fix="have the folder sent again, or make it anew; nothing in it is edited by hand",
        )


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; `ArtefactError` if it is none."""
    try:
        values = parse_json(whole_bytes(path, "table", ArtefactError))
    except (OSError, ValueError) as error:
        what = "is no JSON" if isinstance(error, ValueError) else "cannot be read"
        raise file_error(error) or ArtefactError(f"{what}: {error}", where=path) from None
    if not isinstance(values, dict):
        raise ArtefactError("holds no keys", where=path, got=type(values).__name__)
    return values
