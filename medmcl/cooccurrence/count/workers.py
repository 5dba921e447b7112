"""One function over many jobs: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from medmcl.cooccurrence.count.on_ray import map_on_ray
from medmcl.core.children import begin, deaf_to_ctrl_c
from medmcl.core.errors import MedmclError

R = TypeVar("R")


def run_jobs(
    function: Callable[..., R], jobs: Sequence[tuple[Any, ...]], *, workers: int, ray: bool = False
) -> list[R]:
    """Give what ``function(*job)`` gives for each job, in their order.

    Args:
        function: Of a module, so that another process finds it.
        jobs: Arguments of each call.
        workers: Processes; with 1 the work is done in this one.
        ray: Map over a Ray cluster instead. Its nodes must see the files under the same paths.

    Raises:
        MedmclError: A process was killed, for example for want of memory.
        ExtraNotInstalledError: Ray is asked for and not installed.
        ConfigError: The Ray cluster does not answer.
        ArtefactError: Ray gave up a job.
    """
    if ray:
        return map_on_ray(function, jobs)
    if workers <= 1 or len(jobs) <= 1:
        return [function(*job) for job in jobs]
    return _in_processes(function, jobs, min(workers, len(jobs)))


def _in_processes(
    function: Callable[..., R], jobs: Sequence[tuple[Any, ...]], workers: int
) -> list[R]:
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=begin, initargs=(os.getpid(), stop)
    ) as pool:
        try:
            with deaf_to_ctrl_c():
                waiting = [pool.submit(function, *job) for job in jobs]
            return [one.result() for one in waiting]
        except KeyboardInterrupt:
            stop.set()  # else the end of the block waits until their shards are counted
            raise
        except BrokenProcessPool:
            raise MedmclError(
                "a process that was counting died",
                expected="that it ends by itself",
                fix="it may have run out of memory: fewer --workers, or a smaller memory in the "
                "spec; --resume goes on with what was counted",
            ) from None
