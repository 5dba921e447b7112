"""Processes that read records beside this one, for as long as somebody lends them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing import get_context
from typing import Any, TypeVar

from medmcl.core.children import begin, deaf_to_ctrl_c
from medmcl.core.errors import MedmclError

A = TypeVar("A")
B = TypeVar("B")

_TRIED = 32
"""So many items are done here first, to see how long the rest would take."""
_WORTH_SECONDS = 4.0
"""Below this the start of processes, which import medmcl, takes longer than the work."""
_CHUNK = 64
_MOST = 8

_lent: ContextVar[_Processes | None] = ContextVar("processes", default=None)


class _Processes:
    """A pool that starts when it is first needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool: ProcessPoolExecutor | None = None

    def start(self) -> ProcessPoolExecutor:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                self.count,
                mp_context=get_context("spawn"),
                initializer=begin,
                initargs=(os.getpid(),),
            )
        return self.pool

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)


def processors() -> int:
    """Give the number of processes worth lending: one a processor of this machine, at most 8."""
    return min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)


@contextmanager
def worker_pool(count: int) -> Iterator[None]:
    """Let records be read by ``count`` processes; 0 or 1 reads in this one.

    They start when there is work of some seconds, and end with the block. A script that lends
    them must guard its main part with ``if __name__ == "__main__"``, as Python asks of all that
    start processes.
    """
    processes = _Processes(count) if count > 1 else None
    token = _lent.set(processes)
    try:
        yield
    finally:
        _lent.reset(token)
        if processes is not None:
            processes.close()


def each(work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
    """Do work on each item, in order, in the lent processes if that is worth it.

    Args:
        work: Function of a module, or a partial of one; what it gives does not depend on where.
        items: What it works on.

    Raises:
        MedmclError: A process was killed, for example for want of memory.
    """
    processes = _lent.get()
    if processes is None or len(items) <= _TRIED:
        yield from map(work, items)
        return
    spent = 0.0
    for item in items[:_TRIED]:
        started = time.monotonic()
        done = work(item)
        spent += time.monotonic() - started
        yield done
    rest = items[_TRIED:]
    if spent / _TRIED * len(rest) < _WORTH_SECONDS:
        yield from map(work, rest)
        return
    yield from _in_processes(work, rest, processes)


def _in_processes(work: Callable[[A], B], items: Sequence[A], processes: _Processes) -> Iterator[B]:
    size = max(1, min(_CHUNK, len(items) // (4 * processes.count)))
    chunks = (items[first : first + size] for first in range(0, len(items), size))
    waiting: deque[Future[list[B]]] = deque()
    try:
        pool = processes.start()
        for chunk in chunks:
            with deaf_to_ctrl_c():  # processes start as work comes
                waiting.append(pool.submit(_chunk, work, chunk))
            if len(waiting) > 3 * processes.count:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise MedmclError(
            "a process that was reading records died",
            expected="that it ends by itself",
            fix="it may have run out of memory: try fewer processes, or none (--workers 0)",
        ) from None
    finally:
        for future in waiting:
            future.cancel()


def _chunk(work: Callable[[Any], B], items: Sequence[Any]) -> list[B]:
    return [work(item) for item in items]
