"""ECGs of many people as one array of an HDF5 file, as CODE-15 is delivered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import ExtraNotInstalledError, RecordError
from medmcl.core.limits import refuse_large
from medmcl.modalities.ecg.files.readers import require_content


def row_of(path: Path, ids: str, wanted: str) -> int:
    """Give the row of a record by its name in the data set ``ids`` of the file.

    Raises:
        RecordError: There is no such data set, or not one such name in it.
    """
    require_content(path)
    stat = path.stat()
    rows = _rows(path, ids, stat.st_size, stat.st_mtime_ns).get(wanted, [])
    if len(rows) != 1:
        raise RecordError(
            f"{len(rows)} rows of '{ids}' have the name of the record" if rows
            else f"no row of '{ids}' has the name of the record",
            where=path, got=wanted, expected="one row",
            fix="correct row: (a column with these names) or ids: (the data set that has them)",
        )  # fmt: skip
    return rows[0]


@lru_cache(maxsize=32)
def _rows(path: Path, ids: str, *_stamp: int) -> dict[str, list[int]]:
    """Name to rows, read once a file."""
    found: dict[str, list[int]] = {}
    with _opened(path) as file:
        names = _dataset(file, ids, path)
        if names.ndim != 1 or names.dtype.kind not in "iuSO":
            got, expected = f"{names.dtype} {names.shape}", "whole numbers or texts"
            raise RecordError("is no list of names", where=path, got=got, expected=expected)
        refuse_large(names.size * 200, path, f"its data set '{ids}'")
        for row, name in enumerate(names[()].tolist()):
            said = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            found.setdefault(said, []).append(row)
    return found


def read_array(path: Path, dataset: str | None, row: int | None) -> np.ndarray:
    """Read a record: a row of an array (N, ...), or without ``row`` a whole array of two axes.

    Args:
        path: The file.
        dataset: Name of the array; None if there is one.
        row: Row of the first axis.

    Raises:
        RecordError: No such data set or row, data that lie elsewhere, or more than memory.
        ExtraNotInstalledError: h5py is not installed.
    """
    with _opened(path) as file:
        name = dataset or _only_one(file, path)
        array = _dataset(file, name, path)
        if array.dtype.kind not in "fiu" or array.ndim == 0:
            raise RecordError("must hold real numbers", where=f"{path}, {name}",
                              got=f"{array.dtype} {array.shape}")  # fmt: skip
        if row is not None and not 0 <= row < len(array):
            raise RecordError(
                "there is no such row", where=path, got=row, expected=f"0 to {len(array) - 1}"
            )
        read = math.prod(array.shape if row is None else array.shape[1:])
        held = max(read, math.prod(array.chunks or ())) * (array.dtype.itemsize + 8)
        refuse_large(held, path, f"its data set {array.shape}")
        return np.asarray(array[()] if row is None else array[row])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise ExtraNotInstalledError("h5py", "hdf5") from None
    with h5py.File(path, "r") as file:
        yield file


def _only_one(file: Any, path: Path) -> str:
    """The only array of two or more axes at the top of a file."""
    names = [name for name in file if getattr(_own(file, name), "ndim", 0) >= 2]
    if len(names) != 1:
        raise RecordError(
            "nobody says which of its data sets holds the ECGs", where=path,
            got=", ".join(list(file)[:12]), fix="say it in cohort.yaml: dataset: tracings",
        )  # fmt: skip
    return names[0]


def _own(file: Any, name: str) -> Any:
    """What stands under a name in the file itself; None if it is elsewhere, or a link."""
    import h5py

    here = file
    for part in name.strip("/").split("/"):
        if not isinstance(here, h5py.Group) or here.get(part, getlink=True) is None:
            return None
        if not isinstance(here.get(part, getlink=True), h5py.HardLink):
            return None
        here = here[part]
    return here


def _dataset(file: Any, name: str, path: Path) -> Any:
    import h5py

    found = _own(file, name)
    if not isinstance(found, h5py.Dataset):
        raise RecordError(
            f"there is no data set '{name}'", where=path, got=", ".join(list(file)[:12]),
            expected="a data set in the file itself, no link to another file",
            fix="correct dataset: or ids: in cohort.yaml",
        )  # fmt: skip
    if found.is_virtual or found.external:
        raise RecordError(
            f"the data of '{name}' lie in other files", where=path, got="external or virtual data",
            expected="data in the file itself", fix="write the file anew: h5repack IN OUT",
        )  # fmt: skip
    return found
