"""Files and folders that are whole or absent: written aside, brought to disk, renamed into place.

Everything that medmcl writes for later goes through here. A reader sees the old content or the
new; a process that is killed leaves the old, and beside it a part (``.NAME.….part``) that the next
writer in the same folder takes away: at once if its writer is known to be dead, after a week if
that ran where this process cannot see it (another host, container, or before a restart).
A folder that is replaced stands aside while the new one takes its place; if the writer is killed
just then, the next writer in the same folder, or `put_back`, gives it back.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from medmcl.core.errors import ArtefactError
from medmcl.core.writing import writing

_UNSEEN_SECONDS = 7 * 86_400
_PART = re.compile(
    r"(?s)\.(?P<name>.*)\.(?P<place>[0-9a-f]{8})-(?P<process>\d+)-(?:(?P<start>\d+)-)?[0-9a-f]{8}"
    r"(?P<replaced>-replaced)?\.part"
)


@contextmanager
def file_aside(path: Path, *, mode: int = 0o666, page: Path | None = None) -> Iterator[Path]:
    """Give an empty file to write; it becomes ``path`` if all went well, and goes if it did not.

    Args:
        path: The file to make, or to replace.
        mode: Its permissions, less those that the umask of the process withholds.
        page: What people open of files that belong together and are written one after the other,
            this one first: an earlier page goes as this takes its place, so that nobody who is
            killed leaves one beside numbers of two commands.

    Raises:
        DiskError: The disk is full, or fails; also of `folder_aside` and `write_atomically`.
    """
    aside = _aside(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
            allowed = stat.S_IMODE(aside.stat().st_mode)
            yield aside
            aside.chmod(allowed)  # who writes it may have put a private file in its place
            bring_to_disk(aside)
            if page is not None:
                page.unlink(missing_ok=True)
            aside.replace(path)
            bring_to_disk(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_aside(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes ``path`` if all went well, and goes if it did not.

    Args:
        path: The folder to make; absent, or empty. If somebody else made it meanwhile, renaming
            fails with `OSError`.
        replace: Whether one that is there goes. One of the two is whole at any time, and is at
            ``path`` but for a moment in which a killed process leaves it to `put_back`.
    """
    path = path.resolve() if path.is_symlink() else path  # a link stays one
    aside = _aside(path)
    old = aside.with_name(f"{aside.stem}-replaced.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.mkdir()
            yield aside
            for made in (*aside.rglob("*"), aside):
                if made.is_file() or made.is_dir():
                    bring_to_disk(made)
            if replace and path.exists():
                path.rename(old)
            aside.rename(path)
            bring_to_disk(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if os.path.lexists(old):
            _settle(old, ended=True)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that is read line by line, whole or not at all.

    What a killed process left of its last line stays a line of its own.

    Raises:
        DiskError: The disk is full, or fails.
    """
    with writing(path), path.open("a+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        file.seek(max(0, before - 1))
        left = (b"\n" if file.read(1) not in (b"", b"\n") else b"") + f"{line}\n".encode()
        end = before + len(left)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            if file.seek(0, os.SEEK_END) == end - len(left):  # nobody else appended meanwhile
                file.truncate(before)
            raise


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path`` for what is needed meanwhile, and take it away.

    Of a process that is killed the next writer there takes it away.
    """
    aside = _aside(path)
    aside.mkdir(mode=0o700)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_whole(path: Path) -> None:
    """Remove a file or a folder if it is there; no folder is left with some of its files."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = _aside(path)
    with suppress(FileNotFoundError):  # a part whose writer is dead has gone by that
        path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def put_back(path: Path) -> None:
    """Give back a folder whose writer was killed as it replaced it, if that happened."""
    if not path.exists():
        path = Path(os.path.realpath(path))  # of a link, what it led to
        for old in path.parent.glob(f".{glob.escape(path.name)}.*-replaced.part"):
            _settle(old)


def _settle(part: Path, *, ended: bool = False) -> None:
    """Take a part away if its writer is dead, or has ``ended``; give back what was replaced.

    The latter goes back only where nothing took its place, but then at once, also if its writer
    cannot be asked: at worst that one cannot rename its own folder into place, and says so.
    """
    named = _PART.fullmatch(part.name)
    if named is None:
        return
    is_dead, before = ended or _is_dead(part, named), part.with_name(named["name"])
    with suppress(OSError):  # another process takes it away, or it is not ours to take
        if not named["replaced"] or os.path.lexists(before):
            if is_dead:
                _delete(part)
        elif is_dead or named["place"] != process_space():
            part.rename(before)


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_atomically(
    path: Path, content: str | bytes, *, mode: int = 0o666, page: Path | None = None
) -> None:
    """Write a file from its whole content; text as UTF-8. See `file_aside`.

    Args:
        path: The file to make, or to replace.
        content: All of it.
        mode: As of `file_aside`; so is ``page``.
        page: What people open, if this is the first of several files.
    """
    with file_aside(path, mode=mode, page=page) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def is_content(path: Path) -> bool:
    """Whether something in a folder is more than a lock, or a part of what is being written."""
    return not (path.name.startswith(".") and path.suffix in (".lock", ".part"))


def refuse_nameless(path: Path) -> None:
    """Refuse what cannot be renamed into place: the folder that one is in, or no name.

    Raises:
        ArtefactError: It is such.
    """
    if path.name in ("", "..") or os.path.abspath(path) == os.getcwd():  # noqa: PTH100, PTH109  (.. too)
        raise ArtefactError(
            "is no name but the folder that this runs in; what is whole is renamed into place",
            where=f"'{path}'",
            fix="name a new file or folder in it",
        )


def _aside(path: Path) -> Path:
    """A name beside a path that nobody else has; parts of dead writers that lie there go."""
    refuse_nameless(path)
    for left in path.parent.glob(".*.part"):
        _settle(left)
    who = [process_space(), str(os.getpid()), process_start(os.getpid()), secrets.token_hex(4)]
    return path.with_name(f".{path.name}.{'-'.join(filter(None, who))}.part")


def _is_dead(part: Path, named: re.Match[str]) -> bool:
    """Whether nobody writes a part any more."""
    if named["place"] != process_space():
        with suppress(OSError):  # it is gone
            return time.time() - part.stat().st_mtime > _UNSEEN_SECONDS
        return False
    process, unsaid = int(named["process"]), set()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it lives, and is somebody else's, of which the system may say nothing
        unsaid.add("")
    return named["start"] is not None and process_start(process) not in {named["start"], *unsaid}


@cache
def process_space() -> str:
    """Where a process number means this process: host, its present start, its name space."""
    said = [socket.gethostname()]
    with suppress(OSError):  # elsewhere than on Linux the host must do
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        said.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.blake2b("\n".join(said).encode(), digest_size=4).hexdigest()


def process_start(number: int) -> str:
    """When a process started, by the system's clock; empty where it has ended, or none can tell.

    With it a process is not taken for an earlier one of its number: containers that are started
    again number their processes as before, and often have the same name space.
    """
    try:
        said = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # also elsewhere than on Linux
        return ""
    fields = said.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def bring_to_disk(path: Path) -> None:
    """Wait until a file or a folder would outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that have no such thing for folders
            raise
    finally:
        os.close(handle)
