"""Places that cannot be written to: asked before work begins; a disk that fills up is one message.

Whatever medmcl writes is either whole or not there (`medmcl.core.atomic`), so that a command that a
full disk ended goes on from what was saved once there is space.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.errors import ArtefactError, MedmclError

if TYPE_CHECKING:
    import numpy as np

_FULL = "the disk is full"
_WHAT = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "the quota of disk space is used up",
    errno.EFBIG: "a file is larger than files may be here (`ulimit -f`)",
    errno.EIO: "the disk failed (input/output error)",
    errno.EROFS: "the disk can only be read",
}
_SAID = re.compile(
    r"No space left on device|os error 28\b|StorageFull|QuotaExceeded|Disk quota exceeded"
    r"|Input/output error|os error 5\b|\d+ requested and \d+ written|PytorchStreamWriter"
    r"|unexpected pos \d+ vs \d+|encoder error -2 when writing"
)
"""What libraries say whose writing failed, where they pass on no number of the system."""
_FAULTS = {"uota": errno.EDQUOT, "Input/": errno.EIO, "error 5": errno.EIO}


class DiskError(ArtefactError):
    """A disk that takes no more: of the machine, and for the person to make space on."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What a full or failing disk raises inside becomes a `DiskError` that names the path."""
    try:
        yield
    except Exception as error:
        told = disk_error(error, path)
        if told is None:
            raise
        raise told from error


def disk_error(error: BaseException, path: Path | None = None) -> DiskError | None:
    """Say what is wrong with a disk, or with a folder that is gone, where that is behind an error.

    None if something else is.

    Args:
        error: What was raised.
        path: What was being written, where that is known.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MedmclError):  # it is told already
            return None
        number = cause.errno if isinstance(cause, OSError) else None
        named = cause.filename if isinstance(cause, OSError) else None
        where = path if path is not None or named is None else Path(str(named))
        if number == errno.ENOENT and where is not None and not where.parent.exists():
            return DiskError(
                "the folder was moved or taken away while it was written to",
                where=where.parent,
                fix="move it back, and give the same command again (a run: with --resume); what "
                "was deleted is lost",
            )
        if number not in _WHAT:
            said = _SAID.search(str(cause))
            number = None if said is None else _number_of(said.group())
        if number is not None:
            return _told(number, where)
        cause = cause.__cause__ or cause.__context__
    return None


_IN_THE_WAY = {
    errno.EISDIR: "move it away: a file is expected there",
    errno.ENOTDIR: "move away what stands there and is no folder",
    errno.EEXIST: "move it away: something else is expected there",
    errno.EACCES: "ask its owner for the permission, or name another place",
    errno.EPERM: "ask its owner for the permission, or name another place",
    errno.ELOOP: "take the link away: none may stand there, or it leads in a circle",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def file_error(error: BaseException) -> ArtefactError | None:
    """Say which file or folder is not what it must be, where the system refused one by name.

    None if something else is wrong.
    """
    if not isinstance(error, OSError) or error.errno not in _IN_THE_WAY or error.filename is None:
        return None
    what = f"cannot be used: {os.strerror(error.errno)}"
    named = error.filename if error.filename2 is None else error.filename2
    where = Path(os.fsdecode(named))
    if error.errno == errno.ENOTDIR:
        where = next((one for one in where.parents if one.exists() and not one.is_dir()), where)
    elif where.suffix == ".part":  # that is gone
        where = where.parent
    return ArtefactError(what, where=where, fix=_IN_THE_WAY[error.errno])


def _number_of(said: str) -> int:
    return next((number for sign, number in _FAULTS.items() if sign in said), errno.ENOSPC)


def _told(number: int, path: Path | None) -> DiskError:
    room = "make space there" if number in (errno.ENOSPC, errno.EDQUOT) else "mend that"
    free = free_bytes(path or Path())
    return DiskError(
        _WHAT[number],
        where=path,
        got=None if free is None else f"{size(free)} free",
        fix=f"{room}, and give the same command again (a run: with --resume); what was saved "
        "before is whole",
    )


def refuse_full(folder: Path, needed: int, what: str, fix: str) -> None:
    """Refuse to begin what would not fit onto a disk.

    Args:
        folder: Where it would lie; need not exist.
        needed: Bytes.
        what: What takes them, as a subject: ``the prepared records of ecg``.
        fix: Where else it could lie.

    Raises:
        DiskError: There is less space than that.
    """
    free = free_bytes(folder)
    if free is not None and free < needed:
        raise DiskError(
            f"{what} will not fit onto this disk",
            where=folder,
            got=f"{size(free)} free ({free:,} bytes)",
            expected=f"{size(needed)} ({needed:,} bytes)",
            fix=f"make space there, or {fix}",
        )


def free_bytes(path: Path) -> int | None:
    """Bytes that may still be written below a path, which need not exist; None if unknown."""
    path = path.absolute()
    with suppress(OSError):
        there = next(one for one in (path, *path.parents) if one.exists())
        return shutil.disk_usage(there).free
    return None


def reserved_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """Make an array file of zeros to write into, memory-mapped, with its space on disk reserved.

    Without that a disk that fills up kills whoever writes into the mapping (SIGBUS).

    Raises:
        DiskError: There is not enough space.
    """
    import numpy as np

    with writing(path):
        made = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with path.open("r+b") as file:
            try:
                _reserve(file.fileno(), made.offset, path.stat().st_size)
            except OSError:
                os.truncate(path, 0)
                raise
    return made


def _reserve(handle: int, start: int, end: int) -> None:
    """Reserve the bytes of a new file; as zeros after ``start`` where nothing else can."""
    with suppress(AttributeError):  # of Linux
        try:
            os.posix_fallocate(handle, 0, end)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    zeros = bytes(2**20)
    for place in range(start, end, len(zeros)):
        os.pwrite(handle, zeros[: end - place], place)


def size(count: float) -> str:
    """Give bytes in the unit in which people say them: ``3.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:,.1f} TB"


def refuse_unwritable(path: Path, *, folder: bool = True, where: str = "--out") -> None:
    """Refuse a place that cannot be written; leaves nothing behind.

    Args:
        path: What is to be written.
        folder: Whether it is a folder; otherwise a file in one.
        where: What messages call it.

    Raises:
        ArtefactError: A file stands in the way, or the disk does not let us.
    """
    from medmcl.core.atomic import working_folder

    if os.path.islink(path) and not path.exists():  # noqa: PTH114  (pathlib fails on long names)
        raise ArtefactError("is a link that leads nowhere", where=where, got=path,
                            fix="name another place, or make what it leads to")  # fmt: skip
    if not folder and os.path.islink(path) and path.is_file():  # noqa: PTH114  (as above)
        raise ArtefactError("is a link to a file; a whole file would be put in the link's place",
                            where=where, got=path,
                            fix=f"name the file itself: {path.resolve()}")  # fmt: skip
    target = path.absolute() if folder else path.absolute().parent
    there = next(one for one in (target, *target.parents) if os.path.exists(one))  # noqa: PTH110  (as above)
    if not there.is_dir():
        raise ArtefactError(
            "is a file, not a folder", where=where, got=there, fix="name another folder"
        )
    try:
        with working_folder(there / ("writable" if folder else f"{path.name}.parts-replaced")):
            pass  # of a name that leaves room for those of parts and locks
    except OSError as error:
        too_long = error.errno == errno.ENAMETOOLONG
        other = f"name a folder that you may write to; {there} is none"
        raise ArtefactError(
            f"cannot be written: {error.strerror}",
            where=where,
            got=path,
            fix=_IN_THE_WAY[errno.ENAMETOOLONG] if too_long else other,
        ) from None
