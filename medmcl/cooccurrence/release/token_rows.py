"""Patients' token counts from a long table, over a vocabulary that is fixed in public."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy import sparse

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.tokens import LARGEST
from medmcl.core.errors import ArtefactError, damage
from medmcl.core.limits import refuse_large_parquet
from medmcl.core.path_suggestions import require_file
from medmcl.core.plain_text import bounded_line, encoding_fix, refuse_unsound_text, separator_fix
from medmcl.data.tables.spreadsheet import unshielded_table

_TABLES = (".csv", ".parquet")
_SHOWN = 3


@dataclass(frozen=True)
class TokenRows:
    """Counts of two modalities, a row a patient and window.

    Attributes:
        x1: First modality, int64 (rows, d1).
        x2: Second, int64 (rows, d2).
        patients: Whose row each is, (rows,).
        unlisted: Occurrences of each modality that the vocabulary does not list; left out.
        examples: Codes of each modality that are not listed, the most frequent first.
        windowed: Whether the table says of which window a row is; else rows are of whole records.
        repeated: Rows of the table that have subject, window, modality and code of one before them;
            their counts were added up.
    """

    x1: sparse.csr_array
    x2: sparse.csr_array
    patients: np.ndarray
    unlisted: dict[str, int]
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    windowed: bool = False
    repeated: int = 0

    @property
    def listed(self) -> dict[str, int]:
        """Occurrences of each modality that the vocabulary lists."""
        both = zip(self.unlisted, (self.x1, self.x2), strict=True)
        return {name: int(matrix.sum()) for name, matrix in both}


def read_vocabularies(path: str | Path) -> dict[str, Vocabulary]:
    """A public vocabulary: CSV or parquet with columns modality, code, version.

    Raises:
        ArtefactError: If a column is missing, a value is empty, or a modality has two versions.
    """
    table = _read(path, columns_of(path, ("modality", "code", "version"), ())).astype(str)
    found = {}
    for name, part in table.groupby("modality", sort=False):
        versions = part["version"].unique()
        if len(versions) > 1:
            raise ArtefactError(
                f"{name} has more than one version", where=path, got=", ".join(versions[:5])
            )
        found[str(name)] = Vocabulary(tuple(part["code"]), str(versions[0]))
    return found


def columns_of(
    path: str | Path,
    needed: tuple[str, ...] = ("subject", "modality", "code", "count"),
    optional: tuple[str, ...] = ("window",),
) -> tuple[str, ...]:
    """Columns of a table that are used, by its header alone; no row is looked at.

    Raises:
        ArtefactError: It is no such table.
    """
    path = Path(path)
    require_file(path, ArtefactError)
    kind = path.suffix.lower()
    columns = ", ".join([*needed, *(f"{name} (optional)" for name in optional)])
    if kind not in _TABLES:
        raise ArtefactError(
            "is no table that can be read", where=path, got=kind or "no suffix",
            expected=f"{' or '.join(_TABLES)} with the columns {columns}", fix=_made_by(needed),
        )  # fmt: skip
    with _told(path, needed):
        if kind == ".parquet":
            found = pq.read_schema(path).names
        else:
            with path.open("rb") as file:
                bounded_line(file, path, ArtefactError)
            found = [*unshielded_table(pd.read_csv(path, nrows=0, encoding_errors="replace"))]
    missing = [name for name in needed if name not in found]
    if missing:
        raise ArtefactError(
            f"lacks columns: {', '.join(missing)}", where=path,
            got=", ".join(map(str, found)), expected=columns,
            fix=separator_fix(found) or encoding_fix(path) or _made_by(needed),
        )  # fmt: skip
    return (*needed, *(name for name in optional if name in found))


def read_rows(path: str | Path, vocabularies: dict[str, Vocabulary]) -> TokenRows:
    """Token counts from CSV or parquet: subject, modality, code, count, and window if there is one.

    Raises:
        ArtefactError: If a column is missing, a value empty, or a count no whole number above 0
            and below 2^31.
    """
    table = _read(path, columns_of(path))
    counts = pd.to_numeric(table["count"], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((counts >= 1) & (counts <= LARGEST) & (counts == np.floor(counts)))
    if wrong.any():
        first, is_parquet = int(np.argmax(wrong)), Path(path).suffix.lower() == ".parquet"
        place = f"row {first + 1}" if is_parquet else f"line {first + 2}"  # its header is line 1
        raise ArtefactError(
            f"counts are whole, above 0 and at most {LARGEST}",
            where=f"{path}, {place}, column count",
            got=f"{table['count'].iloc[first]}; {int(wrong.sum())} of {len(wrong)} rows are so",
            expected="1, 2, 3, ...",
        )
    windowed = "window" in table
    keys = table[["subject", "window"] if windowed else ["subject"]]
    words = table[["modality", "code"]].astype(str)
    strange = sorted(set(words["modality"]) - set(vocabularies))
    if strange or len(vocabularies) != 2:
        raise ArtefactError(
            "a private release is of two modalities that the vocabulary lists",
            where=path,
            got=", ".join([*vocabularies, *strange]),
        )
    row = _numbered(keys, Path(path))
    owners = np.empty(int(row.max(initial=-1)) + 1, dtype=object)
    owners[row] = table["subject"].astype(str).to_numpy()
    matrices, unlisted, examples = [], {}, {}
    for name, known in vocabularies.items():
        here = (words["modality"] == name).to_numpy()
        codes = words["code"][here]
        column = pd.Index(known.tokens).get_indexer(pd.Index(codes))
        listed = column >= 0
        examples[name] = tuple(codes[~listed].value_counts().index[:_SHOWN])
        unlisted[name] = int(counts[here][~listed].sum())
        cells = (row[here][listed], column[listed])
        values = counts[here][listed].astype(np.int64)
        matrices.append(sparse.csr_array((values, cells), shape=(len(owners), len(known))))
    one, two = matrices
    return TokenRows(
        one,
        two,
        owners.astype(str),
        unlisted,
        examples,
        windowed=windowed,
        repeated=int(keys.astype(str).join(words).duplicated().sum()),
    )


def refuse_other_window(rows: TokenRows, window: str, path: Path, fix: str) -> None:
    """Refuse a release that would call its rows by another window than they are of.

    Args:
        rows: What `read_rows` gave.
        window: As the manifest will say it.
        path: Of the table.
        fix: How to name the window.

    Raises:
        ArtefactError: Rows of windows that are called whole records, or the reverse.
    """
    if rows.windowed == (window != "record"):
        return
    kind = "a window of a patient" if rows.windowed else "the whole record of a patient"
    raise ArtefactError(
        f"a row is {kind}, and the release would say otherwise",
        where=path,
        got=f"{'a' if rows.windowed else 'no'} column window, and window {window}",
        expected="the column window with month or visit, no such column with record",
        fix=fix,
    )


def _numbered(keys: pd.DataFrame, path: Path) -> np.ndarray:
    """The number of each row's subject and window."""
    try:
        number = keys.groupby(list(keys.columns), sort=True).ngroup()
    except TypeError:  # lists, or names that cannot be put in order
        raise ArtefactError(
            f"{' and '.join(keys.columns)} cannot be told apart and put in order",
            where=path,
            got=", ".join(f"{name}: {type(keys[name].iloc[0]).__name__}" for name in keys),
            expected="names of one type, text or whole numbers",
        ) from None
    return number.to_numpy()


def _read(path: str | Path, columns: tuple[str, ...]) -> pd.DataFrame:
    path = Path(path)
    with _told(path, columns):
        if path.suffix.lower() == ".parquet":
            refuse_large_parquet(path, error=ArtefactError)
            table = pd.read_parquet(path, columns=list(columns))
        else:
            refuse_unsound_text(path, error=ArtefactError)
            table = unshielded_table(pd.read_csv(path, dtype=str))[list(columns)]
    empty = [name for name in table if table[name].isna().any()]
    if empty:
        raise ArtefactError("has empty values", where=path, got=", ".join(map(str, empty)))
    return table


def _told(path: Path, columns: tuple[str, ...]) -> AbstractContextManager[None]:
    return damage(
        path, f"is no whole {path.suffix.lower()[1:]} table", error=ArtefactError,
        expected=f"a table with the columns {', '.join(columns)}",
        fix=encoding_fix(path) or _made_by(columns),
    )  # fmt: skip


def _made_by(columns: tuple[str, ...]) -> str | None:
    rows = "count" in columns
    return "make it from a spec: medmcl cooccur rows SPEC --out rows.parquet" if rows else None
