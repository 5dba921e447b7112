"""What filesets of all formats share: their parts, who is in them, and how people are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medmcl.core.errors import RecordError

BLOCK_BYTES = 64 * 2**20
"""So much of a file is held at once: neighbours in it are read together."""


def named_parts(
    paths: Mapping[str, Path], names: Sequence[str], expected: str, fix: str
) -> dict[str, Path]:
    """Give the files of a fileset as a cohort names them.

    Raises:
        RecordError: One is not named.
    """
    missing = [name for name in names if name not in paths]
    if missing:
        raise RecordError(f"the path has no {' and no '.join(missing)}", expected=expected, fix=fix)
    return {name: paths[name] for name in names}


def numbered(names: Sequence[str], path: Path, *, with_family: bool) -> dict[str, int]:
    """Give the row of each person by his name; ``with_family``: which says whose he is, too.

    Raises:
        RecordError: Two have one name.
    """
    found = {name: number for number, name in enumerate(names)}
    if len(found) < len(names):
        twice = next(name for number, name in enumerate(names) if found[name] != number)
        by_family = "individual: fid_iid calls people FID_IID"
        fix = "give each person a name of his own" if with_family else by_family
        raise RecordError("two people have the same name", where=path, got=twice, fix=fix)
    return found


def positions_of(cells: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """Give positions in base pairs, (V,) int64.

    Args:
        cells: As they are written.
        where: From the number of a variant to its place, for messages.

    Raises:
        RecordError: One is no whole number.
    """
    positions = np.zeros(len(cells), dtype=np.int64)
    for number, cell in enumerate(cells):
        try:
            positions[number] = int(cell)
        except (ValueError, OverflowError):
            raise RecordError(
                "the position is no whole number", where=where(number), got=cell[:80]
            ) from None
    return positions


class Blocks:
    """Neighbours that are read together, the last of them kept.

    Args:
        read: From the first of them and one beyond the last to what a file holds of them.
        size: How many are read together.
        count: How many there are.
    """

    def __init__(self, read: Callable[[int, int], np.ndarray], size: int, count: int) -> None:
        self._read, self._size, self._count = read, max(1, min(count, size)), count
        self._start, self._block = -1, np.empty(0)

    def at(self, number: int) -> np.ndarray:
        """Give what is held of one: a row of what was read."""
        start = number - number % self._size
        if start != self._start:
            self._block = self._read(start, min(start + self._size, self._count))
            self._start = start
        return np.asarray(self._block[number - start])
