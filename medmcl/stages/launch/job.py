"""What is started on a cluster: one command, as ranks of one training run or as shards."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmcl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command and how many processes share it.

    Attributes:
        words: The command line after ``medmcl``.
        given: Every parameter that the command takes, by name, and its value.
        nodes: Machines.
        devices: Processes on each machine, one device each.
        shards: Processes that each make a share of what is written, and know nothing of one
            another.

    Raises:
        ConfigError: The command cannot be shared so, or does not say where it writes.
    """

    words: Sequence[str]
    given: Mapping[str, Any]
    nodes: int = 1
    devices: int = 1
    shards: int = 1

    def __post_init__(self) -> None:
        self._refuse("shard", self.shards, "--shards", unset=None)
        self._refuse("devices", self.ranks, "--nodes and --devices", unset=1)
        if self.shards == 1 and "out" in self.given and self.given["out"] is None:
            raise ConfigError(
                "--out is missing: all processes write the same, and so does a job that goes on",
                where=self.command,
                fix="add --out PATH",
            )

    def _refuse(self, name: str, count: int, asked: str, unset: Any) -> None:
        if count > 1 and name not in self.given:
            raise ConfigError(
                f"takes no --{name}, so {count} processes cannot share it",
                where=self.command,
                fix=f"leave out {asked}",
            )
        if self.given.get(name, unset) != unset:
            raise ConfigError(
                f"--{name} is said by `medmcl launch`",
                where=self.command,
                got=f"--{name} {self.given[name]}",
                fix=f"leave it out, and say {asked} before --",
            )

    @property
    def command(self) -> str:
        """The command, as errors call it."""
        return f"medmcl {self.words[0]}"

    @property
    def name(self) -> str:
        """What queues call it."""
        return f"medmcl-{self.words[0]}"

    @property
    def ranks(self) -> int:
        """Processes of one training run."""
        return self.nodes * self.devices

    @property
    def wants_gpus(self) -> bool:
        """Whether each process is to have a GPU of its own."""
        return (self.given.get("device") or "cpu") != "cpu"

    def typed(self, shard: str | None = None) -> list[str]:
        """Give the words that a process runs; what was begun goes on."""
        words = [sys.executable, "-m", "medmcl", *self.words]
        if self.given.get("resume") is False:
            words.append("--resume")
        return words if shard is None else [*words, "--shard", shard]
