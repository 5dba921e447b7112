"""How much memory a record or a table may claim: what claims more is refused before it is read.

So is what is no file: a device may give bytes without end, a pipe lets its reader wait for ever.

Compressed files, headers and nested texts can claim a million times the bytes that they have on
disk. What a file claims is compared with bounds, one for a record and one for a table of
everybody, which a person may raise where such files are sound (docs/data_formats.md).
"""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from collections.abc import Iterable
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
_COLUMNS = ("MEDMCL_TABLE_COLUMNS", 10_000)
"""Environment variable and default of the columns that a table of a cohort may have: of short texts
or days it is checked in some 15 seconds."""
_INFLATES = ("MEDMCL_TABLE_INFLATES", 150)
"""Environment variable and default of how often the text of a table may be the file that it is
packed in, beyond `FEW_INFLATED`: tables of people are some five to thirty times."""
FEW_INFLATED = 2**28
_MB = 2**20
MAX_HEADER_BYTES = 1_000_000
"""Of a WFDB header."""
_PER_JSON_BYTE = 30
_LOOKED_AT = 2**30
"""Bytes beyond which a claim is compared with what is free: asking takes 0.3 ms."""
_BLOCK = 2**20


CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_ODD = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def odd_kind(path: str | os.PathLike[str]) -> str:
    """What stands at a path that is neither file nor folder; empty if nothing does."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # of 100,000 files: five times faster
    except (OSError, ValueError):
        return ""
    return next((name for is_one, name in _ODD if is_one(mode)), "")


def refuse_odd_file(path: os.PathLike[str], error: type[MedmclError]) -> None:
    """Refuse what is neither file nor folder, before it is opened.

    Raises:
        MedmclError: Of the kind asked for.
    """
    if kind := odd_kind(path):
        raise error(f"is {kind}, not a file", where=path, expected="a file")


def below(folders: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """What the names of all files below some folders begin with."""
    return tuple(f"{os.fspath(one).rstrip(os.sep)}{os.sep}" for one in folders)


def is_below(path: str, begins: tuple[str, ...]) -> bool:
    """Whether a path begins so, or is one of the folders itself."""
    return f"{path}{os.sep}".startswith(begins)


def refuse_odd(files: Iterable[os.PathLike[str]], roots: tuple[str, ...]) -> None:
    """Refuse files of a record that would hang a reader, or lie where nobody allowed.

    Args:
        files: Files that are about to be read; those that are missing are passed over.
        roots: What names of files that may be read really begin with, as `below` gives it; empty:
            anything.

    Raises:
        RecordError: Names the file.
    """
    for file in files:
        refuse_odd_file(file, RecordError)
        real = os.path.realpath(file)
        if roots and not is_below(real, roots):
            raise RecordError(
                "leads out of the folders of the cohort",
                where=file,
                got=f"a link to {real}" if os.path.lexists(file) else real,
                expected=f"files below {', '.join(one.rstrip(os.sep) for one in roots)}",
                fix="put the file there; if it belongs to the cohort, its cohort.yaml says so: "
                f"roots: [{Path(real).parent}]",
            )


def whole_bytes(path: Path, kind: Kind = "record", error: type[MedmclError] = RecordError) -> bytes:
    """Read a file that might be anybody's; one with holes may be larger than any disk.

    Raises:
        MedmclError: Of the kind asked for: it is no file, or larger than it may be.
        OSError: It cannot be read.
    """
    refuse_odd_file(path, error)
    refuse_large(path.stat().st_size, path, "the file", kind, error)
    return path.read_bytes()


def most_bytes(kind: Kind = "record") -> int:
    """Memory that a record, or a table, may claim.

    Raises:
        ConfigError: The environment variable that sets it holds no number above 0.
    """
    return _bound(*VARIABLES[kind], "memory", "MB", _MB)


def _bound(variable: str, default: int, on: str, unit: str, scale: int = 1) -> int:
    given = os.environ.get(variable) or str(default)
    most = 0
    with suppress(ValueError, OverflowError):
        most = math.floor(float(given) * scale)
    if most <= 0:
        raise ConfigError(
            f"is no bound on {on}",
            where=variable,
            got=given,
            expected=f"a number of {unit} above 0",
        )
    return most


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the machine does not say.

    Of the machine, and of the groups that Slurm or a container puts it into.
    """
    free: list[int] = []
    with suppress(OSError, StopIteration, ValueError):  # of Linux
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        said = next(line.split() for line in lines if line.startswith("MemAvailable:"))
        free.append(1024 * int(said[1]))
    with suppress(OSError, StopIteration):
        lines = OWN_CGROUP.read_text(encoding="utf-8").splitlines()
        own = CGROUPS / next(line[4:] for line in lines if line.startswith("0::/"))
        for group in (own, *(one for one in own.parents if one.is_relative_to(CGROUPS))):
            with suppress(OSError, ValueError):  # "max" is no number: no bound
                most, taken = (int((group / f"memory.{x}").read_text()) for x in ("max", "current"))
                stat = (line.split() for line in (group / "memory.stat").read_text().splitlines())
                idle = next((int(x) for name, x in stat if name == "inactive_file"), 0)
                free.append(max(0, most - taken + idle))
    return min(free, default=None)


def refuse_large(
    claimed: float,
    where: object,
    what: str = "it",
    kind: Kind = "record",
    error: type[MedmclError] = RecordError,
    *,
    so_far: bool = False,
) -> None:
    """Refuse what would take more memory than it may, or, unless a bound is set, than is free.

    Args:
        claimed: Bytes of memory that a file claims, about.
        where: The file.
        what: What claims them, as a subject: ``its header``.
        kind: Whether it is a record, or a table of everybody.
        error: What is raised.
        so_far: Whether only so much was counted, and there is more.
    """
    most = most_bytes(kind)
    if claimed > _LOOKED_AT and VARIABLES[kind][0] not in os.environ:
        most = min(most, free_memory() or most)
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


def most_inflated(packed: int) -> int:
    """Bytes of text that a packed file of a table may hold.

    Raises:
        ConfigError: The environment variable that sets it holds no number above 0.
    """
    return max(FEW_INFLATED, packed * _bound(*_INFLATES, "packed tables", "times"))


def refuse_inflated(count: int, packed: int, where: object, error: type[MedmclError]) -> None:
    """Refuse a packed table of more text than people have: it would take minutes to read.

    Args:
        count: Bytes of text that were unpacked so far.
        packed: Bytes of the file.
        where: The file.
        error: What is raised.
    """
    if count <= most_inflated(packed):
        return
    raise error(
        "holds more text than a packed table of people does",
        where=where,
        got=f"{size(packed)} that become more than {size(count)}",
        expected=f"at most {most_inflated(packed) // max(1, packed):,} times",
        fix=f"copy it again from its source; if it is sound, unpack it, or allow it: "
        f"{_INFLATES[0]}=1100 in the environment",
    )


def refuse_many_columns(count: int, where: object, error: type[MedmclError]) -> None:
    """Refuse a table of more columns than it may have: each takes time and memory, used or not.

    Raises:
        MedmclError: Of the kind asked for.
    """
    if count > (most := _bound(*_COLUMNS, "columns", "columns")):
        raise error(
            "has more columns than a table may have",
            where=where,
            got=f"{count:,} columns",
            expected=f"at most {most:,}",
            fix="write a table of the columns that are used; genotypes are read from PLINK and "
            f"dosage files (docs/data_formats.md); or allow it: {_COLUMNS[0]}={count} in the "
            "environment",
        )


def refuse_large_parquet(
    path: Path, kind: Kind = "table", error: type[MedmclError] = RecordError
) -> None:
    """Refuse a parquet file whose columns would take too much memory, as its footer says.

    A text is kept once, however many rows have it: where that might matter, the lengths of what all
    rows have are added up, without writing them out.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        about = file.metadata
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        sizes = [one.total_byte_size for one in groups]
        claimed = max(8 * about.num_rows * about.num_columns, sum(sizes))
        texts = doubtful_texts(file, kind)
    claimed = max(claimed, 8 * sum(values_of_groups(path)))
    refuse_large(claimed, path, "its columns", kind, error)
    if texts:
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for number in range(len(groups)):
                claimed += sum(map(_text_bytes, file.read_row_group(number, columns=texts).columns))
                refuse_large(claimed, path, "its text", kind, error)


def doubtful_texts(file: Any, kind: Kind = "table") -> list[str]:
    """Columns of an open parquet file to be read as dictionaries, for `written_out`.

    Those of texts, where they might take more memory than they may; otherwise none.
    """
    about = file.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    if sum(one.num_rows * one.total_byte_size for one in groups) <= most_bytes(kind):
        return []
    return [one.path for one in file.schema if one.physical_type == "BYTE_ARRAY"]


def written_out(batch: Any, path: Path, error: type[MedmclError] = RecordError) -> Any:
    """Give a batch of rows with a text of its own in each; refuse what would fill the memory."""
    import pyarrow as pa

    refuse_large(sum(map(_text_bytes, batch.columns)), path, "its text", "table", error)
    columns = [
        one.dictionary_decode() if isinstance(one, pa.DictionaryArray) else one
        for one in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _text_bytes(column: Any) -> int:
    """Bytes that a column of texts takes once each row has its own, (N,), lists of them or not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for part in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
        while isinstance(part, (pa.ListArray, pa.LargeListArray, pa.StructArray)):
            part = part.flatten()
            part = part[0] if isinstance(part, list) else part
        if isinstance(part, pa.DictionaryArray):
            lengths = pc.take(pc.binary_length(part.dictionary), part.indices.drop_null())
        elif pa.types.is_string(part.type) or pa.types.is_binary(part.type):
            lengths = pc.binary_length(part)
        else:
            continue
        total += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
    return total


_LONG_FOOTER = 2**18
"""Of a longer one, which has thousands of columns, rows and columns are told by pyarrow."""


def values_of_groups(path: Path) -> list[int]:
    """Values of each row group of a parquet file, those in lists counted; none of a long footer.

    Read here, as pyarrow ends the process where the footer of a column is damaged.

    Raises:
        ValueError: The file has no such footer.
    """
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        if length > _LONG_FOOTER:
            return []
        file.seek(-8 - length, os.SEEK_END)
        footer = file.read(length)
    try:
        groups = _struct(footer, 0)[0].get(4, [])
        return [sum(one[3][5] for one in group[1]) for group in groups]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the footer is damaged: {error}") from None


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Read a struct of Thrift's compact protocol: number of a field to its value.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    found: dict[int, Any] = {}
    number = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            number += step
        else:
            number, at = _whole(data, at)
        if kind in (1, 2):  # a truth value is its own kind
            found[number] = kind == 1
        else:
            found[number], at = _value(data, at, kind)
    return found, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2, 3):
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _whole(data, at)
    if kind == 7:
        return None, at + 8
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind in (9, 10):
        count, kind = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        values = []
        for _ in range(count):
            value, at = _value(data, at, kind)
            values.append(value)
        return values, at
    if kind == 12:
        return _struct(data, at)
    raise TypeError(f"a field of kind {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _whole(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


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
        json.JSONDecodeError: It is no JSON, or so large or so deeply nested that it is none for us;
            or a text in it holds half a surrogate pair, which no file takes.
    """
    if len(text) * _PER_JSON_BYTE > most_bytes("table"):
        what = f"{size(len(text))} of JSON claim more memory than a table may take"
        raise json.JSONDecodeError(f"{what} ({VARIABLES['table'][0]})", "", 0)
    surrogates = text.count(b"\\ud") if isinstance(text, bytes) else text.count("\\ud")
    surrogates += text.count(b"\\uD") if isinstance(text, bytes) else text.count("\\uD")
    try:
        found = json.loads(text)
        if surrogates:  # or whole pairs
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply for a file of data", "", 0) from None
    except UnicodeEncodeError:
        raise json.JSONDecodeError("holds half a surrogate pair, no letter", "", 0) from None
    return found
