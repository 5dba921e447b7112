"""This process among its peers, and what all of them decide together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from medmcl.core import host
from medmcl.core.errors import ConfigError
from medmcl.engine.peers import Peers, peers_here
from medmcl.engine.rank_store import rank_and_size

V = TypeVar("V")


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Where this process computes.
        group: Process group of our own collectives; None in a world of one.
        started: Whether `start_world` made the default process group (and `stop_world` ends it).
        peers: The other ranks, as `medmcl.engine.peers.together` knows them; None without it.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None
    started: bool = False
    peers: Peers | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def at(self, place: str, *, in_step: bool = False) -> None:
        """Tell the others where this rank stands (`Peers.at`)."""
        if self.peers is not None:
            self.peers.at(place, in_step=in_step)


def start_world(device: str = "auto", *, init_method: str | None = None) -> World:
    """Join the processes that torchrun (or Ray) started, or be the only one.

    Args:
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        init_method: How ranks find one another where they are not `together`; the environment's
            way if not given.

    Raises:
        ConfigError: If a GPU is asked for and there is none for this process, or the environment
            tells of ranks in part.
    """
    rank, size = rank_and_size()
    place = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        return World(device=place)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    started, peers = not dist.is_initialized(), peers_here()
    if started:
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            init_method=init_method,
            store=None if peers is None else peers.meeting,
            timeout=None if peers is None else timedelta(seconds=peers.timeout + 60),  # we say it
            rank=rank,
            world_size=size,
            device_id=place if place.type == "cuda" else None,
        )
    return World(rank, size, place, dist.new_group(), started, peers)


def stop_world(world: World) -> None:
    """Leave the processes that `start_world` joined."""
    if world.size > 1 and world.started and dist.is_initialized():
        dist.destroy_process_group()


def pick_device(device: str, local_rank: int = 0) -> torch.device:
    """Choose the device of a process: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device not in ("auto", "cuda") and not device.startswith("cuda:"):
        raise ConfigError("unknown device", got=device, expected="auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise ConfigError("there is no CUDA device here", got=device, fix="use --device cpu")
    number = device.removeprefix("cuda:") if ":" in device else str(local_rank)
    if not number.isdigit() or int(number) >= torch.cuda.device_count():
        raise ConfigError(
            f"there is no CUDA device {number}",
            expected=f"a number below {torch.cuda.device_count()}",
            fix="start no more processes on a machine than it has GPUs",
        )
    return torch.device("cuda", int(number))


def own_part(rows: np.ndarray, world: World) -> tuple[np.ndarray, int]:
    """Give this rank's part of a global batch, and the place in it where the part begins."""
    parts = np.array_split(rows, world.size)
    return parts[world.rank], sum(len(part) for part in parts[: world.rank])


def any_rank(flag: bool, world: World) -> bool:
    """Tell every rank whether ``flag`` holds on at least one. All ranks must call it."""
    if world.size == 1:
        return flag
    raised = torch.tensor([int(flag)], device=world.device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=world.group)
    return bool(host.read(raised)[0])


def total(x: Tensor, world: World) -> Tensor:
    """Give the sum of ``x`` over the ranks, without gradient. All ranks must call it."""
    return _reduced(x, world, dist.ReduceOp.SUM)


def counts_of_ranks(rows: int, world: World) -> list[int]:
    """Give how many rows each rank has. All ranks must call it."""
    if world.size == 1:
        return [rows]
    every = torch.empty(world.size, dtype=torch.int64, device=world.device)
    own = torch.tensor([rows], dtype=torch.int64, device=world.device)
    dist.all_gather(list(every.split(1)), own, group=world.group)
    return [int(one) for one in host.read(every)]


def pass_on(tensors: Sequence[Tensor], rows: int, world: World) -> Callable[[], list[Tensor]]:
    """Send tensors to the next rank, the last one's to the first; take those of the one before.

    Args:
        tensors: (B, ...) each; not to be written to until it has been waited for what comes.
        rows: How many rows those that come have; their widths and types are those of ``tensors``.
        world: The ranks; all must call, with as many tensors.

    Returns:
        What waits for those that come, and gives them.
    """
    ends = (world.rank + 1) % world.size, (world.rank - 1) % world.size
    sent = [x.contiguous() for x in tensors]
    coming = [x.new_empty((rows, *x.shape[1:])) for x in tensors]
    orders = [
        dist.P2POp(how, x, end, group=world.group)
        for how, end, side in zip((dist.isend, dist.irecv), ends, (sent, coming), strict=True)
        for x in side
        if x.numel()
    ]
    under_way = dist.batch_isend_irecv(orders) if orders else []

    def arrived() -> list[Tensor]:
        for one in under_way:
            one.wait()
        sent.clear()  # which were read until now
        return coming

    return arrived


def highest(x: Tensor, world: World) -> Tensor:
    """Give the maximum of each element over the ranks. All ranks must call it."""
    return _reduced(x, world, dist.ReduceOp.MAX)


def _reduced(x: Tensor, world: World, how: Any) -> Tensor:
    if world.size == 1:
        return x
    reduced = x.detach().clone()
    dist.all_reduce(reduced, how, group=world.group)
    return reduced


def broadcast(value: V, world: World) -> V:
    """Give every rank what rank 0 holds (any value that can be pickled between our own ranks)."""
    if world.size == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, group=world.group, device=world.device)
    received: V = box[0]
    return received


def barrier(world: World, what: str = "the others", *, heeds: bool = True) -> None:
    """Wait until every rank is here; ``what`` for, others may be told (`Peers.wait`)."""
    if world.peers is None:
        any_rank(False, world)
    else:
        world.peers.wait(what, heeds=heeds)
