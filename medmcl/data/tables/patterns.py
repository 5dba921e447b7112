"""Patterns of files: globs with named parts, and alternatives of them."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

_NAMED = re.compile(r"\{(\w+)\}")
_MAGIC = re.compile(r"[*?\[]|\{\w+\}")
_TOKENS = re.compile(
    r"(?P<any>\*\*/)|(?P<some>\*+)|(?P<one>\?)|(?P<set>\[[^\]]+\])|\{(?P<name>\w+)\}"
)


def is_pattern(text: str) -> bool:
    """Whether a table is a pattern of files, and not the name of one."""
    return _MAGIC.search(text) is not None


def _alternatives(pattern: str) -> list[str]:
    return [one.strip() for one in pattern.split(" | ")]


def fixed_starts(pattern: str) -> list[str]:
    """What of each alternative is the same for all files."""
    return [_MAGIC.split(one)[0] for one in _alternatives(pattern)]


def find_files(root: Path, pattern: str) -> tuple[str, tuple[Path, ...]]:
    """Give the files of a pattern, sorted; of alternatives the first that has some, and which."""
    for one in _alternatives(pattern):
        names = glob.glob(str(root / _NAMED.sub("*", one)), recursive=True)  # noqa: PTH207  # takes absolute ones
        files = tuple(sorted(path for path in map(Path, names) if path.is_file()))
        if files:
            return one, files
    return _alternatives(pattern)[0], ()


def named_parts(root: Path, pattern: str, files: Sequence[Path]) -> list[dict[str, str]]:
    """Give what ``{name}`` stands for in each of the files that `find_files` gave."""
    if not _NAMED.search(pattern):
        return [{} for _ in files]
    start = "" if Path(pattern).is_absolute() else re.escape(f"{root.as_posix().rstrip('/')}/")
    # the pattern as a regular expression; a name that stands twice is the same twice
    found, at, known = "", 0, set[str]()
    for token in _TOKENS.finditer(pattern):
        found += re.escape(pattern[at : token.start()])
        at = token.end()
        name = token["name"]
        if name:
            found += f"(?P={name})" if name in known else f"(?P<{name}>[^/]*)"
            known.add(name)
        else:
            plain = {"any": "(?:.*/)?", "some": "[^/]*", "one": "[^/]"}
            found += plain.get(str(token.lastgroup)) or token[0].replace("[!", "[^")
    shape = re.compile(start + found + re.escape(pattern[at:]))
    return [
        {} if m is None else m.groupdict() for m in (shape.fullmatch(f.as_posix()) for f in files)
    ]
