"""Members of tar archives, read where they lie: ``shards/000.tar/a.png`` is a path like any other.

An archive is looked through once, for the place of each member; members are then read by seeking.
Nothing is unpacked, so no name can lead out of a folder; one that tries to is refused all the same.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from medmcl.core.errors import RecordError

SUFFIX = ".tar"
_GZIP = b"\x1f\x8b"
_KEPT = 4096  # archives of which the members are remembered
_AGAIN = "copy it again from its source, or write it anew"


class Span(NamedTuple):
    """Where the bytes of a member lie."""

    offset: int
    size: int


@dataclass(frozen=True)
class Archive:
    """What an archive holds.

    Attributes:
        members: Name to place, in their order; names as POSIX paths without ``./``.
        skipped: Members that are neither file nor folder: links, devices, sparse files.
    """

    members: Mapping[str, Span]
    skipped: int


def archive(path: Path) -> Archive:
    """Look through an archive; what was found is remembered until the file changes.

    Raises:
        RecordError: Not a tar archive, compressed, cut short or damaged, a name that leads out of
            it, or a name that stands twice.
    """
    stat = path.stat()
    return _look_through(path, (stat.st_size, stat.st_mtime_ns))


def split(path: Path) -> tuple[Path, str] | None:
    """Give the archive that a path leads into and the member's name; None if it leads into none."""
    if f"{SUFFIX}{os.sep}" not in str(path):
        return None
    for above in path.parents:
        if above.suffix == SUFFIX and above.is_file():
            return above, path.relative_to(above).as_posix()
    return None


def is_file(path: Path) -> bool:
    """Whether there is such a file, or such a member of an archive.

    Raises:
        RecordError: The archive cannot be read.
    """
    inside = split(path)
    return path.is_file() if inside is None else inside[1] in archive(inside[0]).members


def exists(path: Path) -> bool:
    """Whether there is such a path or member; what is in a damaged archive counts as there."""
    try:
        return is_file(path) or path.exists()
    except RecordError:
        return True


def stamps(folder: Path) -> dict[str, tuple[int, int, str]] | None:
    """Give size, time and place of every member of a folder in an archive; None if it is none."""
    inside = (folder, "") if folder.suffix == SUFFIX and folder.is_file() else split(folder)
    if inside is None:
        return None
    try:
        members = archive(inside[0]).members
    except RecordError:
        return {}
    time, prefix = inside[0].stat().st_mtime_ns, f"{inside[1]}/" if inside[1] else ""
    return {
        name.removeprefix(prefix): (span.size, time, str(span.offset))
        for name, span in members.items()
        if name.startswith(prefix)
    }


def open_binary(path: Path) -> IO[bytes]:
    """Open a file, or a member of an archive, for reading.

    Raises:
        FileNotFoundError: There is no such file or member.
        RecordError: The archive cannot be read.
    """
    inside = split(path)
    if inside is None:
        return path.open("rb")
    span = archive(inside[0]).members.get(inside[1])
    if span is None:
        raise FileNotFoundError(path)
    with inside[0].open("rb") as file:
        file.seek(span.offset)
        return io.BytesIO(file.read(span.size))


@lru_cache(_KEPT)
def _look_through(path: Path, version: tuple[int, int]) -> Archive:  # noqa: ARG001  # of the memo
    """Read the headers."""
    members: dict[str, Span] = {}
    skipped = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                name = _name(info.name, path)
                if info.isdir():
                    continue
                if not info.isreg() or info.sparse is not None:
                    skipped += 1
                    continue
                if name in members:
                    raise RecordError(
                        "a member stands twice in the archive",
                        where=path,
                        got=name,
                        fix="write the shard anew, each name once",
                    )
                members[name] = Span(info.offset_data, info.size)
            end = tar.offset
    except (tarfile.TarError, OSError) as error:
        raise _no_archive(path, error) from None
    _require_end(path, end)
    return Archive(members, skipped)


def _name(given: str, path: Path) -> str:
    name = PurePosixPath(given)
    if name.is_absolute() or ".." in name.parts:
        raise RecordError(
            "a member's name leads out of the archive",
            where=path,
            got=given,
            expected="names without .. and without / at the start",
            fix="do not trust this archive; if it is your own, write it anew",
        )
    try:
        given.encode()
    except UnicodeEncodeError:
        raise RecordError(
            "a member's name is not UTF-8",
            where=path,
            got=ascii(given),
            fix="rename the files, and write the archive anew",
        ) from None
    return str(name)


def _no_archive(path: Path, error: Exception) -> RecordError:
    with path.open("rb") as file:
        start = file.read(len(_GZIP))
    if start == _GZIP:
        return RecordError(
            "is compressed: its members cannot be read one by one",
            where=path,
            fix=f"gunzip it once: gunzip -k {path.name}",
        )
    what = "is not a tar archive, or cut short" if start else "the archive is empty (zero bytes)"
    return RecordError(what, where=path, got=str(error)[:200], fix=_AGAIN)


def _require_end(path: Path, end: int) -> None:
    """Refuse an archive that stops without empty blocks to its end, as `tarfile` does not."""
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
        is_last = not any(part.strip(b"\0") for part in iter(lambda: file.read(1 << 20), b""))
    if len(block) < tarfile.BLOCKSIZE:
        raise RecordError("the archive is cut short: it has no end", where=path, fix=_AGAIN)
    if block.strip(b"\0") or not is_last:
        raise RecordError(
            "the archive is damaged, or two in one file",
            where=path,
            got=f"no header at byte {end}",
            fix=_AGAIN,
        )
