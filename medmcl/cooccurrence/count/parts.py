"""Counts of some shards on disk, so that a run that was killed goes on where it was.

A part is the sum over a list of shards, written whole or not at all. It says which shards, by a
hash of their bytes, and under which settings; a shard that changed since makes the part invalid.
It holds sums over patients as exact as the counts, so it stays at the site.

Parts lie in the folder beside the counts in which a count works; `keeping` says what becomes of it
when a count ends early. It holds events of patients too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.counts import Block, Margin
from medmcl.cooccurrence.count.items import Tally
from medmcl.core.atomic import file_aside
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, damage
from medmcl.core.limits import parse_json, refuse_odd_file

VERSION = 2
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
        head = {"shards": self._done, "settings": self._settings}
        arrays: dict[str, Any] = {"head": np.array(json.dumps(head)), **state_of(counter)}
        with file_aside(self.path) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)
        self._began = time.monotonic()
        self._cost = self._began - before


def absorb_parts(counter: PairCounter, parts: Sequence[Part]) -> None:
    """Add the sums of parts to a counter.

    Raises:
        ArtefactError: A part is damaged.
    """
    for part in parts:
        with (
            _whole(part.path),
            part.path.open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            absorb(counter, {key: arrays[key] for key in arrays.files if key != "head"})


def _head(path: Path) -> Part:
    with _whole(path):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            head = parse_json(str(arrays["head"]))
        return Part(path, tuple(head["shards"]), head["settings"])


def _whole(path: Path) -> AbstractContextManager[None]:
    refuse_odd_file(path, ArtefactError)
    fix = "remove it: its shards are then counted again"
    return damage(path, "is no whole part of a count", error=ArtefactError, fix=fix)


def state_of(counter: PairCounter) -> dict[str, np.ndarray]:
    """Give all sums so far as plain arrays (see `absorb`)."""
    found = {
        "scalars": np.array([counter.units, counter.patients, *counter.tally.as_dict().values()])
    }
    for number, (name, margin) in enumerate(counter.margins.items()):
        assert margin.patients is not None  # the counter always counts them
        assert margin.most is not None
        values = [margin.tokens, margin.pairs, margin.patients, margin.most]
        found[f"margin/{number}"] = np.stack(values)
        found[f"diagonal/{number}"] = np.stack(counter.diagonals[name])
    for number, total in enumerate(counter.sums.values()):
        block = total.peek()
        for kind, matrix in (("pairs", block.pairs), ("people", block.patients)):
            if matrix is not None:
                for part in ("data", "indices", "indptr"):
                    values = getattr(matrix, part)
                    small = values.max(initial=0) < 1 << 32  # nothing is lost in 32 bits
                    values = values.astype(np.uint32) if small else values
                    found[f"block/{number}/{kind}/{part}"] = values
    return found


def absorb(counter: PairCounter, state: Mapping[str, np.ndarray]) -> None:
    """Add the sums of another counter with the same vocabularies and rules."""
    scalars = state["scalars"].tolist()
    counter.units += scalars[0]
    counter.patients += scalars[1]
    counter.tally += Tally(*scalars[2:])
    for number, name in enumerate(counter.vocabularies):
        counter.margins[name] = counter.margins[name] + Margin(*state[f"margin/{number}"])
        more, mine = state[f"diagonal/{number}"], counter.diagonals[name]
        counter.diagonals[name] = (mine[0] + more[0], mine[1] + more[1])
    for number, ((a, b), total) in enumerate(counter.sums.items()):
        shape = (len(counter.vocabularies[a]), len(counter.vocabularies[b]))
        found = []
        for kind in ("pairs", "people"):
            key = f"block/{number}/{kind}/"
            there = f"{key}data" in state
            found.append(_matrix(state, key, shape) if there else None)
        assert found[0] is not None
        total.add(Block(found[0], found[1]))


def _matrix(state: Mapping[str, np.ndarray], key: str, shape: tuple[int, int]) -> sparse.csr_array:
    data, indices, indptr = (state[key + p].astype(np.int64) for p in ("data", "indices", "indptr"))
    return sparse.csr_array((data, indices, indptr), shape=shape)


PARTS = "parts"
SHARED = "shared.json"
"""Stands among parts that shards count, from before the first (see `count.shares`)."""
EVENTS_WRITTEN = "events.json"
"""Stands there when all events of the sources were written as MEDS."""


def work_folder(out: Path) -> Path:
    """The folder in which the counts of ``out`` are made."""
    return out.with_name(out.name + ".unfinished")


def refuse_unfinished(work: Path, *, resume: bool) -> None:
    """Refuse what a count left that was killed or stopped, unless it goes on.

    Events that are whole are in nobody's way: nothing was counted yet, and they are used again only
    for the same sources.

    Raises:
        ArtefactError: Counts are there, or events that are not whole.
    """
    if not work.exists() or resume:
        return
    if not (work / EVENTS_WRITTEN).is_file() or list_parts(work / PARTS):
        raise ArtefactError(
            "a count that was not finished is here", where=work, fix="add --resume, or remove it"
        )


def refuse_shared(work: Path) -> None:
    """Refuse a folder in which shards count.

    Raises:
        ArtefactError: They do.
    """
    if (work / PARTS / SHARED).is_file():
        raise ArtefactError(
            "is counted by shards", where=work, fix=f"{_GIVE_SHARDS}, or remove it to count anew"
        )


_GIVE_SHARDS = "give the commands with --shard again, each of which goes on"


@contextmanager
def keeping(work: Path) -> Iterator[None]:
    """Keep of a count that ends early what a retry can use, and say so; remove the rest.

    Raises:
        MedmclError: The one that came, with what is kept.
    """
    try:
        yield
    except (ArtefactError, CohortError, ConfigError) as error:
        kept = _tidy(work)
        if kept is None:
            raise
        fix = kept if error.fix is None else f"{error.fix}; {kept}"
        raise error.again(type(error), fix=fix) from None
    except BaseException:  # Ctrl-C among them
        _tidy(work)
        raise


def _tidy(work: Path) -> str | None:
    """Remove a folder that holds nothing of use; otherwise say what becomes of it."""
    if list_parts(work / PARTS):
        how = _GIVE_SHARDS if (work / PARTS / SHARED).is_file() else "go on with --resume"
        return f"{work} keeps what was counted: {how}, or remove it to count anew"
    if (work / EVENTS_WRITTEN).is_file():
        return f"give the same command again; {work} keeps the events of the sources for it"
    shutil.rmtree(work, ignore_errors=True)
    return None
