"""Numbers of many people in a file without a name, whose pages leave the process when asked.

A process that reads on meets its pages again: the system keeps them as long as nobody else wants
the memory, and has the file where somebody does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from contextlib import suppress

import numpy as np

LEAST = 2**19
"""Bytes from which an array is mapped."""
_FILLED = 2**17
_ROWS = 2**14
_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def unnamed(shape: tuple[int, ...]) -> np.ndarray:
    """Give an array of NaN to write into, float64; a large one is mapped to a file without a name.

    The file lies where temporary files do (``TMPDIR``), and nobody else can open it; its space is
    reserved. Where that cannot be, the array is in memory.
    """
    found, size = None, 8 * int(np.prod(shape))
    if size >= LEAST and sys.platform == "linux":
        with suppress(OSError), tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, size)
            made = mmap.mmap(file.fileno(), size)
            leaves(made)
            found = np.frombuffer(made, np.float64)
    found = np.empty(size // 8) if found is None else found
    for start in range(0, len(found), _FILLED):
        found[start : start + _FILLED] = np.nan
        leave()
    return found.reshape(shape)


def held(numbers: np.ndarray) -> np.ndarray:
    """Give the same float64 numbers, of many mapped as `unnamed` says."""
    found = unnamed(numbers.shape)
    for start in range(0, len(numbers), _ROWS):
        found[start : start + _ROWS] = numbers[start : start + _ROWS]
        leave()
    return found


def taken(numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Give ``numbers[rows]`` as float64, rows by their places; what is mapped leaves on the way."""
    found = np.empty((len(rows), *numbers.shape[1:]))
    for start in range(0, len(rows), _ROWS):
        found[start : start + _ROWS] = numbers[rows[start : start + _ROWS]]
        leave()
    return found


def leaves(mapped: mmap.mmap) -> None:
    """Let the pages of a file leave this process whenever those of numbers do.

    Args:
        mapped: The file; what is written into it must be shared with it, or nothing be written.
    """
    if sys.platform == "linux":
        _MAPS.add(mapped)


def let_go() -> None:
    """Give memory back to the system that it may have: of texts of Arrow, and of mapped files.

    And what glibc holds of freed arrays: it keeps up to twice the size of the largest of them.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library keeps as much as it likes
            ctypes.CDLL(None).malloc_trim(0)
    leave()


def leave() -> None:
    """Let the pages of mapped numbers, and of prepared rows, leave this process."""
    for one in _MAPS:
        one.madvise(mmap.MADV_DONTNEED)
