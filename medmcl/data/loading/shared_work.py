"""Work that several processes share in parts: each part is made once, whoever makes it.

What is one part depends on the work alone, so that whoever makes it makes the same. A process has
the parts of its shard. It claims each while it makes it; the claim of one that was killed is free,
and a shard that is started again, or twice, makes what is not there. Whoever finds all joins them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.file_lock import alone, sweep_lock
from medmcl.core.findings import counted

log = logging.getLogger("medmcl")
T = TypeVar("T")
MOST_PARTS = 64
LARGEST_PART = 1024
"""Records of a part, at most: what is lost with a process that is killed."""


@dataclass(frozen=True)
class Shard:
    """Which parts are made: of every ``of`` the one with this number, from 1."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read ``2/8``.

        Raises:
            ConfigError: It is something else.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found and 1 <= int(found[1]) <= int(found[2]):
            return cls(int(found[1]), int(found[2]))
        raise ConfigError(
            "is no shard",
            where="--shard",
            got=text or "''",
            expected="counted from 1: 1/8 to 8/8, for example",
        )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, part: int) -> bool:
        """Whether a part is one of its own."""
        return part % self.of == self.number - 1


@dataclass(frozen=True)
class Parts:
    """How shared work stands; where it is whole, nothing is missing.

    Attributes:
        own: Parts that were this shard's.
        of: Parts that there are.
        missing: Those that other shards have not made yet.
    """

    own: int = 0
    of: int = 0
    missing: int = 0

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.own + other.own, self.of + other.of, self.missing + other.missing)

    def told(self, shard: Shard | str, last: str, why_none: str = "there are not more") -> str:
        """Say what a shard did, and what is left for others; ``last``: what the last of them does.

        ``why_none`` says why some shards have no part.
        """
        of = counted(self.of, "part")
        did = f"is done ({self.own} of {of})"
        if not self.own:
            did = f"has nothing to do: {of} {why_none}"
        is_one = self.missing == 1
        return (
            f"shard {shard} {did}; {counted(self.missing, 'part')} of other shards "
            f"{'is' if is_one else 'are'} missing, and whoever makes "
            f"{'it' if is_one else 'the last of them'} {last}"
        )


def part_size(count: int, unit: int = 1) -> int:
    """Give how many of ``count`` records are one part: so many whole units, as batches are."""
    units = -(-count // unit)
    return unit * max(1, min(LARGEST_PART // unit, -(-units // MOST_PARTS)))


def made_once(path: Path, doing: str, read: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Give what is there, or what is made here while nobody else makes it.

    Args:
        path: What is made; its folder must exist.
        doing: What goes on (``a part is being read``), for the message to whoever comes second.
        read: Gives it if it is there.
        make: Makes it, and gives it.
    """
    found = read()
    if found is not None:
        sweep_lock(path)  # of who was killed once it was whole
        return found
    with claim(path, doing, harmless=True):
        found = read()
        if found is not None:
            return found
        try:
            return make()
        except (OSError, MedmclError):
            found = read()  # of who was taken for dead, and made it meanwhile
            if found is None:
                raise
            return found


@contextmanager
def claim(
    path: Path,
    doing: str,
    *,
    harmless: bool = False,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[None]:
    """Be the only one who makes something; wait for another, and say once for whom.

    Args:
        path: What is made; its folder must exist.
        doing: What goes on, for that message.
        harmless: As for `medmcl.core.file_lock.alone`.
        meanwhile: Called again and again until it is free.
    """
    told: set[str] = set()

    def waiting(owner: str) -> None:
        if owner not in told:
            log.info("%s: %s by %s; waiting for it", path, doing, owner)
            told.add(owner)
        meanwhile()

    with alone(path, doing, wait=waiting, harmless=harmless):
        yield
