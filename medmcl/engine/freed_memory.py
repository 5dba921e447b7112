"""Memory that a step gave back stays with the process, for the next step."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache

_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
KEPT = 2**29
"""Bytes above which memory that was freed goes back to the system."""
_MAPPED = 2**25
"""Bytes from which memory is asked of the system by itself; the most that glibc goes to."""


@cache
def keep_freed() -> None:
    """Let glibc keep up to `KEPT` bytes that this process freed.

    A step frees what it allocated. By itself glibc gives that back from some MB on, and the system
    clears every page that the next step asks for: of a step of `ecg_cmr_toy` a fifth of the CPU
    seconds. Who set ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_`` is heeded.
    """
    asked = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys()
    if asked or sys.platform != "linux":
        return
    with suppress(AttributeError):  # musl has none
        tell = ctypes.CDLL(None).mallopt
        tell(_TRIM, KEPT)
        tell(_MAP, _MAPPED)
