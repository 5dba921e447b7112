"""How much memory a record or a table may claim: what claims more is refused before it is read.

Compressed files, headers and nested texts can claim a million times the bytes that they have on
disk. What a file claims is compared with two bounds, one for a record and one for a table of
everybody, which a person may raise where such files are sound (docs/data_formats.md).
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal

from medmcl.core.errors import ConfigError, MedmclError, RecordError
from medmcl.core.writing import size

Kind = Literal["record", "table"]
VARIABLES: dict[Kind, tuple[str, int]] = {
    "record": ("MEDMCL_RECORD_MB", 4_096),
    "table": ("MEDMCL_TABLE_MB", 16_384),
}
"""Environment variable and default of each bound, in MB of memory."""
_MB = 2**20
_PER_BYTE = 4
"""Bytes of memory that a byte of a table of text takes, about."""
_PER_JSON_BYTE = 30
_MOST_INFLATED = 1_040
"""No deflate stream expands further than 1032 times."""
_BLOCK = 2**20
_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open,
}  # fmt: skip


def most_bytes(kind: Kind = "record") -> int:
    """Memory that a record, or a table, may claim.

    Raises:
        ConfigError: The environment variable that sets it holds no number above 0.
    """
    variable, default = VARIABLES[kind]
    given = os.environ.get(variable) or str(default)
    most = 0
    with suppress(ValueError, OverflowError):
        most = math.floor(float(given) * _MB)
    if most <= 0:
        raise ConfigError(
            "is no bound on memory", where=variable, got=given, expected="a number of MB above 0"
        )
    return most


def refuse_large(
    claimed: float,
    where: object,
    what: str = "it",
    kind: Kind = "record",
    error: type[MedmclError] = RecordError,
    *,
    so_far: bool = False,
) -> None:
    """Refuse what would take more memory than it may.

    Args:
        claimed: Bytes of memory that a file claims, about.
        where: The file.
        what: What claims them, as a subject: ``its header``.
        kind: Whether it is a record, or a table of everybody.
        error: What is raised.
        so_far: Whether only so much was counted, and there is more.
    """
    most = most_bytes(kind)
    if claimed <= most:
        return
    needed = 4 * most if so_far else claimed
    raise error(
        f"{what} claims more memory than a {kind} may take",
        where=where,
        got=f"more than {size(claimed)}" if so_far else size(claimed),
        expected=f"at most {size(most)}",
        fix=f"copy it again from its source; if it is sound and this machine has the memory, allow "
        f"it: {VARIABLES[kind][0]}={needed // _MB + 1:.0f} in the environment",
    )


def refuse_large_text(
    path: Path, kind: Kind = "table", error: type[MedmclError] = RecordError
) -> None:
    """Refuse a text of cells, perhaps compressed, that would take too much memory.

    What is compressed is read through once, not held, where it might.
    """
    most = most_bytes(kind)
    opener = _OPENERS.get(path.suffix.lower())
    count: float = path.stat().st_size
    so_far = False
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            count = sum(info.file_size for info in archive.infolist())
    elif opener is not None and (
        count * _MOST_INFLATED * _PER_BYTE > most or opener is not gzip.open
    ):
        with opener(path) as file:
            count = 0
            while count * _PER_BYTE <= most and (part := len(file.read(_BLOCK))):
                count += part
            so_far = bool(file.read(1))
    refuse_large(count * _PER_BYTE, path, "its text", kind, error, so_far=so_far)


def refuse_large_parquet(
    path: Path, kind: Kind = "table", error: type[MedmclError] = RecordError
) -> None:
    """Refuse a parquet file whose columns would take too much memory, as its footer says."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        groups = (about.row_group(number) for number in range(about.num_row_groups))
        columns = (group.column(n) for group in groups for n in range(group.num_columns))
        claimed = sum(max(8 * one.num_values, one.total_uncompressed_size) for one in columns)
    refuse_large(claimed, path, "its columns", kind, error)


def refuse_large_arrays(
    path: Path, kind: Kind = "record", error: type[MedmclError] = RecordError
) -> None:
    """Refuse an .npz archive whose arrays would take too much memory, or claim what is not there.

    Raises:
        ValueError: A member is no array, or its header says more than it holds.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        refuse_large(sum(one.file_size for one in members), path, "what it holds", kind, error)
        for one in members:
            with archive.open(one) as file:
                claimed = claimed_by_header(file)
            if claimed > one.file_size:
                raise ValueError(f"{one.filename}: the header says {claimed:,} bytes of values, "
                                 f"the array has {one.file_size:,}")  # fmt: skip


def claimed_by_header(file: IO[bytes]) -> int:
    """Bytes of values that the header of an .npy file claims.

    Raises:
        ValueError: There is no such header.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return math.prod(shape) * dtype.itemsize


def parse_json(text: str | bytes) -> Any:
    """Read JSON from a file that might be anybody's.

    Raises:
        json.JSONDecodeError: It is no JSON, or so large or so deeply nested that it is none for us.
    """
    if len(text) * _PER_JSON_BYTE > most_bytes("table"):
        what = f"{size(len(text))} of JSON claim more memory than a table may take"
        raise json.JSONDecodeError(f"{what} ({VARIABLES['table'][0]})", "", 0)
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply for a file of data", "", 0) from None
