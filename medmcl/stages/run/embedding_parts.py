"""Embeddings written in parts: killed and resumed, or by several processes, to the same bytes.

Beside the table ``OUT`` lies ``OUT.parts``: ``about.json`` (sealed) says whose parts they are, and
each part is a file whose name holds a hash of which part it is of what, and of its content. Which
records are one part depends on nothing but the records, so that whoever makes a part makes the
same. Whoever finds all parts there joins them.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import remove_whole, working_folder, write_atomically
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone
from medmcl.core.findings import counted
from medmcl.core.progress import Bar, Pace, progress
from medmcl.core.sealed import plain, read_sealed, sealed
from medmcl.data.loading.shared_work import Parts, Shard, claim, made_once, part_size
from medmcl.stages.run.embedding import Embedding
from medmcl.stages.run.outputs import write_table

log = logging.getLogger("medmcl")
ABOUT = "about.json"
_JOINS = "parts are being joined"


def write_in_parts(
    embedding: Embedding, out: Path, *, shard: Shard | None = None, resume: bool = False
) -> Parts:
    """Embed in parts, and join them into a table once all are there.

    Args:
        embedding: What is embedded by what.
        out: The table; see `TABLES`.
        shard: Which parts are made here; all if not given.
        resume: Go on with the parts that lie there. A shard always does.

    Raises:
        ArtefactError: The parts that lie there are of another embedding; or nobody asked to go on.
    """
    folder = out.with_name(f"{out.name}.parts")
    if not _begin(folder, out, embedding, goes_on=resume or shard is not None):
        tidy_parts(out, shard)
        return Parts()
    parts = list(_parts(embedding))
    mine = [number for number in range(len(parts)) if shard is None or shard.has(number)]
    try:
        _make_each(folder, {number: parts[number] for number in mine}, embedding)
    except (ArtefactError, OSError):  # no folder to write to, once they are joined
        if not _is_joined(folder, out):
            raise
    missing = sum(_find(folder, number) is None for number in range(len(parts)))
    if missing and not _is_joined(folder, out):
        return Parts(own=len(mine), of=len(parts), missing=missing)
    beside = claim(out, _JOINS)
    with nullcontext() if shard is None else beside:  # without shards the command holds it
        if not _is_joined(folder, out):
            _join(folder, out, parts, embedding)
        _tidy(folder)
    return Parts()


def _make_each(folder: Path, parts: Mapping[int, np.ndarray], embedding: Embedding) -> None:
    """Make those parts that are not there, and say how far that is."""
    to_do = {number: one for number, one in parts.items() if _find(folder, number) is None}
    total, asked = sum(map(len, to_do.values())), sum(map(len, parts.values()))
    there = f"; {asked - total:,} are there already" if asked > total else ""
    log.info("embedding %s of %s%s", counted(total, embedding.noun), embedding.modality, there)
    pace, before = Pace(total), 0
    with progress(f"embedding {embedding.modality}", total) as bar:
        for number, records in parts.items():

            def told(done: float, note: str = "", before: int = before) -> None:
                bar(before + done, note or pace.rate(before + done))

            _make(folder, number, records, embedding, told)
            before += len(records) if number in to_do else 0


def _is_joined(folder: Path, out: Path) -> bool:
    """Whether somebody else has joined the parts."""
    return out.is_file() and not (folder / ABOUT).is_file()


def tidy_parts(out: Path, shard: Shard | None) -> None:
    """Take away what is left beside a table whose parts were joined, unless somebody is at it.

    That is what whoever was killed had put aside, and the locks.
    """
    with suppress(ArtefactError), nullcontext() if shard is None else alone(out, _JOINS):
        _tidy(out.with_name(f"{out.name}.parts"))


def _tidy(folder: Path) -> None:
    """Take away what is left of joined parts, also one that somebody else made meanwhile."""
    with suppress(ArtefactError), alone(folder, "parts are tidied up"):
        if not (folder / ABOUT).is_file():  # else another embedding was begun
            remove_whole(folder)
            with working_folder(folder):  # takes away what the dead had put aside
                pass


def _join(folder: Path, out: Path, parts: list[np.ndarray], embedding: Embedding) -> None:
    """Write the table of all parts, and take them away."""
    made = (_make(folder, number, records, embedding) for number, records in enumerate(parts))
    write_table(embedding.tables(made), out)
    remove_whole(folder)


def _begin(folder: Path, out: Path, embedding: Embedding, *, goes_on: bool) -> bool:
    """Make the folder of parts, or take one that is of the same embedding.

    Returns:
        Whether there is something to do: not if somebody else has joined all parts meanwhile.
    """
    about = folder / ABOUT
    out.parent.mkdir(parents=True, exist_ok=True)
    with claim(folder, "an embedding is being begun"):
        if not about.is_file():
            if goes_on and out.is_file():
                return False
            said = {"identity": embedding.identity, "about": embedding.provenance}
            write_atomically(about, json.dumps(sealed(said), indent=2, default=str))
            return True
    if not goes_on:
        raise ArtefactError(
            "an embedding that was not finished lies there",
            where=folder,
            fix="--resume goes on with it, --overwrite begins anew",
        )
    try:
        there = read_sealed(about)
        identity = there["identity"]
    except (ArtefactError, KeyError):
        if _is_joined(folder, out):
            return False
        raise ArtefactError("is damaged", where=about, fix=f"begin anew: remove {folder}") from None
    if identity != embedding.identity:
        was, now = _flat(there.get("about") or {}), _flat(plain(dict(embedding.provenance)))
        keys = [key for key in {**was, **now} if was.get(key) != now.get(key) and key != "records"]
        raise ArtefactError(
            "the parts that lie there are of another embedding",
            where=folder,
            got=", ".join(f"{key} {was.get(key)}" for key in keys)
            or "other records, settings or kind of device",
            expected=", ".join(f"{key} {now.get(key)}" for key in keys) or None,
            fix="finish that one with the model, cohort, settings and kind of device that it was "
            "begun with; name another --out; or begin anew with --overwrite",
        )
    return True


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of an embedding, key by key."""
    found: dict[str, Any] = {}
    for key, one in about.items():
        found |= one if isinstance(one, dict) else {key: one}
    return found


def remove_parts(out: Path) -> None:
    """Take away the parts of an embedding that was not finished."""
    remove_whole(out.with_name(f"{out.name}.parts"))


def _parts(embedding: Embedding) -> Iterator[np.ndarray]:
    """Give the records of each part: whole batches, so that parts move no bit."""
    records = embedding.records
    size = part_size(len(records), embedding.batch)
    for first in range(0, len(records), size):
        yield records[first : first + size]


def _make(
    folder: Path, number: int, records: np.ndarray, embedding: Embedding, bar: Bar | None = None
) -> np.ndarray:
    """Give a part: the one that is there, or made here while nobody else makes it."""
    place, doing = folder / f"{number:06d}", "a part is being embedded"
    which = f"{embedding.identity} {place.name}"

    def make() -> np.ndarray:
        vectors = embedding.vectors(records, bar)
        content = io.BytesIO()
        np.save(content, vectors, allow_pickle=False)
        name = f"{place.name}-{_digest(which, content.getvalue())}.npy"
        write_atomically(folder / name, content.getvalue())
        return vectors

    return made_once(place, doing, lambda: _read(folder, number, which), make)


def _find(folder: Path, number: int) -> Path | None:
    there = sorted(folder.glob(f"{number:06d}-*.npy"))
    return next((one for one in there if one.is_file()), None)


def _read(folder: Path, number: int, which: str) -> np.ndarray | None:
    """Read a part if it is there as it was written; one that is damaged, or another, goes."""
    path = _find(folder, number)
    if path is None:
        return None
    content = path.read_bytes()
    if path.stem.partition("-")[2] == _digest(which, content):
        return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    log.info("%s is damaged, or another part: made again", path)
    path.unlink(missing_ok=True)
    return None


def _digest(which: str, content: bytes) -> str:
    return hashlib.blake2b(which.encode() + content, digest_size=16).hexdigest()
