"""Processes that work beside this one, for as long as somebody lends them.

`each` sends records to processes of their own; `beside` lets copies of this one do a part of what
is in its memory already.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import pickle
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from medmcl.core.children import begin, deaf_to_ctrl_c
from medmcl.core.errors import MedmclError

if TYPE_CHECKING:
    import numpy as np

A = TypeVar("A")
B = TypeVar("B")

_TRIED = 32
"""So many items are done here first, to see how long the rest would take."""
_WORTH_SECONDS = 4.0
"""Below this the start of processes, which import medmcl, takes longer than the work."""
_WORTH_COPIES = 0.3
"""Copies of this process join in where what is left takes so many seconds; to begin one, and to
end it, takes about .05."""
_SHARES = 2**10
"""Numbers that the smallest pipe holds, 4 bytes each."""
_CHUNK = 64
_MOST = 8

_lent: ContextVar[_Processes | None] = ContextVar("processes", default=None)


class ProcessDiedError(MedmclError):
    """A process that did a part of the work was killed."""


class _Processes:
    """A pool that starts when it is first needed.

    They are no copies of this process: what an adapter keeps open, a file or a database, would be
    one and the same in all, and each would move where the others read.
    """

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
    """Let ``count`` processes read records, and this one and copies evaluate; 0 or 1: this one.

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


def lent() -> int:
    """Give the number of processes that may share the work of `beside`, this one among them."""
    processes = _lent.get()
    return 1 if processes is None or sys.platform != "linux" else processes.count


def each(work: Callable[[A], B], items: Sequence[A]) -> Iterator[B]:
    """Do work on each item, in order, in the lent processes if that is worth it.

    Args:
        work: Function of a module, or a partial of one; what it gives does not depend on where.
        items: What it works on.

    Raises:
        ProcessDiedError: A process was killed, for example for want of memory.
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
        raise _died("reading records") from None
    finally:
        for future in waiting:
            future.cancel()


def _chunk(work: Callable[[Any], B], items: Sequence[Any]) -> list[B]:
    return [work(item) for item in items]


def beside(
    work: Callable[[A], B],
    items: Sequence[A],
    *,
    forks: bool = True,
    at_once: bool = False,
    told: Callable[[int], object] | None = None,
) -> Iterator[B]:
    """Do work on each item, in order; from some moment on copies of this process do a part.

    A copy (fork) has all that this process holds and takes no memory for it; what the work gives is
    sent back, and held until all is done: much of it belongs in a `shared_array`. As many copies
    as processes are lent, less one, and none where the work is short. On Linux alone: elsewhere
    libraries do not bear a copy.

    Args:
        work: What it gives does not depend on where, nor on what other items gave; it pickles.
        items: What it works on.
        forks: Whether copies may do it: not what computes on a GPU, or by several threads.
        at_once: Whether they do from the first item on: each takes long.
        told: Called here with the number of items that somebody has begun or done.

    Raises:
        ProcessDiedError: A copy was killed, for example for want of memory; the others go on first.
        Exception: Of the first item whose work failed; where a copy raised it, a note says where.
    """
    processes, began = _lent.get(), time.monotonic()
    apart = forks and processes is not None and sys.platform == "linux"
    for number, item in enumerate(items):
        if told is not None:
            told(number)
        left = len(items) - number
        rest = (time.monotonic() - began) / number * left if number else 0.0
        if apart and left > 1 and (at_once or rest >= _WORTH_COPIES):
            assert processes is not None
            numbers, copies = range(number, len(items)), min(processes.count, left) - 1
            yield from _in_copies(work, items, numbers, copies, told)
            return
        yield work(item)


def shared_array(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Give an array of zeros that copies of this process write into as well (`beside`).

    Rows of many people would otherwise be held three times: in a copy, as it sends them, and here.
    It stays shared: what a later copy writes into it stands here, too.

    Raises:
        MemoryError: There is not so much.
    """
    import numpy as np

    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size == 0 or sys.platform != "linux":
        return np.zeros(shape, dtype)
    try:
        held = mmap.mmap(-1, size)
    except OSError as error:
        raise MemoryError(f"{size:,} bytes") from error
    return np.frombuffer(held, dtype).reshape(shape)


def _in_copies(
    work: Callable[[A], B],
    items: Sequence[A],
    numbers: range,
    copies: int,
    told: Callable[[int], object] | None,
) -> Iterator[B]:
    """Do the work of `beside` on some items here and in copies: who is free takes the next."""
    waiting, giving = os.pipe()
    step = -(-len(numbers) // _SHARES)
    os.write(giving, b"".join(number.to_bytes(4, "little") for number in numbers[::step]))
    os.close(giving)

    own = partial(_taken, work, items, waiting, step)
    started, context = [], get_context("fork")
    try:
        with deaf_to_ctrl_c():
            for _ in range(copies):
                answer, tell = context.Pipe(duplex=False)
                given = (own, os.getpid(), tell)
                one = context.Process(target=_copy, args=given, daemon=True)
                one.start()
                tell.close()
                started.append((one, answer))
        done, failed = own(told)
        died = False
        for _, answer in started:
            try:
                more, wrong = answer.recv()
            except EOFError:
                died = True  # what others do goes on to its end
                continue
            done, failed = done | more, failed | wrong
    finally:
        for one, answer in started:
            one.kill()
            one.join()
            answer.close()
        os.close(waiting)
    if died:
        raise _died("working beside this one")
    if failed:
        raise failed[min(failed)]
    yield from (done[number] for number in numbers)


def _taken(
    work: Callable[[A], B],
    items: Sequence[A],
    waiting: int,
    step: int,
    told: Callable[[int], object] | None = None,
) -> tuple[dict[int, B], dict[int, Exception]]:
    """Do ``step`` items from each number on that this process reads of a pipe, until one fails."""
    done: dict[int, B] = {}
    while taken := os.read(waiting, 4):
        first = int.from_bytes(taken, "little")
        for number in range(first, min(first + step, len(items))):
            if told is not None:
                told(number)
            try:
                done[number] = work(items[number])
            except Exception as error:
                while os.read(waiting, 4 * _SHARES):  # nobody begins another
                    pass
                return done, {number: error}
    return done, {}


def _copy(own: Callable[[], tuple[dict[int, Any], Any]], parent: int, tell: Connection) -> None:
    from threadpoolctl import threadpool_limits

    begin(parent)
    gc.freeze()  # what the parent holds is the parent's to end
    _lent.set(None)
    threadpool_limits(1, user_api="openmp")  # a copy waits for ever for the parent's threads
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # MKL, which it holds, counts its own
    done, failed = own()
    for number, error in failed.items():
        where = "".join(traceback.format_exception(error))  # a traceback cannot be sent
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # of a library; its words can be sent
            failed[number] = RuntimeError(f"{type(error).__name__}: {error}")
        failed[number].add_note(f"raised in a process that was working beside this one:\n{where}")
    tell.send((done, failed))


def _died(doing: str) -> ProcessDiedError:
    return ProcessDiedError(
        f"a process that was {doing} died",
        expected="that it ends by itself",
        fix="it may have run out of memory: try fewer processes, or none (--workers 0)",
    )
