"""Patients' token counts from a long table, over a vocabulary that is fixed in public."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from medmcl.cooccurrence.counts import Vocabulary
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class TokenRows:
    """Counts of two modalities, a row a patient and window.

    Attributes:
        x1: First modality, int64 (rows, d1).
        x2: Second, int64 (rows, d2).
        patients: Whose row each is, (rows,).
        unlisted: Occurrences of each modality that the vocabulary does not list; left out.
    """

    x1: sparse.csr_array
    x2: sparse.csr_array
    patients: np.ndarray
    unlisted: dict[str, int]


def read_vocabularies(path: str | Path) -> dict[str, Vocabulary]:
    """A public vocabulary: CSV or parquet with columns modality, code, version.

    Raises:
        ArtefactError: If a column is missing, a value is empty, or a modality has two versions.
    """
    table = _read(Path(path), ("modality", "code", "version")).astype(str)
    found = {}
    for name, part in table.groupby("modality", sort=False):
        versions = part["version"].unique()
        if len(versions) > 1:
            raise ArtefactError(
                f"{name} has more than one version", where=path, got=", ".join(versions[:5])
            )
        found[str(name)] = Vocabulary(tuple(part["code"]), str(versions[0]))
    return found


def read_rows(path: str | Path, vocabularies: dict[str, Vocabulary]) -> TokenRows:
    """Token counts from CSV or parquet: subject, modality, code, count, and window if there is one.

    Raises:
        ArtefactError: If a column is missing, a value empty, or a count no whole number above 0.
    """
    table = _read(Path(path), ("subject", "modality", "code", "count"), optional=("window",))
    counts = pd.to_numeric(table["count"], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((counts >= 1) & (counts == np.floor(counts)))
    if wrong.any():
        raise ArtefactError(
            "counts are whole and above 0",
            where=path,
            got=f"{int(wrong.sum())} that are not, first in row {int(np.argmax(wrong))}",
        )
    keys = table[["subject", "window"] if "window" in table else ["subject"]]
    row = keys.groupby(list(keys.columns), sort=True).ngroup().to_numpy()
    rows = int(row.max()) + 1 if len(row) else 0
    owners = np.empty(rows, dtype=object)
    owners[row] = table["subject"].astype(str).to_numpy()
    matrices, unlisted = [], {}
    for name, words in vocabularies.items():
        here = (table["modality"].astype(str) == name).to_numpy()
        column = pd.Index(words.tokens).get_indexer(pd.Index(table["code"][here].astype(str)))
        listed = column >= 0
        unlisted[name] = int(counts[here][~listed].sum())
        cells = (row[here][listed], column[listed])
        values = counts[here][listed].astype(np.int64)
        matrices.append(sparse.csr_array((values, cells), shape=(rows, len(words))))
    strange = sorted(set(table["modality"].astype(str)) - set(vocabularies))
    if strange or len(matrices) != 2:
        raise ArtefactError(
            "a private release is of two modalities that the vocabulary lists",
            where=path,
            got=", ".join([*vocabularies, *strange]),
        )
    return TokenRows(matrices[0], matrices[1], owners.astype(str), unlisted)


def _read(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    if not path.is_file():
        raise ArtefactError("no such file", where=path)
    parquet = path.suffix.lower() == ".parquet"
    table = pd.read_parquet(path) if parquet else pd.read_csv(path, dtype=str)
    missing = [name for name in needed if name not in table]
    if missing:
        raise ArtefactError(
            "lacks columns", where=path, got=", ".join(map(str, table.columns)),
            expected=", ".join(needed),
        )  # fmt: skip
    table = table[[*needed, *(name for name in optional if name in table)]]
    empty = [name for name in table if table[name].isna().any()]
    if empty:
        raise ArtefactError("has empty values", where=path, got=", ".join(map(str, empty)))
    return table
