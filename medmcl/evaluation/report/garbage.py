"""Work that makes many objects, in a process that already holds many."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def old_objects_passed_over() -> Iterator[None]:
    """Let the garbage collector pass over what exists already, in a block or a function.

    A report makes some hundred thousand objects beside the several hundred thousand of a loaded
    library and cohort; without this the collector walks through all of them again and again: a
    sixth of the CPU seconds of a small report. What becomes garbage in cycles among the old is
    found after the block. Where a caller has frozen objects of its own, nothing changes.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
