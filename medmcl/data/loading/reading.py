"""Reading one record: what an adapter gives, or findings that say why it gives nothing."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from medmcl.core import members
from medmcl.core.contracts import (
    Adapter,
    InspectsTogether,
    LooksAtRows,
    NamesFiles,
    RecordRef,
    Sketches,
    traits,
)
from medmcl.core.errors import (
    FIND_FILE,
    ConfigError,
    MedmclError,
    RecordError,
    damage,
    was_ended,
)
from medmcl.core.findings import Finding
from medmcl.core.limits import refuse_odd
from medmcl.data.cohort.places import PlaceArray
from medmcl.data.loading.worker_pool import each
from medmcl.data.tables.mapped import let_go
from medmcl.modalities import ADAPTERS
from medmcl.modalities.outside import (
    blamed,
    checked_findings,
    checked_row,
    fitted_shape,
    raised_at,
    reading,
    said_of,
)

_AT_ONCE = 2**12
"""Rows of a table that are looked at together."""
TOGETHER, ROWS_TOGETHER = 200, 5000
"""So many records of a modality, or rows of a table, are also judged together."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record.

    Attributes:
        row: The prepared array; None if it was not asked for or the record has faults.
        digest: Hash of the prepared array, or of the raw content; empty if there is none.
        findings: What was found.
        sketch: Numbers by which copies know each other; None if its kind has none.
        held: Bytes of the record as read; 0 where that was not asked for.
    """

    row: np.ndarray | None
    digest: str
    findings: tuple[Finding, ...]
    sketch: np.ndarray | None = None
    held: int = 0

    @property
    def usable(self) -> bool:
        """Whether no finding is an error."""
        return not self.findings or all(one.level != "error" for one in self.findings)


def record_files(adapter: Adapter, place: RecordRef) -> list[Path]:
    """Give every file a record is made of, also those that are missing."""
    if _has(type(adapter), NamesFiles):
        return cast(NamesFiles, adapter).files(place)
    return list(place.paths.values())


@cache
def _has(adapter: type, hook: type) -> bool:
    """Asked once a class: looking at a protocol takes longer than reading a row of a table."""
    return issubclass(adapter, hook)


def read_record(adapter: Adapter, place: RecordRef) -> tuple[Any, list[Finding]]:
    """Read and inspect a record; None and the reason if it cannot be read."""
    try:
        with damage(None):  # but a missing extra, a wrong setting: not the record's fault
            named = list(place.paths.values())
            refuse_odd(named, place.roots)
            more = (one for one in record_files(adapter, place) if one not in named)
            refuse_odd(more, place.roots)
            with reading(adapter):
                raw = adapter.read(place)
    except RecordError as error:
        return None, [_unreadable(adapter, place, error)]
    # Inspect a record that could be read; a check that breaks is one fault of one record
    try:
        return raw, checked_findings(adapter, adapter.inspect(raw, place), place)
    except RecordError as error:
        return None, [_unreadable(adapter, place, error)]
    except MedmclError:
        raise
    except Exception as error:
        if was_ended():
            raise KeyboardInterrupt from None
        what = f"can be read, but not checked ({raised_at(error)})"
        where = f"subject {place.subject}, record {place.record}"
        whose = said_of(adapter) if adapter.kind in ADAPTERS.outside else "medmcl"
        fix = f"look at what it holds; if that is sound, the fault is in {whose}: please report it"
        return None, [Finding(code=f"{adapter.kind}.unchecked", where=where, what=what, fix=fix)]


def read_outcome(adapter: Adapter, place: RecordRef) -> Outcome:
    """Read, inspect and hash a record without preparing it."""
    raw, findings = read_record(adapter, place)
    if raw is None:
        return Outcome(None, "", tuple(findings))
    held, sketch = held_bytes(raw), _sketch(adapter, raw)
    return Outcome(None, content_digest(raw), tuple(findings), sketch, held)


def _sketch(adapter: Adapter, raw: Any) -> np.ndarray | None:
    return cast(Sketches, adapter).sketch(raw) if _has(type(adapter), Sketches) else None


def prepare_outcome(adapter: Adapter, place: RecordRef) -> Outcome:
    """Read, inspect and prepare a record; a record with an error is not prepared."""
    raw, findings = read_record(adapter, place)
    if any(finding.level == "error" for finding in findings):
        return Outcome(None, "", tuple(findings))
    try:
        row = prepared_row(adapter, raw, place)
    except RecordError as error:
        return Outcome(None, "", (*findings, _unreadable(adapter, place, error)))
    return Outcome(row, content_digest(row), tuple(findings), _sketch(adapter, raw))


class MispreparedError(RecordError):
    """A record of which an adapter makes what nobody can read."""


def prepared_row(adapter: Adapter, raw: Any, place: RecordRef) -> np.ndarray:
    """Prepare a record, (*prepared_shape), finite, float32 or int64.

    Raises:
        RecordError: The adapter refuses it; `MispreparedError`, if what it made is not so.
        ContractError: An adapter from outside failed.
    """
    with blamed(adapter, "prepare", place):
        row = checked_row(adapter, adapter.prepare(raw))
        shape = tuple(adapter.prepared_shape)
    fix = None
    if adapter.kind in ADAPTERS.outside:
        fix = f"correct `prepare` of {said_of(adapter)}, or let its `inspect` refuse such records"
    if row.shape != shape:
        raise MispreparedError(
            "preparing gave another shape", got=row.shape, expected=shape, fix=fix
        )
    finite = np.isfinite(row)
    if not finite.all():
        count = int((~finite).sum())
        what = f"preparing gave {count} of {row.size} values that are not finite"
        raise MispreparedError(what, fix=fix)
    kind = np.int64 if np.issubdtype(row.dtype, np.integer) else np.float32
    return row.astype(kind, copy=False)


def of_modality(findings: Iterable[Finding], name: str) -> list[Finding]:
    """Write keys out: adapters call the modality NAME (``inputs.NAME.size``), not knowing it."""
    return [replace(one, fix=one.fix.replace(".NAME.", f".{name}.")) for one in findings]


@contextmanager
def of_this(name: str) -> Iterator[None]:
    """Write keys out, as `of_modality`, in what is raised inside."""
    try:
        yield
    except (ConfigError, RecordError) as error:
        if error.fix is None or ".NAME." not in error.fix:
            raise
        raise error.again(type(error), fix=error.fix.replace(".NAME.", f".{name}.")) from None


def outcomes(
    adapter: Adapter, name: str, places: Sequence[RecordRef], *, prepared: bool
) -> Iterator[Outcome]:
    """Give the outcome of each record, in order.

    Args:
        adapter: Adapter of the modality; fitted if ``prepared``.
        name: Name of the modality.
        places: The records.
        prepared: Whether to prepare them, or only to read and inspect.
    """
    found = each(partial(prepare_outcome if prepared else read_outcome, adapter), places)
    for one in found:
        if one.findings:
            yield replace(one, findings=tuple(of_modality(one.findings, name)))
        else:
            yield one


@dataclass
class Looked:
    """What became of records; of those that were only looked at, and are sound, a digest is held.

    Attributes:
        digests: Hash of each record, empty where there is none. (N,) bytes
        held: Bytes of the largest record.
        read: Number of a record to what became of it, of those that were read. Ascending
    """

    digests: np.ndarray
    held: int = 0
    read: dict[int, Outcome] = field(default_factory=dict)

    @property
    def doubtful(self) -> np.ndarray:
        """Numbers of the records that must be read to tell."""
        return np.flatnonzero(self.digests == b"")

    @property
    def bad(self) -> list[int]:
        """Numbers of the records that have an error."""
        return [row for row, one in self.read.items() if not one.usable]

    def add(self, row: int, outcome: Outcome) -> None:
        """Note what became of a record that was read."""
        self.read[row], self.digests[row] = outcome, outcome.digest
        self.held = max(self.held, outcome.held)


def look(adapter: Adapter, places: PlaceArray) -> Looked:
    """Give what is known of rows of a table without reading each; no digest where it must be."""
    found, held = np.zeros(len(places), "S16"), 0
    longest = -1.0
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        cells = part.cells if isinstance(adapter, LooksAtRows) else None
        if cells is None:
            continue
        with blamed(adapter, "look"):
            digests = cast(LooksAtRows, adapter).look(cells)
            told = np.array([one.encode() for one in digests])
            found = found.astype(
                max(found.dtype, told.dtype, key=lambda one: one.itemsize), copy=False
            )
            found[start : start + _AT_ONCE] = told
        texts = cells.select_dtypes(exclude=["number", "bool"])
        length = sum((texts[one].astype("str").str.len().fillna(0) for one in texts),
                      np.zeros(len(cells)))  # fmt: skip
        if length.max() > longest:
            longest, row = length.max(), int(length.argmax())
            held = held_bytes(adapter.read(part[row])) if digests[row] else 0
        let_go()
    return Looked(found, held)


def good_records(adapter: Adapter, places: Iterable[RecordRef]) -> Iterator[tuple[RecordRef, Any]]:
    """Give the records without faults, read one by one."""
    for place in places:
        raw, findings = read_record(adapter, place)
        if raw is not None and all(finding.level != "error" for finding in findings):
            yield place, raw


def good_raws(adapter: Adapter, places: Iterable[RecordRef]) -> Iterator[Any]:
    """Give the raw records without faults: what `Adapter.fit` learns from."""
    return (raw for _, raw in good_records(adapter, places))


def fit(adapter: Adapter, raws: Iterable[Any], name: str) -> None:
    """Fit the adapter of a modality; what it raises names the modality's keys.

    Raises:
        ConfigError: The settings do not suit the records, or leave nothing of a row.
        ContractError: An adapter from outside failed.
    """
    with of_this(name), blamed(adapter, f"fit of {name}"):
        adapter.fit(raws)
    fitted_shape(adapter, name)


def inspect_together(adapter: Adapter, name: str, places: Sequence[RecordRef]) -> list[Finding]:
    """Read 200 records (5,000 rows of a table), evenly spaced, for what shows in many together.

    Records with faults of their own count too: most of them may have the fault looked for.

    Args:
        adapter: Adapter of the modality.
        name: Name of the modality.
        places: Its records.
    """
    if not isinstance(adapter, InspectsTogether):
        return []
    most = min(len(places), ROWS_TOGETHER if traits(adapter).tabular else TOGETHER)
    rows = np.unique(np.linspace(0, len(places) - 1, most).round())
    read = (read_record(adapter, places[int(row)])[0] for row in rows)
    found = adapter.inspect_together(raw for raw in read if raw is not None)
    told = [replace(one, where=f"modalities.{name}, {one.where}") for one in found]
    return of_modality(told, name)


def held_bytes(content: Any) -> int:
    """Bytes of memory that the arrays and texts of a record hold."""
    if isinstance(content, np.ndarray) and content.dtype != object:
        return content.nbytes
    if _is_plain_row(content):
        return sum(map(sys.getsizeof, content.values()))
    parts = _parts(content)
    if parts is None:
        return sys.getsizeof(content)
    return sum(held_bytes(part) for _, part in parts)


def content_digest(content: Any) -> str:
    """Hash the measured content of a record: arrays, numbers and texts, not where they lie."""
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: Any, content: Any) -> None:
    """Add all of a value: `repr` shortens long arrays and tables, and shows objects by address."""
    if isinstance(content, np.ndarray) and content.dtype != object:
        digest.update(f"{content.dtype.str}{content.shape}".encode())
        digest.update(np.ascontiguousarray(content).tobytes())
        return
    if _is_plain_row(content):
        row = "".join([f"{name}{cell!r}" for name, cell in content.items()])
        digest.update(row.encode())
        return
    parts = _parts(content)
    if parts is None:
        digest.update(repr(content).encode())
        return
    for name, part in parts:
        digest.update(str(name).encode())
        _feed(digest, part)


def _is_plain_row(content: Any) -> bool:
    return type(content) is dict and all(type(cell) in _PLAIN_CELLS for cell in content.values())


def _parts(content: Any) -> Iterable[tuple[object, Any]] | None:
    """Take a value apart, down to arrays of numbers and plain values; None: it is plain."""
    if isinstance(content, np.ndarray):
        return (("shape", content.shape), ("cells", content.ravel().tolist()))
    if is_dataclass(content) and not isinstance(content, type):
        values = [getattr(content, item.name) for item in fields(content)]
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        return [("", value) for value in arrays or values]
    if isinstance(content, pd.DataFrame):
        return (
            ("rows", content.index.to_numpy()),
            *((n, c.to_numpy()) for n, c in content.items()),
        )
    if isinstance(content, dict):
        return content.items()
    if isinstance(content, list | tuple):
        is_plain = all(isinstance(one, _PLAIN) for one in content)
        return None if is_plain else tuple(enumerate(content))
    if hasattr(content, "__array__"):  # a tensor, a column of a table
        return (("", np.asarray(content)),)
    shows_address = type(content).__repr__ is object.__repr__
    return (("", content.__getstate__()),) if shows_address else None


_PLAIN = (str, bytes, bool, int, float, type(None))
_PLAIN_CELLS = frozenset(_PLAIN)
"""Types of the cells of most rows; a number of NumPy is none of them, and is hashed as an array."""


def _unreadable(adapter: Adapter, place: RecordRef, error: RecordError) -> Finding:
    if was_ended():  # the record is as good as it was
        raise KeyboardInterrupt
    files = record_files(adapter, place)
    missing = [file for file in files if not members.exists(file)]
    find = FIND_FILE
    if 0 < len(missing) < len(files):  # of a header and its signals, say
        there = next(file for file in files if file not in missing)
        find = f"put {', '.join(file.name for file in missing)} beside {there.name}, which needs it"
    code = "misprepared" if isinstance(error, MispreparedError) else "unreadable"
    code = "missing_file" if missing else code
    where = f"subject {place.subject}, record {place.record}"
    if error.where is not None:
        where = f"{where}, {error.where}"
    return Finding(
        code=f"{adapter.kind}.{code}",
        where=where,
        what=error.detailed,
        fix=error.fix
        or (find if missing else "copy the file again from its source, or correct it"),
    )
