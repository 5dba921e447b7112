"""Text tables that are not read as they are: which encoding, which separator."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
SEPARATORS = {";": "';'", "\t": "a tab", "|": "'|'"}
"""What stands between columns where no comma does, and how a message names it."""


def encoding_fix(path: Path) -> str | None:
    """What to do about a file that is no text in UTF-8 by its first bytes; None if it may be.

    In UTF-16, as Excel and Windows write "Unicode text"; gzipped under another name; zipped.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return None
    if start == b"\x1f\x8b" and path.suffix != ".gz":
        return f"it is gzipped: call it {path.name}.gz"
    if start == b"PK":
        return "it is a zip: unpack it"
    if start not in _UTF16:
        return None
    return f"it is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8 {path.name} > NEW)"


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
