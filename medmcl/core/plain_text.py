"""Text tables before they are read: large, damaged, cut; of another encoding or separator."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import lzma
import re
import zipfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from medmcl.core.errors import MedmclError, RecordError
from medmcl.core.limits import (
    FEW_INFLATED,
    Kind,
    most_bytes,
    most_inflated,
    refuse_inflated,
    refuse_large,
    whole_bytes,
)
from medmcl.core.writing import size

_LOOKED_AT = 2**26
"""Bytes of a file, at most, whose encoding is looked at."""
_TEXTS = (".csv", ".tsv", ".txt")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
"""What stands between columns where no comma does, and how a message names it."""
_PER_BYTE = 4
"""Bytes of memory that a byte of a table of text takes, about."""
_MOST_INFLATED = 1_040
"""No deflate stream expands further than 1032 times."""
_BLOCK = 2**20
_ROW_LOOKED_AT = 2**16
"""Bytes of a last row, at most, whose cells are counted."""
_NO_TEXT = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x1f\x8b", b"PK\3\4")
"""How files begin that are called a table and are none, of which whoever reads them says what."""
_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open,
}  # fmt: skip


def refuse_unsound_text(
    path: Path, kind: Kind = "table", error: type[MedmclError] = RecordError
) -> None:
    """Refuse a text of cells, perhaps compressed, that is too large, damaged or cut.

    What is compressed is read through once, not held, where it might be much; what is not, for
    zeros, which a disk leaves that lost what was written, and no text has.

    Raises:
        MedmclError: Of the kind asked for.
    """
    suffix, most = path.suffix.lower(), most_bytes(kind)
    opener = _OPENERS.get(suffix)
    first = b"" if suffix == ".zip" else heading(path, error)
    count: float = path.stat().st_size
    so_far = False
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            count = sum(info.file_size for info in archive.infolist())
    elif opener is not None and (
        count * _MOST_INFLATED > min(most / _PER_BYTE, FEW_INFLATED) or opener is not gzip.open
    ):
        packed = path.stat()
        enough = min(most // _PER_BYTE, most_inflated(packed.st_size))
        count, so_far = _unpacked(path, packed.st_size, packed.st_mtime_ns, enough)
        refuse_inflated(count, packed.st_size, path, error)
    refuse_large(count * _PER_BYTE, path, "its text", kind, error, so_far=so_far)
    if opener is None and suffix != ".zip":
        _refuse_damaged(path, first, error)


@lru_cache(maxsize=1)
def _unpacked(path: Path, packed: int, changed: int, enough: int) -> tuple[int, bool]:
    """Count bytes of text until they are more than ``enough``; whether there are more yet.

    ``packed`` and ``changed`` tell one content of the file from another.
    """
    del packed, changed
    count = 0
    with _OPENERS[path.suffix.lower()](path) as file:
        while count <= enough and (part := len(file.read(_BLOCK))):
            count += part
        return count, bool(file.read(1))


def _refuse_damaged(path: Path, first: bytes, error: type[MedmclError]) -> None:
    """Refuse zeros, and a last row that has fewer cells than the first and no end of line."""
    with path.open("rb") as file:
        if file.read(4).startswith(_NO_TEXT):
            return
        at, end = file.seek(0), b""
        while block := file.read(_BLOCK):
            if b"\0" in block:
                where = at + block.index(b"\0")
                raise error("holds zero bytes: it is no text, or damaged", where=path,
                            got=f"the first at byte {where:,}",
                            fix="copy it again from its source")  # fmt: skip
            at += len(block)
            end = (end + block)[-_ROW_LOOKED_AT:]
    *before, last = re.split(rb"[\r\n]", end)
    if not before or not last.strip() or last.count(b'"') % 2:  # a cell of several lines
        return
    cells, whole = max((_cells(first, one), _cells(last, one)) for one in (",", ";", "\t"))[::-1]
    if cells < whole:
        raise error("ends within a row: it is not whole", where=path,
                    got=f"its last row has {cells:,} of {whole:,} cells, and no end of line",
                    fix="copy it again from its source; if nothing is missing, put an end of line "
                    "after its last row")  # fmt: skip


def _cells(line: bytes, separator: str) -> int:
    text = line.decode("utf-8-sig", "replace")
    try:
        return len(next(csv.reader([text], delimiter=separator), []))
    except csv.Error:  # of a name without end
        return text.count(separator) + 1


_LONGEST_LINE = 2**26
"""Bytes of a line that is read whole: a header of a million columns, or a record of JSON."""


def heading(path: Path, error: type[MedmclError] = RecordError) -> bytes:
    """Read the first line that is not empty of a text, perhaps compressed; see `bounded_line`."""
    opener = _OPENERS.get(path.suffix.lower())
    with path.open("rb") if opener is None else opener(path) as file:
        while (line := bounded_line(file, path, error)) and not line.strip():
            pass
        return line.lstrip(b"\r\n").partition(b"\r")[0]  # lines of old systems end with that


def bounded_line(file: IO[bytes], where: object, error: type[MedmclError] = RecordError) -> bytes:
    """Read a line of a file that might be anybody's; nothing at its end."""
    line = file.readline(_LONGEST_LINE + 1)
    if len(line) > _LONGEST_LINE:
        raise error(
            "has a line that is no header and no record",
            where=where,
            got=f"more than {size(_LONGEST_LINE)} without an end of line",
            fix="copy it again from its source",
        )
    return line


def text_lines(
    path: Path, kind: Kind = "record", error: type[MedmclError] = RecordError, **more: Any
) -> list[str]:
    """Read the lines of a text in UTF-8 that might be anybody's, with or without a mark before it.

    Raises:
        MedmclError: Of the kind asked for; ``more``: what else it says (``expected``).
    """
    try:
        return whole_bytes(path, kind, error).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as raised:
        fix = encoding_fix(path) or "save it as UTF-8"
        raise error(f"cannot be read: {raised}", where=path, **{"fix": fix, **more}) from None


def encoding_fix(path: Path) -> str | None:
    """What to do about a file that is no text in UTF-8; None if it may be.

    In UTF-16, as Excel and Windows write "Unicode text"; gzipped under another name; zipped; in an
    encoding of one byte a letter.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LOOKED_AT)
    except OSError:
        return None
    start = content[:2]
    if start == b"\x1f\x8b" and path.suffix != ".gz":
        return f"it is gzipped: call it {path.name}.gz"
    if start == b"PK":
        return "it is a zip: unpack it"
    if start in _UTF16:
        return _recode("UTF-16", path, "UTF-16")
    if path.suffix.lower() not in _TEXTS or _is_utf8(content):
        return None
    return _recode("CP1252", path, "not UTF-8, perhaps CP1252")


def _recode(name: str, path: Path, what: str) -> str:
    return f"it is {what}: save it as UTF-8 (iconv -f {name} -t UTF-8 {path.name} > NEW)"


def _is_utf8(content: bytes) -> bool:
    """Whether bytes are UTF-8, but for a letter that is cut at their end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def separator_of(header: str, usual: str = ",") -> str:
    """The separator of a header line: the usual one if it is there, else one that is."""
    if usual in header:
        return usual
    return next((one for one in SEPARATORS if one in header), usual)


def separator_fix(columns: Iterable[object]) -> str | None:
    """What to do about a table that was read as one column, another separator in its name."""
    header, *others = map(str, columns)
    if others:
        return None
    there = separator_of(header)
    if there not in SEPARATORS:
        return None
    return f"its columns are separated by {SEPARATORS[there]}, not by a comma: write it with commas"
