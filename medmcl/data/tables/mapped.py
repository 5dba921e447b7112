"""Numbers of many people in a file without a name, whose pages leave the process when asked.

A process that reads on meets its pages again: the system keeps them as long as nobody else wants
the memory, and has the file where somebody does.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import weakref
from contextlib import suppress

import numpy as np

LEAST = 2**17
"""Bytes of a column from which it is mapped."""
_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def unnamed(shape: tuple[int, int]) -> np.ndarray:
    """Give columns of NaN to write into, (C, N) float64; long ones mapped to a file without a name.

    The file lies where temporary files do (``TMPDIR``), and nobody else can open it; its space is
    reserved. Where that cannot be, the columns are in memory.
    """
    found, size = None, 8 * shape[0] * shape[1]
    if size and 8 * shape[1] >= LEAST and sys.platform == "linux":
        with suppress(OSError), tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)
            made = mmap.mmap(file.fileno(), size)
            _MAPS.add(made)
            found = np.frombuffer(made, np.float64).reshape(shape)
    found = np.empty(shape) if found is None else found
    for column in found:
        column[:] = np.nan
        leave()
    return found


def let_go() -> None:
    """Give memory back to the system that it may have: of texts of Arrow, and of mapped numbers."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    leave()


def leave() -> None:
    """Let the pages of mapped numbers leave this process."""
    for one in _MAPS:
        one.madvise(mmap.MADV_DONTNEED)
