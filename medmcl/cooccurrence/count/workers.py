"""One function over many jobs: here, in processes of this machine, or on a Ray cluster.

Ray is connected to once, its chatter kept down, its failures told as ours.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from medmcl.core.children import begin, deaf_to_ctrl_c
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.findings import counted
from medmcl.core.lazy import import_extra

log = logging.getLogger(__name__)
R = TypeVar("R")
_PATIENCE = 10
"""Seconds in which a cluster has to answer."""


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Stay connected to Ray; leave it, or stop it if it was started for this, at the end.

    Raises:
        ExtraNotInstalledError: Ray is not installed.
        ConfigError: The cluster that RAY_ADDRESS names does not answer.
    """
    was_there = import_extra("ray", "ray").is_initialized()
    ray = connect()
    try:
        yield
    finally:
        if not was_there:
            ray.shutdown()


def connect() -> Any:
    """Connect to the cluster that RAY_ADDRESS names or that runs here; start one if none does.

    Raises:
        ExtraNotInstalledError: Ray is not installed.
        ConfigError: The cluster does not answer.
    """
    ray = import_extra("ray", "ray")
    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        # Raise OSError where nobody listens; Ray itself tries for many minutes
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
        ray.init(logging_level="ERROR")  # its warnings are of tokens and dashboards
    except OSError as error:
        raise ConfigError(
            "the Ray cluster does not answer",
            where=f"RAY_ADDRESS={address}",
            got=_first_line(error),
            fix="correct the address, start it (ray start --head), or leave RAY_ADDRESS out to "
            "count on this machine",
        ) from None
    log.info("Ray: %s, %d CPUs", counted(len(ray.nodes()), "node"), cluster_has("CPU"))
    return ray


def cluster_has(kind: str) -> int:
    """Give how many the cluster has of a kind: ``CPU``, ``GPU``."""
    return int(connect().cluster_resources().get(kind, 0))


def map_on_ray(
    function: Callable[..., R], jobs: Sequence[tuple[Any, ...]], *, gpus: int = 0
) -> list[R]:
    """Give what ``function(*job)`` gives for each job, in their order; a task has one CPU.

    Ray starts a task again whose worker died, up to three times. Where this ends early, running
    tasks end with the connection (`ray_cluster`); cancelling them can end the process instead
    (seen with Ray 2.60).

    Raises:
        MedmclError: The first that a job raised.
        ArtefactError: Ray gave up a job.
    """
    ray = connect()
    remote = ray.remote(function)
    remote = remote.options(num_gpus=gpus) if gpus else remote
    try:
        found: list[R] = ray.get([remote.remote(*job) for job in jobs])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, MedmclError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ArtefactError(
            "Ray gave up",
            where=function.__name__,
            got=f"{type(error).__name__}: {_first_line(error)}",
            fix="see that its nodes have memory, medmcl installed and the same paths",
        ) from None
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


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
    context = get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=context, initializer=begin, initargs=(os.getpid(), stop)
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
