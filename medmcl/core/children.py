"""Processes that this one starts: Ctrl-C is the parent's to take, and none outlives it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

_LOOKS = 0.2
"""Seconds between looks at the parent."""


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, from their first moment on.

    A handler comes too late: a new process imports for seconds before it can set one. What is
    blocked stays so in who is started, and a Ctrl-C that comes meanwhile is taken afterwards.
    """
    mask = getattr(signal, "pthread_sigmask", None)  # not on Windows
    if mask is None:
        yield
        return
    before = mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        mask(signal.SIG_SETMASK, before)


def begin(parent: int, stop: Event | None = None) -> None:
    """Start of a process: leave Ctrl-C to the parent, end with it, or when told to.

    Args:
        parent: Its process id.
        stop: Set by the parent when the work is given up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent, stop), daemon=True).start()


def _watch(parent: int, stop: Event | None) -> None:
    while os.getppid() == parent:
        if stop is None:
            time.sleep(_LOOKS)
        elif stop.wait(_LOOKS):
            break
    os._exit(1)
