"""A format: files that are written soundly, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """What is read was refused, with findings that say why."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        write: Writes sound files into a folder.
        read: Reads them from there; gives what they hold, as arrays, texts and plain values.
        damaged: Names of the files of which mutants are made.
        sealed: Whether the format has a checksum of all that it holds, so that another content is
            a wrong one; or of a folder, whether the checksum there is not that of the content.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    damaged: tuple[str, ...]
    sealed: bool | Callable[[Path], bool] = False
