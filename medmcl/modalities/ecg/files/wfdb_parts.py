"""Which files a WFDB record is made of: its header and what the header names.

Read by hand and without complaint, for every record before any is read: `wfdb` says what is
wrong with a header.
"""

from __future__ import annotations

import glob
from pathlib import Path

MAX_HEADER_BYTES = 1_000_000
_NO_FILE = ("", "~", "-", ".", "..")


def wfdb_files(path: Path) -> list[Path]:
    """Give the header, the signal files that it names, and those of its segments.

    Where a header cannot be understood, the files beside it under its stem; names that lead out of
    the folder are left out, as no reader follows them.
    """
    record = path.with_suffix("") if path.suffix in (".hea", ".dat") else path
    return list(dict.fromkeys(_files(record, nested=True)))


def _files(record: Path, *, nested: bool) -> list[Path]:
    header = Path(f"{record}.hea")
    if not header.is_file():
        return [header]
    with header.open("rb") as file:
        text = file.read(MAX_HEADER_BYTES).decode("latin-1")
    lines = [line.split() for line in text.splitlines()]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    try:
        _, slash, segments = lines[0][0].partition("/")
        count = int(segments) if slash else int(lines[0][1])
    except (IndexError, ValueError):
        return [header, *_beside(record)]
    named = lines[1 : 1 + max(count, 0)]
    files = [header] if len(named) == count > 0 else [header, *_beside(record)]
    if not slash:
        return files + [record.parent / words[0] for words in named if _is_plain(words[0])]
    for name, *length in named if nested else ():
        if _is_plain(name) and length[:1] != ["0"]:  # of length 0: a layout, which is not read
            files += _files(record.parent / name, nested=False)
    return files


def _is_plain(name: str) -> bool:
    return name not in _NO_FILE and not set(name) & set("/\\:\0")


def _beside(record: Path) -> list[Path]:
    return sorted(record.parent.glob(f"{glob.escape(record.name)}.*"))
