"""One function over many jobs: here, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import Any, TypeVar

from medmcl.core.errors import ExtraNotInstalledError

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
        ExtraNotInstalledError: Ray is asked for and not installed.
    """
    if ray:
        return _on_ray(function, jobs)
    if workers <= 1 or len(jobs) <= 1:
        return [function(*job) for job in jobs]
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        return [one.result() for one in [pool.submit(function, *job) for job in jobs]]


def _on_ray(function: Callable[..., R], jobs: Sequence[tuple[Any, ...]]) -> list[R]:
    try:
        ray = import_module("ray")
    except ImportError:
        raise ExtraNotInstalledError("ray", "ray") from None
    if not ray.is_initialized():
        ray.init()
    remote = ray.remote(function)
    found: list[R] = ray.get([remote.remote(*job) for job in jobs])
    return found
