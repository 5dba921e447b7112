"""One process at a time: a lock file beside the file that it guards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmcl.core.errors import ArtefactError


@contextmanager
def alone(path: Path, doing: str) -> Iterator[None]:
    """Nobody else reads and rewrites ``path`` meanwhile.

    Args:
        path: What is guarded; the lock is ``<path>.lock``.
        doing: What goes on, for the message to whoever comes second.

    Raises:
        ArtefactError: If the lock is there: another process holds it, or was killed with it; or
            the folder is missing or cannot be written.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        raise ArtefactError(
            f"{doing}, or was killed while it was",
            where=lock,
            fix="wait; if nothing runs, remove this file (what it guards is whole)",
        ) from None
    except OSError as error:
        raise ArtefactError(f"cannot be locked: {error.strerror}", where=path) from None
    try:
        yield
    finally:
        lock.unlink()
