"""ECGs of many people as one array of a Zarr store: a folder of chunks, of version 2 or 3.

Source:
    The Zarr specifications, versions 2 (``.zarray``) and 3 (``zarr.json``). Differs: of filters and
    compressors few are read; one of them, ``pickle``, would run code of a file. No shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import AGAIN, RecordError, damage
from medmcl.core.lazy import import_extra
from medmcl.core.limits import most_bytes, parse_json, refuse_large, refuse_odd, whole_bytes
from medmcl.modalities.ecg.files.arrays import only_one, only_row, rows_by_name, take

META = ("zarr.json", ".zarray")
INFLATES = {"gzip": 1_040, "zstd": 40_000, "blosc": 0}
"""How chunks may be packed, and how much longer no byte can become; blosc says it itself."""
CODECS = frozenset({*INFLATES, "bytes", "transpose", "shuffle", "delta", "vlen-utf8"})
"""What else may have been done to them; shards are not read."""
BLOSC_HEAD = 16
"""Bytes of a blosc chunk's header."""
_BLOCK = 2**20


def is_store(path: Path) -> bool:
    """Whether a path is a folder that describes arrays of Zarr."""
    return path.is_dir() and any((path / name).is_file() for name in (*META, ".zgroup"))


def row_of(path: Path, ids: str, wanted: str, roots: tuple[str, ...] = ()) -> int:
    """Give the row of a record by its name in the array ``ids`` of the store.

    Raises:
        RecordError: There is no such array, or not one such name in it; or a file of it really lies
            in none of the ``roots`` (`RecordRef`).
    """
    stamps = tuple(one.stat().st_mtime_ns for one in array_files(path, ids, None) if one.is_file())
    return only_row(_rows(path, ids, roots, stamps).get(wanted, []), ids, wanted, path)


@lru_cache(maxsize=32)
def _rows(
    path: Path,
    ids: str,
    roots: tuple[str, ...],
    stamps: tuple[int, ...],  # noqa: ARG001  (part of the key)
) -> dict[str, list[int]]:
    """Name to rows, read once a store."""
    refuse_odd(array_files(path, ids, None), roots)
    with damage(path / ids, "cannot be read as zarr"):  # whoever asks which files has no other
        return rows_by_name(_bounded(path, ids, None), ids, path)


def read_array(path: Path, dataset: str | None, row: int | None) -> np.ndarray:
    """Read a record: a row of an array (N, ...), or without ``row`` a whole array of two axes.

    A chunk that is not there is full of the value that the store names for it, as Zarr has it.

    Args:
        path: The folder of the store.
        dataset: Name of the array in it; None if there is one.
        row: Row of the first axis.

    Raises:
        RecordError: No such array or row, codecs that may run code, or more than memory.
        ExtraNotInstalledError: zarr is not installed.
    """
    name = _name_of(path, dataset)
    return take(_bounded(path, name, row), name or ".", path, row)


def _bounded(path: Path, name: str, row: int | None) -> Any:
    """Open an array of which the chunks of a row, or all, are no larger than memory."""
    array = _opened(path, name)
    packed = [one for one in _codecs(_said(path / name)) if one in INFLATES]
    for file in array_files(path, name or None, row):
        if file.is_dir():
            raise RecordError("a folder of chunks is a link", where=file, expected="a folder",
                              fix="copy what it leads to in its place")  # fmt: skip
        if packed and file.name not in META:
            _refuse_chunk(file, packed[0])
    return array


def array_files(path: Path, dataset: str | None, row: int | None) -> list[Path]:
    """Give the files that a row of an array lies in: its description and its chunks.

    A link to a folder among these stands for itself: it is not looked into.
    """
    try:
        folder = path / _name_of(path, dataset)
        said = _said(folder)
        is_new = "chunk_grid" in said
        grid = said["chunk_grid"]["configuration"]["chunk_shape"] if is_new else said["chunks"]
        number = "*" if row is None else str(row // max(1, int(grid[0])))
        bare = not is_new or said.get("chunk_key_encoding", {}).get("name") == "v2"
    except (RecordError, LookupError, TypeError, ValueError, OverflowError, AttributeError):
        return [path]  # reading it says what is wrong
    starts = (number,) if bare else (f"c/{number}", f"c.{number}")
    chunks = [file for start in starts for pattern in (start, f"{start}.*", f"{start}/**/*")
              for file in folder.glob(pattern)]  # fmt: skip
    meta = [folder / name for name in META if (folder / name).is_file()]
    return [*meta, *sorted({one for one in chunks if not one.name.startswith((".z", "zarr."))
                            and (one.is_symlink() or not one.is_dir())})]  # fmt: skip


def _refuse_chunk(file: Path, packed: str) -> None:
    """Refuse a chunk that would become larger than memory, or of blosc is not as long as it says.

    Raises:
        RecordError: Names it.
    """
    size = file.stat().st_size
    if packed == "blosc":
        with file.open("rb") as opened:
            head = opened.read(BLOSC_HEAD)
        inflated, own = (int.from_bytes(head[at : at + 4], "little") for at in (4, 12))
        if len(head) < BLOSC_HEAD or own != size:  # it would read what lies beyond
            raise RecordError(
                "a chunk is truncated", where=file, got=f"{size:,} bytes",
                expected=f"{own:,} bytes", fix=AGAIN,
            )  # fmt: skip
        refuse_large(inflated, file, "the chunk")
    elif size * INFLATES[packed] > most_bytes():
        import pyarrow as pa

        inflated = 0
        with pa.input_stream(str(file), compression=packed) as opened:
            while inflated <= most_bytes() and (part := len(opened.read(_BLOCK))):
                inflated += part
        refuse_large(inflated, file, "the chunk", so_far=inflated > most_bytes())


def _name_of(path: Path, dataset: str | None) -> str:
    """Path of the array in the store; empty if the store is the array."""
    if not path.is_dir():
        raise RecordError("there is no such folder", where=path, fix="name the folder of the store")
    if dataset is not None:
        return dataset.strip("/")
    if _is_array(path):
        return ""
    arrays = {one.name: _said(one) for one in sorted(path.iterdir()) if _is_array(one)}
    own = [name for name, said in arrays.items() if len(said["shape"]) >= 2]
    return only_one(own, arrays, path)


def _is_array(folder: Path) -> bool:
    try:
        return "shape" in _said(folder)
    except RecordError:
        return False


def _said(folder: Path) -> Mapping[str, Any]:
    """What an array says of itself."""
    file = next((folder / name for name in META if (folder / name).is_file()), None)
    if file is None:
        raise RecordError(
            "there is no array of Zarr", where=folder, expected=" or ".join(META),
            fix="correct dataset: or ids: in cohort.yaml",
        )  # fmt: skip
    with damage(file, "does not describe an array of Zarr"):
        said = parse_json(whole_bytes(file))
        return {**said, "shape": tuple(map(int, said["shape"]))}


def _opened(path: Path, name: str) -> Any:
    zarr = import_extra("zarr", "zarr")
    folder = (path / name).resolve()
    if not folder.is_relative_to(path.resolve()):
        raise RecordError(f"'{name}' lies in another folder", where=path)
    every = list(_codecs(_said(folder)))
    packed = [one for one in every if one in INFLATES]
    strange = [*sorted(set(every) - CODECS), *packed[1:]]
    if strange:
        raise RecordError(
            f"is packed by '{strange[0]}', which is not read", where=folder,
            got=", ".join(every), expected=f"one of {', '.join(INFLATES)}, or none",
            fix="write the array anew: zarr.create_array(..., data=array[:]), without shards",
        )  # fmt: skip
    with damage(folder, "cannot be opened as an array of Zarr"):
        return zarr.open_array(store=str(folder), mode="r")


def _codecs(said: Any, key: str = "") -> Iterator[str]:
    """Names of all filters and compressors, also of those within others."""
    if isinstance(said, Mapping):
        if key in ("codecs", "index_codecs", "filters", "compressor"):
            yield str(said.get("name", said.get("id")))
        for name, one in said.items():
            if name != "attributes":
                yield from _codecs(one, name)
    elif isinstance(said, list):
        for one in said:
            yield from _codecs(one, key)
    elif key == "codecs" and isinstance(said, str):
        yield said
