"""Files and folders that are whole or absent: written aside, brought to disk, renamed into place.

Everything that medmcl writes for later goes through here. A reader sees the old content or the
new; a process that is killed leaves the old, and beside it a part (``.NAME.….part``) that the next
writer in the same folder takes away once it is a day old.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STALE_SECONDS = 86_400
_OURS = re.compile(r"\.\d+-[0-9a-f]{8}\.part$")


@contextmanager
def file_aside(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Give an empty file to write; it becomes ``path`` if all went well, and goes if it did not.

    Args:
        path: The file to make, or to replace.
        mode: Its permissions, less those that the umask of the process withholds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield aside
        _bring_to_disk(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes ``path`` if all went well, and goes if it did not.

    Args:
        path: The folder to make; absent, or empty. If somebody else made it meanwhile, renaming
            fails with `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    aside.mkdir()
    try:
        yield aside
        for made in aside.rglob("*"):
            if made.is_file():
                _bring_to_disk(made)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file from its whole content; text as UTF-8. See `file_aside`."""
    with file_aside(path, mode=mode) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def _aside(path: Path) -> Path:
    """A name beside a path that nobody else has; parts that were left there long ago go."""
    for left in path.parent.glob(".*.part"):
        if not _OURS.search(left.name):
            continue
        try:
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        except OSError:  # another process takes it away, or it is not ours
            continue
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def _bring_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
