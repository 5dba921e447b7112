"""Counts of some shards on disk, so that a run that was killed goes on where it was.

A part is the sum over a list of shards, written whole or not at all. It says which shards, by a
hash of their bytes, and under which settings; a shard that changed since makes the part invalid.
It holds sums over patients as exact as the counts, so it stays at the site.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.state import absorb, state_of
from medmcl.core.atomic import file_aside
from medmcl.core.errors import ArtefactError

VERSION = 1
"""Counted into the settings; a change of what is counted raises it."""
_SHARE_OF_TIME = 20
"""A part is written when counting has taken this many times as long as writing it last did."""


@dataclass(frozen=True)
class Shard:
    """A file of events, and a hash of its bytes."""

    path: Path
    hash: str


@dataclass(frozen=True)
class Part:
    """A part on disk: the hashes of its shards, and the settings it was counted with."""

    path: Path
    shards: tuple[str, ...]
    settings: str


def hash_shard(path: Path) -> Shard:
    """Hash the bytes of a shard."""
    with path.open("rb") as file:
        return Shard(path, hashlib.file_digest(file, "sha256").hexdigest()[:32])


def list_parts(folder: Path) -> list[Part]:
    """Give the parts in a folder; what was not written whole is no part."""
    return [_head(path) for path in sorted(folder.glob("part-*.npz"))]


class PartWriter:
    """Writes a counter's sums after shards, now and then."""

    def __init__(self, path: Path, settings: str) -> None:
        self.path, self._settings = path, settings
        self._done: list[str] = []
        self._began, self._cost = time.monotonic(), 0.0

    def after(self, shard: Shard, counter: PairCounter, *, last: bool) -> None:
        """Note a shard as counted, and write the part if it is time."""
        self._done.append(shard.hash)
        if not last and time.monotonic() - self._began < _SHARE_OF_TIME * self._cost:
            return
        before = time.monotonic()
        self._write(counter)
        self._began = time.monotonic()
        self._cost = self._began - before

    def _write(self, counter: PairCounter) -> None:
        head = {"shards": self._done, "settings": self._settings}
        arrays: dict[str, Any] = {"head": np.array(json.dumps(head)), **state_of(counter)}
        with file_aside(self.path) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)


def absorb_parts(counter: PairCounter, parts: Sequence[Part]) -> None:
    """Add the sums of parts to a counter.

    Raises:
        ArtefactError: A part is damaged.
    """
    for part in parts:
        try:
            with part.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                absorb(counter, {key: arrays[key] for key in arrays.files if key != "head"})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise _damaged(part.path, error) from None


def _head(path: Path) -> Part:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            head = json.loads(str(arrays["head"]))
        return Part(path, tuple(head["shards"]), head["settings"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        "is no whole part of a count",
        where=path,
        got=str(error)[:200],
        fix="remove it: its shards are then counted again",
    )
