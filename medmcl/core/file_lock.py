"""One process at a time: a lock that the system takes back from whoever dies with it."""

from __future__ import annotations

import datetime
import inspect
import json
import logging
import os
import shlex
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from medmcl.core.atomic import refuse_nameless
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json, refuse_odd_file
from medmcl.core.writing import disk_error, file_error, refuse_unwritable

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger("medmcl")
P = ParamSpec("P")
R = TypeVar("R")
_SECONDS_BETWEEN_LOOKS = 0.2
_LONGEST = 4096
"""Characters that are read of who holds a lock."""
_BOOT, _MACHINE = Path("/proc/sys/kernel/random/boot_id"), Path("/etc/machine-id")


@contextmanager
def alone(
    path: Path,
    doing: str,
    *,
    wait: Callable[[str], None] | None = None,
    named: Path | None = None,
    harmless: bool = False,
) -> Iterator[str]:
    """Nobody else writes ``path`` meanwhile; gives what is known of an owner who was killed.

    The lock is ``.NAME.lock`` beside it, so that ``path`` need not exist; of files that belong
    together one is guarded. The system holds it (flock, also over NFS; where a file system has
    none, a file with host and process), so that a lock whose owner is dead is free. Who holds it
    stands in it. One that another machine left is refused, as if it lived: network file systems
    may keep the locks of a machine to it, and its processes cannot be looked at from here.

    Args:
        path: What is guarded; its folder must exist.
        doing: What goes on, for the message to whoever comes second.
        wait: Wait for the other: called again and again with who it is, and how its lock is freed
            if it may be dead; may raise to give up. Default: refuse at once.
        named: What the message calls it, if not ``path``.
        harmless: Whether two at a time only do the same work twice: what a machine left that the
            system says is free is taken then.

    Yields:
        Who held it last and was killed (``process 312 on ward-pc, since …``), else nothing.

    Raises:
        ArtefactError: Another process holds it; or the folder is missing or cannot be written.
    """
    from filelock import FileLock, SoftFileLock

    file = path.with_name(f".{path.name}.lock")
    if not file.parent.is_dir():
        raise ArtefactError("cannot be locked: there is no such folder", where=file.parent)
    refuse_odd_file(file, ArtefactError)
    lock = FileLock(file)  # goes on if the file that it locked was removed meanwhile
    unsaid = 0
    try:
        try:
            while not (taken := _take(lock, file, harmless))[0]:
                owner = taken[1]
                unsaid += owner is None  # it has only just begun
                if wait is None and (owner or unsaid > 1):
                    raise _held(named or path, file, doing, owner)
                if wait is not None:
                    told = f"; {_if_dead(owner, file)}" if owner and owner.is_elsewhere else ""
                    wait(f"{owner or 'another process'}{told}")
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        except OSError as error:
            said = ArtefactError(f"cannot be locked: {error.strerror}", where=path)
            raise disk_error(error, path) or file_error(error) or said from None
        yield str(taken[1] or "")
    finally:  # also where nobody could write their name into it
        if lock.is_locked and not isinstance(lock, SoftFileLock):
            with suppress(OSError):  # a lock that stays tells of an owner who was killed
                file.unlink()
        lock.release()


def sweep_lock(path: Path) -> None:
    """Take away the lock of whoever was killed once ``path`` was whole; nothing if it is held."""
    if path.with_name(f".{path.name}.lock").exists():
        with suppress(ArtefactError), alone(path, "it is tidied up"):
            pass


def _take(lock: BaseFileLock, file: Path, harmless: bool) -> tuple[bool, _Owner | None]:
    """Try to take a lock: whether it was, and who holds it, or held it last and was killed."""
    from filelock import SoftFileLock, Timeout

    before = _Owner.read(file)
    try:
        with warnings.catch_warnings(action="ignore"):  # of a file system without flock
            lock.acquire(timeout=0)
    except Timeout:
        return False, _Owner.read(file)
    if isinstance(lock, SoftFileLock):  # host and process stand in it already
        return True, before
    before = _Owner.read(file)
    if before is not None and before.is_elsewhere and not harmless:
        lock.release()
        return False, before
    file.write_text(json.dumps(asdict(_Owner.here())), encoding="utf-8")
    return True, before


@contextmanager
def claimed(out: Path, doing: str, *, filled: bool = False) -> Iterator[None]:
    """Be the only one who makes an output; folders that it needs are made, and go if unused.

    Args:
        out: File or folder that is made.
        doing: What goes on, for the message to whoever comes second.
        filled: Whether ``out`` is a folder that files are put into one after the other; the lock
            lies in it, and it may lie where nothing else can be written.

    Raises:
        ArtefactError: Another process makes it; or it cannot be written.
    """
    if not filled:
        refuse_nameless(out)
    guarded = out / "folder" if filled else Path(os.path.realpath(out))  # by whatever link
    refuse_unwritable(out, folder=filled)
    new = [one for one in guarded.absolute().parents if not one.exists()]
    guarded.parent.mkdir(parents=True, exist_ok=True)
    try:
        with alone(guarded, doing, named=out) as killed:
            if killed:
                log.info("%s was held by %s, which was killed: taken over", out, killed)
            yield
    finally:
        with suppress(OSError):  # something was written
            for one in new:
                one.rmdir()


def one_writer(
    doing: str, *, out: str = "out", filled: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be the only one that makes its output, from before it prepares anything.

    Args:
        doing: As for `claimed`.
        out: The parameter that names the output; nothing is claimed where it is None.
        filled: As for `claimed`.
    """

    def wrapped(make: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(make)

        @wraps(make)
        def claiming(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments.get(out)
            if given is None:
                return make(*args, **kwargs)
            with claimed(Path(given), doing, filled=filled):
                return make(*args, **kwargs)

        return claiming

    return wrapped


@dataclass(frozen=True)
class _Owner:
    """Who holds a lock: ``boot`` and ``machine`` name a start and an installation, where told."""

    host: str
    process: int
    since: str
    boot: str = ""
    machine: str = ""

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"

    @classmethod
    def here(cls) -> _Owner:
        since = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
        boot = machine = ""
        with suppress(OSError):  # elsewhere than on Linux the host must do
            boot = _BOOT.read_text(encoding="ascii").strip()
            machine = blake2b(_MACHINE.read_bytes(), digest_size=8).hexdigest()
        return cls(socket.gethostname(), os.getpid(), since, boot, machine)

    @classmethod
    def read(cls, file: Path) -> _Owner | None:
        """Who wrote their name into a lock; None where nobody did, or it is not whole."""
        try:
            with file.open(encoding="utf-8") as opened:
                text = opened.read(_LONGEST)
            if text[:1].isdigit():  # as filelock names them where there is no flock
                process, host, *_ = text.split()
                since = datetime.datetime.fromtimestamp(file.stat().st_mtime, tz=datetime.UTC)
                return cls(host, int(process), since.isoformat(timespec="seconds"))
            said = parse_json(text)
            told = (said.get(key, "") for key in ("boot", "machine"))
            return cls(said["host"], said["process"], said["since"], *told)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it ran on a machine that this one cannot look into, under any name."""
        here = _Owner.here()
        if self.boot and self.boot == here.boot:
            return False
        is_namesake = bool(self.machine and here.machine) and self.machine != here.machine
        return self.host != here.host or is_namesake


def _held(path: Path, file: Path, doing: str, owner: _Owner | None) -> ArtefactError:
    ends = "wait until it has ended, or stop it"
    if owner is not None and owner.is_elsewhere:
        ends += f"; {_if_dead(owner, file)}"
    return ArtefactError(doing, where=path, got=f"held by {owner or 'another process'}", fix=ends)


def _if_dead(owner: _Owner, file: Path) -> str:
    free = f"rm {shlex.quote(str(file))}"
    return f"if it is dead, which only {owner.host} can tell, free its lock: {free}"
