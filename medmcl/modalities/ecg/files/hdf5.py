"""ECGs of many people as one array of an HDF5 file, as CODE-15 is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.core.lazy import import_extra
from medmcl.modalities.ecg.files.arrays import only_one, only_row, rows_by_name, take
from medmcl.modalities.opening import kept


def row_of(path: Path, ids: str, wanted: str) -> int:
    """Give the row of a record by its name in the data set ``ids`` of the file.

    Raises:
        RecordError: There is no such data set, or not one such name in it.
    """
    return only_row(_rows(path, ids).get(wanted, []), ids, wanted, path)


@kept(32)
def _rows(path: Path, ids: str) -> dict[str, list[int]]:
    """Name to rows, read once a file."""
    with _opened(path) as file:
        return rows_by_name(_dataset(file, ids, path), ids, path)


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
        own = [name for name in file if getattr(_own(file, name), "ndim", 0) >= 2]
        name = dataset or only_one(own, file, path)
        return take(_dataset(file, name, path), name, path, row)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with import_extra("h5py", "hdf5").File(path, "r") as file:
        yield file


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
