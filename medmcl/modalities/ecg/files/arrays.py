"""ECGs of many people as one array of a file: npy, HDF5, as CODE-15 is delivered, and Zarr."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.core.limits import refuse_large
from medmcl.modalities.opening import kept, require_row


def rows_by_name(names: Any, ids: str, path: Path) -> dict[str, list[int]]:
    """Name to rows of a list of names, which h5py or zarr has opened.

    Raises:
        RecordError: It is no list of whole numbers or texts, or more than memory.
    """
    if names.ndim != 1 or np.dtype(names.dtype).kind not in "iuSOUT":
        got, expected = f"{names.dtype} {names.shape}", "whole numbers or texts"
        raise RecordError("is no list of names", where=f"{path}, {ids}", got=got, expected=expected)
    chunk = math.prod(names.chunks or ()) * np.dtype(names.dtype).itemsize
    refuse_large(max(names.shape[0] * 200, chunk), path, f"its data set '{ids}'")
    found: dict[str, list[int]] = {}
    for row, name in enumerate(np.asarray(names[:]).tolist()):
        said = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        found.setdefault(said, []).append(row)
    return found


def only_row(rows: list[int], ids: str, wanted: str, path: Path) -> int:
    """Give the one row that has the name of a record.

    Raises:
        RecordError: There is none, or there are several.
    """
    if len(rows) != 1:
        raise RecordError(
            f"{len(rows)} rows of '{ids}' have the name of the record" if rows
            else f"no row of '{ids}' has the name of the record",
            where=path, got=wanted, expected="one row",
            fix="correct row: (a column with these names) or ids: (the data set that has them)",
        )  # fmt: skip
    return rows[0]


def read_npy(path: Path, _dataset: None, row: int | None) -> np.ndarray:
    """Give an array of an npy file, or a row of it, mapped and not loaded.

    Raises:
        RecordError: It holds no real numbers, or has no such row.
    """
    array = _mapped(path)
    if array.dtype.kind not in "fiu":
        raise RecordError("must hold real numbers", where=path, got=f"dtype {array.dtype}")
    if row is None:
        return array
    require_row(row, len(array), path)
    return np.asarray(array[row])


@kept(4)
def _mapped(path: Path) -> np.ndarray:
    """Map a file once for all its rows."""
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def take(array: Any, name: str, path: Path, row: int | None) -> np.ndarray:
    """Read a row of an array (N, ...), or all of it without ``row``; h5py or zarr has opened it.

    Raises:
        RecordError: It holds no real numbers, has no such row, or claims more than memory.
    """
    kind, size = np.dtype(array.dtype).kind, np.dtype(array.dtype).itemsize
    if kind not in "fiu" or array.ndim == 0:
        got = f"{array.dtype} {array.shape}"
        raise RecordError("must hold real numbers", where=f"{path}, {name}", got=got)
    if row is not None:
        require_row(row, array.shape[0], path)
    read = math.prod(array.shape if row is None else array.shape[1:])
    held = max(read, math.prod(array.chunks or ())) * (size + 8)
    refuse_large(held, path, f"its data set {array.shape}")
    return np.asarray(array[...] if row is None else array[row])


def only_one(names: list[str], every: Iterable[str], path: Path) -> str:
    """Give the only data set that may hold ECGs, of two or more axes.

    Raises:
        RecordError: There is none, or there are several.
    """
    if len(names) != 1:
        raise RecordError(
            "nobody says which of its data sets holds the ECGs", where=path,
            got=", ".join(list(every)[:12]), fix="say it in cohort.yaml: dataset: tracings",
        )  # fmt: skip
    return names[0]
