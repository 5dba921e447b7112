"""Opening the files that hold everybody's genotypes, each once a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.genetics.dosages import Dosages, dosage_files
from medmcl.modalities.genetics.plink import Individual, Plink, plink_files
from medmcl.modalities.genetics.variants import Fileset

Reader = Literal["plink", "dosages"]
_OPEN = 4
"""Filesets that stay open: batches of a study."""


def files_of(reader: Reader, paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give every file of a fileset by its part.

    Raises:
        RecordError: A part is not named.
    """
    return plink_files(paths) if reader == "plink" else dosage_files(paths)


def open_fileset(
    reader: Reader, paths: Mapping[str, Path], individual: Individual = "iid"
) -> Fileset:
    """Open a fileset, or give the one that is open and has not changed on disk.

    Raises:
        RecordError: A file that is missing, damaged or does not fit the others.
    """
    files = files_of(reader, paths)
    for path in files.values():
        if not path.is_file():
            raise RecordError("there is no such file", where=path)
    stamps = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in files.values())
    return _open(reader, tuple(files.items()), stamps, individual)


@lru_cache(maxsize=_OPEN)
def _open(
    reader: Reader,
    files: tuple[tuple[str, Path], ...],
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001  (part of the key)
    individual: Individual,
) -> Fileset:
    return Plink(dict(files), individual) if reader == "plink" else Dosages(dict(files))


def individual_of(place: RecordRef, column: str | None) -> str:
    """Give a person's name in the files: the cell of a column, or the subject."""
    return place.subject if column is None else label(place.values.get(column)) or ""


def label(cell: Any) -> str | None:
    """Give a cell as text, whole numbers without ``.0``; None where it is empty."""
    if cell is None:
        return None
    if isinstance(cell, float):
        return None if cell != cell else str(int(cell)) if cell.is_integer() else str(cell)
    return str(cell).strip() or None
