"""One process at a time: a lock that the system takes back from whoever dies with it."""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medmcl.core.errors import ArtefactError

_SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def alone(path: Path, doing: str, *, wait: Callable[[str], None] | None = None) -> Iterator[str]:
    """Nobody else writes ``path`` meanwhile; gives what is known of an owner who was killed.

    The lock is ``.NAME.lock`` beside it, so that ``path`` need not exist; of files that belong
    together one is guarded. The system holds it (flock, also over NFS; where a file system has
    none, a file with host and process), so that a lock whose owner is dead is free. Who holds it
    stands in it.

    Args:
        path: What is guarded; its folder must exist.
        doing: What goes on, for the message to whoever comes second.
        wait: Wait for the other: called again and again with who it is, and may raise to give up.
            Default: refuse at once.

    Yields:
        Who held it last and was killed (``process 312 on ward-pc, since …``), else nothing.

    Raises:
        ArtefactError: Another process holds it; or the folder is missing or cannot be written.
    """
    from filelock import FileLock, Timeout

    file = path.with_name(f".{path.name}.lock")
    if not file.parent.is_dir():
        raise ArtefactError("cannot be locked: there is no such folder", where=file.parent)
    lock = FileLock(file)  # goes on if the file that it locked was removed meanwhile
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0 if wait is None else _SECONDS_BETWEEN_LOOKS)
            killed = _owner(file)
            _write_owner(file)
        except Timeout:
            owner = _owner(file) or "another process"
            if wait is None:
                raise ArtefactError(
                    doing,
                    where=path,
                    got=f"held by {owner}",
                    fix="wait until it has ended, or stop it",
                ) from None
            wait(owner)
        except OSError as error:
            lock.release()
            raise ArtefactError(f"cannot be locked: {error.strerror}", where=path) from None
    try:
        yield killed
    finally:
        with suppress(OSError):  # a lock that stays tells of an owner who was killed
            file.unlink()
        lock.release()


def _write_owner(file: Path) -> None:
    since = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
    file.write_text(json.dumps(about), encoding="utf-8")


def _owner(file: Path) -> str:
    """Who wrote their name into a lock; empty where nobody did, or it is not whole."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']}, since {said['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
