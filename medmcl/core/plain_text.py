"""Text tables that are not read as they are: which encoding, which separator."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

_LOOKED_AT = 2**26
"""Bytes of a file, at most, whose encoding is looked at."""
_TEXTS = (".csv", ".tsv", ".txt")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
"""What stands between columns where no comma does, and how a message names it."""


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
