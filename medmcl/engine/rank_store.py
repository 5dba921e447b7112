"""Where ranks meet: what the environment tells of them, and the store of their messages."""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import timedelta
from typing import Any

from medmcl.core.errors import ConfigError
from medmcl.engine.signals import Interrupted, StopRequest

FAULT = 1
"""Exit code of all ranks where one failed by no mistake of the user's."""
RESUME = "what is saved is whole: the same command with --resume goes on"

_stores: dict[tuple[str, int], Any] = {}


class EndedTogether(Exception):  # noqa: N818 - an event, not an error
    """The run has ended, on all ranks.

    Args:
        code: Exit code of all.
        said: What this rank is to say; empty where another says it.
    """

    def __init__(self, code: int, said: str = "") -> None:
        super().__init__(said or "another rank ended the run, and said why")
        self.code, self.said = code, said


def rank_and_size() -> tuple[int, int]:
    """Number of this process and how many there are, as torchrun and its like tell them.

    Raises:
        ConfigError: They are told in part, or make no sense.
    """
    named = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")}
    if not any(named.values()) or (named["WORLD_SIZE"] == "1" and not named["RANK"]):
        return 0, 1
    said = ", ".join(f"{name}={value}" for name, value in named.items() if value)
    fix = "start ranks by `medmcl pretrain --devices N` or torchrun, or unset these variables"
    if not all(named.values()):
        absent = next(name for name, value in named.items() if not value)
        raise ConfigError(f"{absent} is not set in the environment", got=said,
                          expected="RANK and WORLD_SIZE, both or neither", fix=fix)  # fmt: skip
    try:
        rank, size = int(named["RANK"]), int(named["WORLD_SIZE"])
    except ValueError:
        rank, size = 0, 0
    if not 0 <= rank < size:
        raise ConfigError("the environment names no rank", got=said,
                          expected="0 <= RANK < WORLD_SIZE, whole numbers", fix=fix)  # fmt: skip
    return rank, size


def address_told() -> tuple[str, int]:
    """Host and port where ranks meet; `ConfigError` if the environment does not say."""
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigError(
            "the environment does not say where ranks meet",
            got=f"MASTER_ADDR={host}, MASTER_PORT={port}",
            expected="name of the first rank's machine, and a free port there",
            fix="start ranks by `medmcl pretrain --devices N` or torchrun, or set both",
        )
    return host, int(port)


def join_store(rank: int, size: int, timeout: float, stop: StopRequest) -> Any:
    """Give the store in which ranks leave messages; the first rank, or its launcher, holds it."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what is wrong, we say
    from torch import distributed as dist

    address = address_told()
    if address in _stores:
        return _stores[address]
    holds = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    where = "{}:{}".format(*address)
    if not holds:
        _reach(address, timeout, stop)
    found: list[Any] = []

    def connect() -> None:
        try:
            wait = timedelta(seconds=timeout)
            found.append(dist.TCPStore(*address, size, holds, wait, wait_for_workers=False))
        except (RuntimeError, ValueError, OSError) as error:
            found.append(error)

    threading.Thread(target=connect, daemon=True).start()  # what answers may be no store of ours
    end = time.monotonic() + timeout
    while not found and time.monotonic() < end:
        heed_stop(stop, "meeting the other ranks")
        time.sleep(0.02)
    if not found or isinstance(found[0], BaseException):
        taken = holds and "EADDRINUSE" in str(*found)
        raise ConfigError(
            "the port where ranks meet is taken by another process"
            if taken
            else "what answers where ranks meet is no rank of this run",
            where=f"MASTER_ADDR:MASTER_PORT, {where}",
            fix="set MASTER_PORT (torchrun: --master-port) to a free one",
        )
    _stores[address] = found[0]
    return found[0]


def _reach(address: tuple[str, int], timeout: float, stop: StopRequest) -> None:
    where = "MASTER_ADDR:MASTER_PORT, {}:{}".format(*address)
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(address, timeout=min(5.0, timeout)).close()
        except OSError as error:
            if time.monotonic() > end:
                raise EndedTogether(
                    FAULT,
                    f"error: {where}: the first rank does not answer for {timeout:g} s: {error}\n"
                    "  to look:  was rank 0 started, does it live, and what does it say?\n"
                    f"  to fix:   {RESUME}; --rank-timeout SECONDS waits longer",
                ) from None
            heed_stop(stop, "meeting the other ranks")
            time.sleep(0.1)
        else:
            return


def forget_store() -> None:
    """Join anew next time."""
    _stores.pop(address_told(), None)


def heed_stop(stop: StopRequest, doing: str) -> None:
    """Stop here if a signal came, for work that is done again on resume."""
    if stop.asked:
        raise Interrupted(f"stopped while {doing}; what was finished before it is saved")
