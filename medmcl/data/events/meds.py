"""MEDS 0.4: shards of events in parquet, read in whole patients and bounded memory.

Schema: github.com/Medical-Event-Data-Standard/meds, 0.4. A subject is in one shard only, its rows
together. Rows need not be sorted by time here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medmcl.core.atomic import put_back
from medmcl.core.config import nearest
from medmcl.core.errors import CohortError, damage
from medmcl.core.findings import counted
from medmcl.core.limits import below, doubtful_texts, is_below, written_out
from medmcl.data.events.events import NO_TIME, NO_VISIT, Events, Labels, starts

_ROWS = 1 << 16
_TEXT = ("string", "large_string")
_TO_FIX = "convert the data anew, or with `medmcl cooccur to-meds`"


@dataclass(frozen=True)
class MedsDataset:
    """A MEDS dataset on disk.

    Attributes:
        folder: What holds ``data/`` and ``metadata/``.
        shards: Its parquet files, sorted by name.
    """

    folder: Path
    shards: tuple[Path, ...]

    def parents(self, prefix: str = "") -> dict[str, tuple[str, ...]]:
        """Give ``parent_codes`` of ``metadata/codes.parquet``, those that start with ``prefix``.

        Raises:
            CohortError: There is no such file, or it has no such column.
        """
        path = self.folder / "metadata" / "codes.parquet"
        if not path.is_file():
            raise CohortError(
                "there are no roll-ups", where=path, expected="metadata/codes.parquet of MEDS"
            )
        table = _with_columns(path, "code", "parent_codes")
        found = zip(table["code"].to_pylist(), table["parent_codes"].to_pylist(), strict=True)
        kept = {c: tuple(p for p in ps or () if p.startswith(prefix)) for c, ps in found}
        return {code: parents for code, parents in kept.items() if parents}

    @property
    def _splits_file(self) -> Path:
        return self.folder / "metadata" / "subject_splits.parquet"

    def splits(self) -> tuple[str, ...] | None:
        """Give the names of all splits, sorted; None if the dataset lists none."""
        if not self._splits_file.is_file():
            return None
        known = self._split_table()["split"].unique().to_pylist()
        return tuple(sorted(str(one) for one in known if one is not None)) or None

    def _split_table(self) -> pa.Table:
        return _with_columns(self._splits_file, "subject_id", "split")

    def subjects(self, splits: Sequence[str] = ()) -> np.ndarray:
        """Give who is in some splits by ``metadata/subject_splits.parquet``, sorted int64.

        Args:
            splits: Names; if none is given, all that are listed, nobody where there is no file.

        Raises:
            CohortError: There is no such file, or nobody is in them.
        """
        path = self._splits_file
        if not splits:
            if not path.is_file():
                return np.zeros(0, dtype=np.int64)
            listed = self._split_table()["subject_id"].drop_null()
            return np.unique(listed.to_numpy()).astype(np.int64)
        if not path.is_file():
            raise CohortError("there are no splits", where=path, expected="as in MEDS 0.4")
        table = self._split_table()
        chosen = pc.is_in(table["split"], pa.array(splits, pa.string()))
        found = np.unique(table["subject_id"].filter(chosen).to_numpy())
        if not len(found):
            known = ", ".join(map(str, table["split"].unique().to_pylist()))
            got = ", ".join(splits)
            raise CohortError("nobody is in these splits", where=path, got=got, expected=known)
        return found.astype(np.int64)


def open_meds(folder: Path) -> MedsDataset:
    """Find the shards of a MEDS dataset.

    Raises:
        CohortError: There are none; or one is a link out of the folder.
    """
    put_back(folder)
    shards = tuple(sorted((folder / "data").rglob("*.parquet")))
    inside = below([os.path.realpath(folder)])
    strays = [(one, os.path.realpath(one)) for one in shards]
    strays = [(one, real) for one, real in strays if not is_below(real, inside)]
    if strays:
        raise CohortError(
            f"{counted(len(strays), 'shard')} of the dataset are links out of its folder",
            where=folder,
            got=f"{strays[0][0]}, a link to {strays[0][1]}",
            fix="put the files there; the folder itself may be a link",
        )
    if not shards:
        raise CohortError(
            "holds no MEDS shards",
            where=folder,
            expected="parquet files under data/, as in MEDS 0.4",
            fix="name the folder that holds data/ and metadata/; other tables become MEDS with "
            "`medmcl cooccur to-meds`",
        )
    return MedsDataset(folder, shards)


def meds_of(shards: Sequence[Path]) -> MedsDataset:
    """Give the dataset that some shards lie in, under its ``data/``.

    Raises:
        CohortError: They do not.
    """
    above = [folder.parent for folder in shards[0].parents if folder.name == "data"]
    if not above:
        raise CohortError(
            "lies in no MEDS dataset", where=shards[0], expected="FOLDER/data/.../SHARD.parquet"
        )
    return MedsDataset(above[0], tuple(shards))


def open_parquet(path: Path, **more: Any) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        CohortError: It is not whole.
    """
    with _whole(path):
        return pq.ParquetFile(path, **more)


def _with_columns(path: Path, *columns: str) -> pa.Table:
    table = open_parquet(path).read()
    for column in columns:
        if column not in table.column_names:
            raise CohortError(f"there is no column '{column}'", where=path)
    return table


def sound_batches(
    file: pq.ParquetFile, path: Path, columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Give columns of a parquet file, at most ``rows`` at a time, all text checked and written out.

    Raises:
        CohortError: It is damaged, or a text is no UTF-8, or more than memory.
    """
    texts = [one for one in doubtful_texts(file) if one in columns]
    with _whole(path):
        file = pq.ParquetFile(path, read_dictionary=texts)
        for batch in file.iter_batches(batch_size=rows, columns=columns):
            batch.validate(full=True)  # text that is no UTF-8 shows here
            yield written_out(batch, path, CohortError)


def check_schema(path: Path, columns: Sequence[str] = (), fix: str = _TO_FIX) -> pq.ParquetFile:
    """Open a shard whose columns are those of MEDS 0.4.

    Args:
        path: The shard.
        columns: Further columns that it must have, of text or whole numbers.
        fix: What can be done about a wrong type, or a column of MEDS that is missing.

    Raises:
        CohortError: Not a whole parquet file, or a column is missing or of another type.
    """
    schema = open_parquet(path).schema_arrow
    for name, kinds in _expected(columns).items():
        if name not in schema.names:
            raise CohortError(
                f"there is no column '{name}'{nearest(name, schema.names)}",
                where=path,
                fix=fix if name in ("subject_id", "time", "code") else None,
            )
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if str(kind) not in kinds:
            raise CohortError(
                f"column '{name}' has the wrong type",
                where=path,
                got=str(kind),
                expected=" or ".join(kinds[:2]),
                fix=fix,
            )
    texts = [n for n in ("code", *columns) if str(schema.field(n).type) in _TEXT]
    return open_parquet(path, read_dictionary=texts)


def read_shard(
    path: Path, *, size: int, visit: str | None = None, columns: Sequence[str] = ()
) -> Iterator[Events]:
    """Give the events of a shard in whole patients, about ``size`` at a time.

    A patient with more events than ``size`` comes as a whole: their record has to fit the memory.

    Args:
        path: The shard.
        size: Events at a time.
        visit: Column that tells visits apart.
        columns: Further columns to read.

    Raises:
        CohortError: A damaged file, a wrong column, an empty cell where there may be none, or a
            subject whose rows do not stand together.
    """
    wanted = list(dict.fromkeys((*columns, *((visit,) if visit else ()))))
    file = check_schema(path, wanted)
    seen: set[int] = set()
    for table in _whole_patients(file, path, ["subject_id", "time", "code", *wanted], size):
        events = _events(table, visit, columns, path)
        names, times = np.unique(starts(events.subject), return_counts=True)
        again = [*names[times > 1].tolist(), *seen.intersection(names.tolist())]
        if again:
            raise CohortError(
                "the rows of a subject do not stand together",
                where=path,
                got=f"subject {again[0]}, among {len(again)}",
                expected="shards sorted by subject, as in MEDS",
                fix="sort the shard by subject_id and time, or convert with `medmcl cooccur "
                "to-meds`",
            )
        seen.update(names.tolist())
        yield events


def _whole_patients(
    file: pq.ParquetFile, path: Path, columns: list[str], size: int
) -> Iterator[pa.Table]:
    """Cut the rows between patients."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in sound_batches(file, path, columns, min(_ROWS, size)):
        waiting.append(batch)
        rows += batch.num_rows
        if rows < size:
            continue
        table = pa.Table.from_batches(waiting)
        subject = table["subject_id"].to_numpy()
        changes = np.flatnonzero(subject[1:] != subject[:-1])
        cut = int(changes[-1]) + 1 if len(changes) else 0
        if cut:
            yield table.slice(0, cut)
            rest = table.slice(cut)
            waiting, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(waiting)


def _events(table: pa.Table, visit: str | None, columns: Sequence[str], path: Path) -> Events:
    for name in ("subject_id", "code"):
        if table[name].null_count:
            raise CohortError(
                f"column '{name}' has empty cells",
                where=path,
                got=f"{table[name].null_count} of {table.num_rows} rows",
                expected="none, as MEDS asks",
                fix=_TO_FIX,
            )
    time = table["time"].cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    return Events(
        table["subject_id"].to_numpy(),
        time,
        _labels(table["code"]),
        _visits(table[visit]) if visit else None,
        {name: _labels(table[name]) for name in columns},
    )


def _labels(column: pa.ChunkedArray) -> Labels:
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    number = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(number, whole.dictionary.to_pylist())


def _visits(column: pa.ChunkedArray) -> np.ndarray:
    number = _labels(column).number
    return np.where(number < 0, NO_VISIT, number)


def _expected(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    whole = (
        *_TEXT,
        "int64",
        "double",
        "float",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    )
    return {
        "subject_id": ("int64",),
        "time": ("timestamp[us]",),
        "code": _TEXT,
        **dict.fromkeys(columns, whole),
    }


def _whole(path: Path) -> AbstractContextManager[None]:
    what = "is not a whole parquet file: cut short, or not parquet"
    return damage(path, what, error=CohortError, fix="copy or write the shard again")
