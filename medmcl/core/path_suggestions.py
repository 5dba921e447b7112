"""Paths: where what ships lies, and of one that is not there, what was probably meant."""

from __future__ import annotations

import sys
from pathlib import Path

from medmcl.core.config import closest
from medmcl.core.errors import MedmclError
from medmcl.core.findings import first_of
from medmcl.core.limits import refuse_odd_file

_LISTED = 2000
"""Names of a folder that are looked at; a folder may hold a million records."""


def instead_of(path: Path, *, folders: bool = False) -> str:
    """Say what stands nearest to a path that is not there, as the end of a sentence.

    ``"; did you mean 'participants.tsv'?"``, or that its folder is not there and which is alike, or
    what the folder holds. Empty if nothing can be said.

    Args:
        path: What is not there.
        folders: A folder is meant: name folders, not files.
    """
    folder = path.parent
    if folder.is_dir():
        names = _names(folder, files=not folders)
        near = closest(path.name, names)
        if near is not None and near != path.name:
            return f"; did you mean '{near}'?"
        alike = [name for name in names if Path(name).suffix == path.suffix] or names
        return f"; {folder} holds {first_of(alike)}" if alike else f"; {folder} is empty"
    while not folder.parent.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = _names(folder.parent, files=False)
    near = closest(folder.name, names)
    if near is not None:
        return f"; there is no folder '{folder.name}' in {folder.parent}; did you mean '{near}'?"
    held = f", which holds {first_of(names)}" if names else ""
    return f"; there is no folder '{folder.name}' in {folder.parent}{held}"


def require_file(path: Path, error: type[MedmclError], *, fix: str | None = None) -> None:
    """Refuse a path that is no file, in words: nothing there (what is nearest), a folder, a pipe.

    Args:
        path: What is to be read.
        error: Kind of the error.
        fix: What makes such a file, if a command does.

    Raises:
        MedmclError: Of the kind asked for.
    """
    if path.is_dir():
        raise error("is a folder, not a file", where=path, expected="a file", fix=fix)
    refuse_odd_file(path, error)
    if not path.exists():
        raise error(f"there is no such file{instead_of(path)}", where=path, fix=fix)


def _names(folder: Path, *, files: bool) -> list[str]:
    """Name what a folder holds: its files, or its folders; none if it may not be read."""
    try:
        found = []
        for one in folder.iterdir():
            if not one.name.startswith(".") and (one.is_file() if files else one.is_dir()):
                found.append(one.name)
            if len(found) == _LISTED:
                break
    except OSError:
        return []
    return sorted(found)


def shipped(folder: str) -> Path:
    """Give ``configs`` or ``cohorts``: beside the package in a checkout, under share/ installed."""
    checkout = Path(__file__).resolve().parents[2] / folder
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "medmcl" / folder
