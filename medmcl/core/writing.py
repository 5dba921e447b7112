"""Whether a place can be written to, asked before any work is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

from medmcl.core.errors import ArtefactError


def refuse_unwritable(path: Path, *, folder: bool = True, where: str = "--out") -> None:
    """Refuse a place that cannot be written; leaves nothing behind.

    Args:
        path: What is to be written.
        folder: Whether it is a folder; otherwise a file in one.
        where: What messages call it.

    Raises:
        ArtefactError: A file stands in the way, or the disk does not let us.
    """
    target = path.absolute() if folder else path.absolute().parent
    there = next(one for one in (target, *target.parents) if one.exists())
    if not there.is_dir():
        raise ArtefactError(
            "is a file, not a folder", where=where, got=there, fix="name another folder"
        )
    try:
        with tempfile.TemporaryDirectory(dir=there, prefix=".medmcl-"):
            pass
    except OSError as error:
        raise ArtefactError(
            f"cannot be written: {error.strerror}",
            where=where,
            got=path,
            fix=f"name a folder that you may write to; {there} is none",
        ) from None
