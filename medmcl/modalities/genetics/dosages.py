"""Dosage tables: a row a person, a column a variant, copies of the counted allele from 0 to 2.

A second table says what the columns are. An empty cell is no call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.errors import RecordError
from medmcl.modalities.genetics.variants import Variants, make_variants

if TYPE_CHECKING:
    import pandas as pd

FILES = ("dosages", "variants")
COLUMNS = ("id", "chromosome", "position", "counted", "other")
_SLACK = 1e-3
"""Dosages so far outside 0 to 2 are rounding, and cut."""


class Dosages:
    """A dosage table, read whole.

    Args:
        files: ``dosages``, whose first column names people; ``variants``, with `COLUMNS`.

    Raises:
        RecordError: A table that cannot be read, columns that are missing, a dosage outside 0 to 2.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        frame = _read(files["dosages"])
        names = [_text(cell) for cell in frame.iloc[:, 0]]
        self.individuals = {name: number for number, name in enumerate(names)}
        if len(self.individuals) < len(names):
            raise RecordError(
                "two rows have the same name", where=files["dosages"],
                got=next(n for i, n in enumerate(names) if self.individuals[n] != i),
                expected="a row a person, named in the first column",
            )  # fmt: skip
        self.variants = _read_variants(files["variants"])
        missing = [one for one in self.variants.ids if one not in frame.columns]
        if missing:
            raise RecordError(
                f"{len(missing)} of {len(self.variants)} variants have no column, for example "
                f"'{missing[0]}'",
                where=files["dosages"],
                got=", ".join(map(str, frame.columns[1:4])) + ", ...",
                fix=f"take them out of {files['variants'].name}, or correct their names",
            )
        self._values = _numbers(frame, self.variants.ids, files["dosages"])

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the counted allele, (V,) float32, and whether called, (V,) bool."""
        values = self._values[number]
        called = ~np.isnan(values)
        return np.where(called, values, np.float32(0)), called


def dosage_files(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give the two files."""
    missing = [name for name in FILES if name not in paths]
    if missing:
        raise RecordError(
            f"the path has no {' and no '.join(missing)}",
            expected="path: {dosages: dosages.parquet, variants: variants.csv}",
            fix="name both tables: alleles are needed to know what is counted",
        )
    return {name: paths[name] for name in FILES}


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise RecordError("there is no such file", where=path)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        separator = "\t" if ".tsv" in path.name else ","
        return pd.read_csv(path, sep=separator, low_memory=False)
    except Exception as error:  # pandas and pyarrow raise many kinds on damaged bytes
        raise RecordError(
            "cannot be read as a table", where=path, got=f"{type(error).__name__}: {error}"[:200],
            expected=".parquet, .csv, .tsv (also .gz)",
        ) from None  # fmt: skip


def _read_variants(path: Path) -> Variants:
    frame = _read(path)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise RecordError(
            f"the table of variants has no column '{missing[0]}'"
            f"{nearest(missing[0], map(str, frame.columns))}",
            where=path, expected=", ".join(COLUMNS),
            fix="rename its columns: counted is the allele whose copies the dosages count",
        )  # fmt: skip
    holes = frame[["id", "counted", "other"]].isna().any(axis=1).to_numpy()
    if holes.any():
        raise RecordError(
            f"{int(holes.sum())} variants have no id or no alleles",
            where=f"{path}, line {int(np.flatnonzero(holes)[0]) + 2}",
        )
    columns = {name: [_text(cell) for cell in frame[name]] for name in COLUMNS}
    positions = np.nan_to_num(_number(frame["position"], path, "position")).astype(np.int64)
    return make_variants(
        columns["id"],
        columns["chromosome"],
        positions,
        columns["counted"],
        columns["other"],
        str(path),
    )


def _numbers(frame: pd.DataFrame, names: Sequence[str], path: Path) -> np.ndarray:
    """Dosages of some columns, (N, V) float32, NaN where not called."""
    values = np.stack([_number(frame[name], path, name) for name in names], axis=1)
    outside = (values < -_SLACK) | (values > 2 + _SLACK)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise RecordError(
            f"{int(outside.sum())} dosages lie outside 0 to 2",
            where=f"{path}, row {row + 1}, column '{names[column]}'",
            got=float(values[row, column]),
            expected="copies of the counted allele; empty = no call",
            fix="leave cells without a call empty (-1, 9 and 3 are none)",
        )  # fmt: skip
    return np.clip(values, 0, 2).astype(np.float32)


def _number(column: pd.Series, path: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(column.astype(np.float64), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"column '{name}' holds what is no number", where=path, got=str(error)[:100]
        ) from None


def _text(cell: Any) -> str:
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()
