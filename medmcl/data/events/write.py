"""Events of any tables written as MEDS 0.4: sharded by patient, sorted, in bounded memory.

Rows are first dealt out to shards by patient, then each shard is read, sorted and written whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medmcl.core.atomic import folder_aside
from medmcl.core.errors import ArtefactError, CohortError
from medmcl.core.file_lock import one_writer
from medmcl.data.events.events import NO_TIME

MEDS_VERSION = "0.4.1"
_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}")
_POINT = re.compile(r"(-?\d+)\.0")
SCHEMA = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
        pa.field("source", pa.string()),
        pa.field("visit_id", pa.string()),
        pa.field("site", pa.string()),
    ]
)
"""MEDS, with the table, visit and site of an event beside."""


@dataclass
class Written:
    """What became of the rows.

    Attributes:
        events: Written, by source.
        without_subject: Left out: no patient.
        without_code: Left out: no code.
        subjects: Name of each patient in the source to the number in MEDS.
    """

    events: dict[str, int] = field(default_factory=dict)
    without_subject: int = 0
    without_code: int = 0
    subjects: dict[str, int] = field(default_factory=dict)


@one_writer("events are being written")
def write_meds(
    sources: Iterable[tuple[str, Iterator[pa.Table]]], out: Path, *, shards: int, name: str = ""
) -> Written:
    """Write a MEDS dataset.

    Args:
        sources: Name and rows of each source (columns of `events_tables.COLUMNS`).
        out: Folder to write; must be new or empty.
        shards: Files to spread the patients over.
        name: What ``metadata/dataset.json`` calls it.

    Raises:
        ArtefactError: The folder holds something.
        CohortError: No event at all, a source that cannot be read, or two patients that get the
            same number; nothing is left in the folder then.
    """
    if out.exists() and any(out.iterdir()):
        raise ArtefactError("holds something already", where=out, fix="name a new folder")
    with folder_aside(out) as aside:
        return _write(sources, aside, shards, name or out.name)


def _write(
    sources: Iterable[tuple[str, Iterator[pa.Table]]], out: Path, shards: int, name: str
) -> Written:
    dealt = out / ".unsorted"
    dealt.mkdir()
    done, described = Written(), dict[str, str]()
    with _Dealer(dealt, shards) as dealer:
        for source, tables in sources:
            done.events.setdefault(source, 0)
            for rows in tables:
                nobody = rows["subject"].null_count
                rows = rows.filter(pc.is_valid(rows["subject"])) if nobody else rows
                nothing = rows["code"].null_count
                done.without_subject += nobody
                done.without_code += nothing
                rows = rows.filter(pc.is_valid(rows["code"])) if nothing else rows
                done.events[source] += rows.num_rows
                if rows["description"].null_count != rows.num_rows:
                    pairs = pa.table([rows["code"], rows["description"]], names=["code", "text"])
                    for one in pairs.group_by(["code", "text"]).aggregate([]).to_pylist():
                        if one["text"] is not None:
                            described.setdefault(one["code"], one["text"])
                dealer.deal(_as_meds(rows, source, done))
    if not sum(done.events.values()):
        raise CohortError("there are no events", where=", ".join(done.events) or "sources")
    codes = _sort_shards(dealt, out / "data")
    shutil.rmtree(dealt)
    _write_metadata(out, codes, described, done, name)
    return done


class _Dealer:
    """Spreads rows over unsorted files by patient."""

    def __init__(self, folder: Path, shards: int) -> None:
        self._paths = [folder / f"{number:05d}.parquet" for number in range(shards)]
        self._writers: dict[int, pq.ParquetWriter] = {}

    def __enter__(self) -> _Dealer:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def deal(self, rows: pa.Table) -> None:
        """Append each row to its patient's file."""
        shard = rows["subject_id"].to_numpy() % len(self._paths)
        for number in sorted(set(shard.tolist())):
            if number not in self._writers:
                self._writers[number] = pq.ParquetWriter(self._paths[number], SCHEMA)
            self._writers[number].write_table(rows.filter(pa.array(shard == number)))


def number_of(subject: str) -> int:
    """Give the MEDS number of a patient: itself if it is a whole number, else 63 bits of a hash.

    The hash is the same at every site and in every run; `write_meds` refuses a collision. Whole
    numbers are those of 64 bits, as MEDS writes them, so that the number of a number is itself;
    ``11.0`` is 11, as in tables of events, and ``007`` another name than ``7``.
    """
    subject = subject.strip()
    if point := _POINT.fullmatch(subject):
        subject = point[1]
    if _WHOLE.fullmatch(subject) and -(2**63) <= int(subject) < 2**63:
        return int(subject)
    digest = hashlib.blake2b(subject.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _as_meds(rows: pa.Table, source: str, done: Written) -> pa.Table:
    names = rows["subject"].combine_chunks().dictionary_encode()
    names = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    for subject in names.dictionary.to_pylist():
        done.subjects.setdefault(subject, number_of(subject))
    numbers = pa.array([done.subjects[s] for s in names.dictionary.to_pylist()], pa.int64())
    value = pc.if_else(
        pc.match_substring_regex(rows["value"], r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"),
        rows["value"],
        pa.scalar(None, pa.string()),
    )
    columns = [
        numbers.take(names.indices),
        rows["time"],
        rows["code"],
        value.cast(pa.float32()),
        rows["text"].cast(pa.large_string()),
        pa.array([source] * rows.num_rows, pa.string()),
        rows["visit"],
        rows["site"],
    ]
    return pa.table(columns, schema=SCHEMA)


def _sort_shards(dealt: Path, data: Path) -> list[str]:
    """Write each shard sorted by patient, time (those without first) and code; give all codes."""
    data.mkdir()
    codes: set[str] = set()
    order = [("subject_id", "ascending"), ("micro", "ascending"), ("code", "ascending")]
    for number, path in enumerate(sorted(dealt.glob("*.parquet"))):
        rows = pq.read_table(path)
        micro = pc.fill_null(rows["time"].cast(pa.int64()), NO_TIME)
        place = pc.sort_indices(rows.append_column("micro", micro), sort_keys=order)
        codes.update(rows["code"].unique().to_pylist())
        pq.write_table(rows.take(place).cast(SCHEMA), data / f"{number}.parquet")
        path.unlink()
    return sorted(codes)


def _write_metadata(
    out: Path, codes: list[str], described: dict[str, str], done: Written, name: str
) -> None:
    from medmcl import __version__

    folder = out / "metadata"
    folder.mkdir()
    head = {
        "dataset_name": name,
        "etl_name": "medmcl",
        "etl_version": __version__,
        "meds_version": MEDS_VERSION,
        "site_id_columns": ["site"],
        "raw_source_id_columns": ["visit_id"],
        "other_extension_columns": ["source"],
    }
    (folder / "dataset.json").write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
    table = {
        "code": pa.array(codes, pa.string()),
        "description": pa.array([described.get(code) for code in codes], pa.string()),
        "parent_codes": pa.nulls(len(codes), pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table), folder / "codes.parquet")
    if len(set(done.subjects.values())) < len(done.subjects):
        raise CohortError(
            "two patients get the same number in MEDS",
            expected="names that are whole numbers, or none that is",
            fix="number the patients yourself, from 1",
        )
    if any(str(number) != name for name, number in done.subjects.items()):
        numbers = {
            "subject": pa.array(list(done.subjects), pa.string()),
            "subject_id": pa.array(list(done.subjects.values()), pa.int64()),
        }
        pq.write_table(pa.table(numbers), folder / "medmcl_subjects.parquet")
