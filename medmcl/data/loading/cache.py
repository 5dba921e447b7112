"""Prepared records on disk: written once, atomically, and read back memory-mapped.

A cache entry is a folder whose name is a hash of everything that its rows depend on. It is written
aside and renamed when it is whole, so a killed writer leaves nothing that could be read. Of two
processes that want the same entry one makes it, and the other waits and reads it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core import members
from medmcl.core.atomic import folder_aside, remove_whole
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError
from medmcl.core.findings import Finding
from medmcl.core.limits import refuse_odd_file
from medmcl.core.sealed import file_digest, read_sealed, refuse_changed, sealed
from medmcl.core.writing import reserved_array
from medmcl.data.loading.reading import Outcome, content_digest
from medmcl.data.loading.shared_work import claim
from medmcl.data.tables.mapped import leaves
from medmcl.data.tables.wide_cells import WideCells

MAPPED = 2 * 2**20
"""Bytes of rows that are read of a mapped file before its pages leave this process."""


class ClosedSplitError(ArtefactError):
    """Rows of a split that is not open were about to be read."""

    def __init__(self, split: str, where: object = None) -> None:
        self.split = split
        super().__init__(
            f"the split '{split}' is not open here: {split} is opened only by evaluate",
            where=where,
            fix="train, select and standardise on train; choose on tuning",
        )


class Rows(ABC):
    """Rows of an array, looked at before they are read.

    Args:
        rows: Prepared rows, (R, ...).
    """

    def __init__(self, rows: np.ndarray | Rows) -> None:
        self._rows = rows
        self.shape: tuple[int, ...] = rows.shape
        self.dtype: np.dtype[Any] = rows.dtype
        self.ndim: int = rows.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """Index as an array is indexed; what `look` raises is raised."""
        first = key[0] if isinstance(key, tuple) and key else key
        chosen = slice(None) if first is None or first is Ellipsis else first
        self.look(np.atleast_1d(np.arange(len(self))[chosen]))
        return self._rows[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Give all rows."""
        return np.array(self[:], dtype=dtype, copy=copy)

    @abstractmethod
    def look(self, numbers: np.ndarray) -> None:
        """Raise if one of these rows must not be read."""


class OpenRows(Rows):
    """Rows of an array that refuses those of closed splits.

    Args:
        rows: Prepared rows, (R, ...).
        closed: Split of each row that is closed, empty where a row may be read. (R,) bytes
    """

    def __init__(self, rows: np.ndarray | Rows, closed: np.ndarray) -> None:
        super().__init__(rows)
        self._names, self._shut = closed, closed != b""

    def look(self, numbers: np.ndarray) -> None:
        """Refuse closed rows.

        Raises:
            ClosedSplitError: Names the split of the first row that is closed.
        """
        shut = self._shut[numbers]
        if shut.any():
            raise ClosedSplitError(self._names[numbers][shut][0].decode())


class WrittenRows(Rows):
    """Rows of an entry, compared with the hashes of what was written.

    Each is compared when it is first read, and anew once somebody has written into the file (by its
    size and time); and one of those that are asked for together whenever rows are read, for what
    changes without that. Pages of the file that were read stay with the system, which may take them
    back; they leave this process from time to time, so that its memory does not grow to the file.

    Args:
        rows: Memory-mapped rows, (R, ...).
        digests: Hash of each row, empty where there is none. (R,) bytes
        file: Where they lie.
        stamp: Its `_stamp_of` before it was mapped.
    """

    def __init__(
        self, rows: np.ndarray, digests: np.ndarray, file: Path, stamp: tuple[int, int, int]
    ) -> None:
        super().__init__(rows)
        self._digests, self._file, self._stamp = digests, file, stamp
        self._has = digests != b""
        self._sound = ~self._has
        self._looks = self._mapped = 0
        self._bytes = int(rows[:1].nbytes)
        if isinstance(rows, np.memmap):
            leaves(rows._mmap)  # type: ignore[attr-defined]

    def look(self, numbers: np.ndarray) -> None:
        """Refuse rows that are not what was written.

        Raises:
            ArtefactError: Names the file, and the first such row.
        """
        self._look_at_file()
        self._let_go(len(numbers))
        sound = self._sound  # of this state of the file: another thread may see it change meanwhile
        for number in numbers[~sound[numbers]].tolist():
            self._compare(number)
            sound[number] = True
        self._looks += 1
        held = numbers[self._has[numbers]]
        if len(held):
            self._compare(int(held[self._looks % len(held)]))

    def _let_go(self, rows: int) -> None:
        """Let pages leave this process once many were read; who holds them meets them again."""
        self._mapped += rows * self._bytes
        if self._mapped > MAPPED:
            self._mapped = 0
            if isinstance(self._rows, np.memmap) and sys.platform == "linux":
                self._rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def _look_at_file(self) -> None:
        """Take no row for sound any more if the file was written to; one that is gone stays."""
        with suppress(OSError):
            stamp = _stamp_of(self._file)
            if stamp != self._stamp and stamp[0] == self._stamp[0]:
                if stamp[1] < self._stamp[1]:  # what is mapped beyond the end kills who reads it
                    raise self._changed(f"{stamp[1]:,} of {self._stamp[1]:,} bytes")
                self._stamp, self._sound = stamp, ~self._has

    def _compare(self, number: int) -> None:
        if content_digest(self._rows[number]).encode() != self._digests[number]:
            raise self._changed(f"row {number} with another hash")

    def _changed(self, got: str) -> ArtefactError:
        return ArtefactError(
            "prepared records are not what was written: the disk, or something on it, changed them",
            where=self._file,
            got=got,
            fix=f"delete {self._file.parent} and give the same command again (a run: with "
            "--resume, which trains no finished stage): its records are then prepared anew; where "
            f"it happens again, check the disk; {_OWN}",
        )


def _stamp_of(path: Path) -> tuple[int, int, int]:
    """Number, size and time of a file."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


_DIGEST = "S16"
VERSION = 7  # of what lies in an entry; raise it when preparing changes its meaning


@dataclass(frozen=True)
class Stored:
    """The prepared records of one modality.

    Attributes:
        rows: (R, *prepared_shape) float32 or int64; zeros where not usable. A stage that
            learns cannot read those of held_out; nobody reads what is not as it was written.
        usable: (R,) bool.
        digests: Hash of each row, empty where not usable. (R,) bytes
        findings: Number of the record to what was found in it.
        sketches: (R, K) by which copies know each other; NaN where a record has none. None if its
            kind has none.
        shared: What was found in many records together.
        held: Bytes of each record as read; empty where they were prepared.
    """

    rows: np.ndarray | Rows
    usable: np.ndarray
    digests: np.ndarray
    findings: dict[int, list[Finding]]
    sketches: np.ndarray | None = None
    shared: tuple[Finding, ...] = ()
    held: tuple[int, ...] = ()

    def sketch(self, row: int) -> np.ndarray | None:
        """Give the sketch of a record."""
        if self.sketches is None or np.isnan(self.sketches[row, 0]):
            return None
        return np.asarray(self.sketches[row])


def entry_key(
    description: Any, places: Sequence[RecordRef], files: Callable[[RecordRef], Sequence[Path]]
) -> str:
    """Hash what the rows depend on.

    Args:
        description: Settings and state of the adapter.
        places: The records: their cells and where their files lie count.
        files: Every file a record is made of; size, time and resolved path of each count.
    """
    digest = hashlib.blake2b(digest_size=16)
    said = json.dumps([VERSION, description], sort_keys=True, default=str)
    digest.update(said.encode())
    folders = _Folders()
    for place in places:
        names = {name: folders.stamp(path)[:2] for name, path in place.paths.items()}
        stamps = [folders.stamp(path) for path in files(place)]
        values = place.values
        cells = values.stamp() if isinstance(values, WideCells) else dict(values)
        record = [place.record, place.subject, cells, names, stamps]
        digest.update(json.dumps(record, default=str).encode())
    return digest.hexdigest()


class _Folders(dict[Path, tuple[str, Mapping[str, tuple[int, int, str]]]]):
    """Folder to where it really lies, and size, time and link's target of each of its files."""

    def stamp(self, path: Path) -> list[Any]:
        """Real folder, name, and size, time and link's target of a file; None if it is missing."""
        resolved, files = self[path.parent]
        return [resolved, path.name, files.get(path.name)]

    def __missing__(self, folder: Path) -> tuple[str, Mapping[str, tuple[int, int, str]]]:
        packed = members.stamps(folder)
        files = {} if packed is None else packed
        if packed is None and folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file():
                        stat = entry.stat()
                        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                        files[entry.name] = (stat.st_size, stat.st_mtime_ns, target)
        self[folder] = os.path.realpath(folder), files
        return self[folder]


def read_entry(cache: Path, key: str, modality: str, count: int) -> Stored | None:
    """Read an entry; None if there is none, it is damaged, or of another key."""
    folder = cache / key
    path = folder / f"{modality}.npy"
    try:
        if not folder.is_dir():
            return None
        refuse_odd_file(path, ArtefactError)
        stamp = _stamp_of(path)
        facts = read_sealed(folder / f"{modality}.json")
        if (facts["key"], facts["modality"]) != (key, modality):
            return None
        rows = np.load(path, mmap_mode="r" if facts["size"] else None, allow_pickle=False)
        said = facts["digests"]  # a list, as earlier versions wrote it
        is_list = isinstance(said, list)
        digests = np.array(said, "S") if is_list else np.frombuffer(said.encode(), _DIGEST)
        sketches = None
        if facts["sketched"]:
            beside = folder / f"{modality}.sketches.npy"
            refuse_changed(beside, facts.get("sketches"))
            sketches = np.load(beside, allow_pickle=False)
        lengths = {len(one) for one in (rows, digests, sketches) if one is not None}
        if lengths != {count}:
            raise ValueError("another number of records")
        found = {int(row): _findings(said) for row, said in facts["findings"].items()}
        shared, held = tuple(_findings(facts["shared"])), tuple(facts.get("held", ()))
    except Exception:  # of damaged bytes numpy raises many kinds; the entry is made anew
        return None
    usable = digests != b""
    written = WrittenRows(rows, digests, path, stamp) if usable.any() else rows
    return Stored(written, usable, digests, found, sketches, shared, held)


def _findings(said: Iterable[Mapping[str, Any]]) -> list[Finding]:
    return [Finding(**one) for one in said]


@contextmanager
def claimed_entry(cache: Path, key: str, wait: Callable[[], object]) -> Iterator[None]:
    """Make an entry while nobody else does; ``wait`` is called until another has made it."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"the cache cannot be made: {error}", where=cache, fix=_OWN) from None
    with ExitStack() as stack:
        try:
            stack.enter_context(claim(cache / key, "records are being prepared", meanwhile=wait))
        except ArtefactError as error:
            fix = "; ".join(filter(None, (error.fix, _OWN)))
            raise error.again(ArtefactError, fix=fix) from None
        yield


_OWN = (
    "if the cache is somebody else's, keep prepared records in a folder of your own: "
    "MEDMCL_CACHE=FOLDER in the environment"
)


def write_entry(
    cache: Path, key: str, modality: str, outcomes: Iterable[Outcome], shape: tuple[int, ...],
    count: int, shared: Sequence[Finding] = (),
) -> None:  # fmt: skip
    """Write a claimed entry from outcomes in order; it appears whole or not at all.

    What was there takes no part: it is damaged, or of records that have become sound.

    Raises:
        DiskError: The disk is full, or fails.
    """
    remove_whole(cache / key)
    with folder_aside(cache / key) as aside:
        path = aside / f"{modality}.npy"
        rows: np.memmap | None = None
        sketches: np.ndarray | None = None
        digests, held, findings = np.zeros(count, _DIGEST), [], {}
        for number, outcome in enumerate(outcomes):
            if outcome.findings:
                findings[number] = [finding.as_dict() for finding in outcome.findings]
            digests[number] = outcome.digest.encode()
            held.append(outcome.held)
            if outcome.sketch is not None:
                if sketches is None:
                    sketches = np.full((count, len(outcome.sketch)), np.nan, dtype=np.float32)
                sketches[number] = outcome.sketch
            if outcome.row is not None:
                if rows is None:
                    rows = reserved_array(path, outcome.row.dtype, (count, *shape))
                rows[number] = outcome.row
        if rows is None:
            np.save(path, np.zeros((count, *shape), dtype=np.float32))
        else:
            rows.flush()
        facts: dict[str, Any] = {"key": key, "modality": modality}
        if sketches is not None:
            beside = aside / f"{modality}.sketches.npy"
            np.save(beside, sketches)
            facts["sketches"] = file_digest(beside)
        if any(held):
            facts["held"] = held
        facts |= {
            "digests": digests.tobytes().decode(),
            "findings": findings,
            "shared": [finding.as_dict() for finding in shared],
            "size": count * math.prod(shape),
            "sketched": sketches is not None,
        }
        (aside / f"{modality}.json").write_text(json.dumps(sealed(facts)), encoding="utf-8")
