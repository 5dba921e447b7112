"""Tables of many small files, a row a file: ``KEY: value`` lines, or headers of WFDB records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medmcl.core.errors import CohortError
from medmcl.core.limits import MAX_HEADER_BYTES
from medmcl.core.plain_text import text_lines

HEADER = ".hea"
_KEY_VALUE = re.compile(r"^\s*([^:=#;\[\s][^:=]*?)\s*[:=]\s*(.*?)\s*$")
_COMMENT = re.compile(r"^\s*#\s*([^:=\s][^:=]*?)\s*[:=]\s*(.*?)\s*$")
_COUNTS = ("signals", "rate_hz", "samples")


def small_rows(
    root: Path, files: Sequence[Path], parts: Sequence[Mapping[str, str]]
) -> list[dict[str, str | None]]:
    """Give one row a file.

    Columns are ``folder`` (name of its folder), ``stem`` (its name without suffix), ``within`` and
    ``file`` (its folder, and itself without suffix, from the root), the named parts of the
    pattern, and what it says. Of a header these are ``signals``, ``rate_hz``, ``samples`` and its
    comments (``#Dx: 426783006``).

    Raises:
        CohortError: A file that cannot be read, or says nothing.
    """
    rows: list[dict[str, str | None]] = []
    for path, said in zip(files, parts, strict=True):
        below = path.relative_to(root) if path.is_relative_to(root) else path
        place = {"folder": path.parent.name, "stem": path.stem,
                 "within": below.parent.as_posix(),
                 "file": below.with_suffix("").as_posix()}  # fmt: skip
        told = _header if path.suffix.lower() == HEADER else _pairs
        rows.append({**place, **said, **told(path)})
    return rows


def _pairs(path: Path) -> dict[str, str | None]:
    lines = text_lines(path, error=CohortError)
    found = [match.groups() for match in map(_KEY_VALUE.match, lines) if match]
    if not found:
        raise CohortError(
            "holds no 'KEY: value' line", where=path, expected="for example 'Group: DCM'"
        )
    return {key: value or None for key, value in found}


def _header(path: Path) -> dict[str, str | None]:
    """What a header of WFDB says of its record; whether its signals can be read is not asked."""
    with path.open("rb") as file:
        lines = file.read(MAX_HEADER_BYTES).decode("latin-1").splitlines()
    first = next((one.split() for one in lines if one.strip() and one.strip()[0] != "#"), [])
    if len(first) < 2:
        raise CohortError(
            "is not a WFDB header", where=path, got=" ".join(first)[:60] or "no line of a record",
            expected="for example 'JS00001 12 500 5000'",
        )  # fmt: skip
    counts = {name: cell.partition("/")[0].partition("(")[0]
              for name, cell in zip(_COUNTS, first[1:], strict=False)}  # fmt: skip
    found = [match.groups() for match in map(_COMMENT.match, lines) if match]
    return {**counts, **{key: value or None for key, value in found}}
