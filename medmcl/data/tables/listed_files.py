"""Tables that nobody wrote: the samples of WebDataset shards, or of a folder of images.

One row a sample: the files that are called alike but for their suffix. A column for each suffix
says where that file lies, so that ``path: "{png}"`` finds it; an empty cell means that this sample
has none. Fields of ``.json`` files, and what ``.cls`` files and the like hold, are columns too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medmcl.core import members
from medmcl.core.errors import CohortError, RecordError
from medmcl.core.findings import counted
from medmcl.core.limits import parse_json
from medmcl.modalities.image.settings import ENDINGS

VALUES = ("cls", "cls2", "class", "count", "index", "inx", "id")
"""Suffixes of files that are a cell: the labels and numbers of WebDataset."""
TREES = ("json", "jsn")
"""Suffixes of files whose fields are columns."""
_KEY = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]+)")
_NUMBERED = re.compile(r"(.*?)[-_.]?\d+")
_META = re.compile(r"__[^/]*__(?:$|/)")
_PACKED = (members.SUFFIX, f"{members.SUFFIX}.gz", ".tgz")


@dataclass(frozen=True)
class Listed:
    """The rows, and what is odd about them, in words."""

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sample:
    """What names a sample, and suffix to where that file lies, from the root."""

    said: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)

    def add(self, suffix: str, cell: str, where: Path) -> None:
        column = f".{suffix}" if suffix in self.said else suffix
        if column in self.files:
            raise CohortError(
                "two files of one sample are called alike",
                where=where,
                got=f"{self.files[column]} and {cell}",
                fix="rename one of them",
            )
        self.files[column] = cell


def is_listing(files: Sequence[Path]) -> bool:
    """Whether files are shards, or are images with what lies beside them."""
    return is_packed(files[0]) or any(one.suffix.lower() in ENDINGS for one in files)


def list_files(root: Path, pattern: str, files: Sequence[Path]) -> Listed:
    """List the samples that files hold.

    Args:
        root: Folder that cells with paths start from.
        pattern: How the files were found; names start where it begins to be one.
        files: Shards; or images, texts and JSON files.

    Raises:
        CohortError: A shard that cannot be read, two files called alike, no sample at all, a JSON
            file without fields.
    """
    above = _fixed(root / pattern)
    if is_packed(files[0]):
        return _shards(root, above, files)
    samples: dict[str, _Sample] = {}
    for one in files:
        key = one.relative_to(above).with_suffix("").as_posix()
        sample = samples.setdefault(key, _Sample({"key": key, "folder": one.parent.name}))
        sample.add(one.suffix[1:].lower(), _from(root, one), above)
    return Listed(_frame(root, list(samples.values())))


def _shards(root: Path, above: Path, files: Sequence[Path]) -> Listed:
    samples: list[_Sample] = []
    nameless = skipped = 0
    for path in files:
        try:
            found = members.archive(path)
        except RecordError as error:
            raise error.again(CohortError) from None
        own: dict[str, _Sample] = {}
        here, numbered = _from(root, path), _NUMBERED.fullmatch(path.stem)
        said = {
            "shard": path.relative_to(above).with_suffix("").as_posix(),
            "set": numbered[1] if numbered else path.stem,
            "folder": path.parent.name,
        }
        for name in found.members:
            match = _KEY.fullmatch(name)
            if match is None or _META.match(name):
                nameless += 1
                continue
            key = match[1]
            if key not in own:
                own[key] = _Sample({"key": key, "member": f"{said['shard']}/{key}", **said})
            own[key].add(match[2].lower(), f"{here}/{name}", path)
        skipped += found.skipped
        samples += own.values()
    if not samples:
        raise CohortError(
            "no shard holds a sample", where=files[0], expected="members called KEY.png, KEY.txt"
        )
    return Listed(_frame(root, samples), tuple(_notes(samples, nameless, skipped)))


def _notes(samples: Sequence[_Sample], nameless: int, skipped: int) -> Iterator[str]:
    if nameless:
        yield f"{counted(nameless, 'member')} of shards not called KEY.SUFFIX: left out"
    if skipped:
        yield f"{counted(skipped, 'member')} of shards that are no plain files (links): left out"
    twice = _twice([sample.said["key"] for sample in samples])
    if twice:
        yield (
            f"{counted(len(twice), 'key')} in more than one shard, for example {twice[0]!r}: what "
            "tells samples apart is the column `member` (shard and key), not `key`"
        )


def _frame(root: Path, samples: Sequence[_Sample]) -> pd.DataFrame:
    suffixes = list(dict.fromkeys(suffix for sample in samples for suffix in sample.files))
    images = _images(samples, suffixes)
    taken = {*samples[0].said, *suffixes, *images.values()}
    rows = []
    for sample in samples:
        row: dict[str, Any] = {**sample.said, **sample.files}
        row |= {name: sample.files[s] for s, name in images.items() if s in sample.files}
        for suffix, cell in sample.files.items():
            if suffix in VALUES:
                row[suffix] = _text(root, cell).strip()
            elif suffix in TREES:
                del row[suffix]
                try:
                    tree = parse_json(_text(root, cell))
                except ValueError as error:
                    raise CohortError("is not JSON", where=root / cell, got=error) from None
                if not isinstance(tree, dict):
                    raise CohortError(
                        "holds no fields",
                        where=root / cell,
                        got=type(tree).__name__,
                        expected='{"age": 61}',
                    )
                for name, value in tree.items():
                    row[f"json.{name}" if name in taken else str(name)] = value
        rows.append(row)
    return pd.DataFrame(rows)


def _images(samples: Sequence[_Sample], suffixes: Sequence[str]) -> dict[str, str]:
    """Name what images are, whatever their format: ``png`` is ``image``, ``side.jpg`` ``side``."""
    names: dict[str, str] = {}
    for suffix in suffixes:
        name, _, kind = suffix.rpartition(".")
        if f".{kind}" in ENDINGS:
            names[suffix] = name or "image"
    several = {
        name for one in samples for name in _twice([names[s] for s in one.files if s in names])
    }
    given = {*samples[0].said, *suffixes, *several}
    return {suffix: name for suffix, name in names.items() if name not in given}


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _text(root: Path, cell: str) -> str:
    try:
        with members.open_binary(root / cell) as file:
            return file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError("cannot be read as text", where=root / cell, got=error) from None


def is_packed(path: Path) -> bool:
    """Whether a file is a shard, compressed ones included: these are refused when they are read."""
    return path.name.endswith(_PACKED)


def _fixed(pattern: Path) -> Path:
    """Give the folder above the first part of a pattern that is one, or above the file."""
    for above in reversed(pattern.parents):
        if any(letter in above.name for letter in "*?["):
            return above.parent
    return pattern.parent


def _from(root: Path, path: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
