"""Opening the files that hold everybody's genotypes, each once a process.

Dosage tables have a row a person and a column a variant, copies of the counted allele from 0 to 2.
A second table says what the columns are. An empty cell is no call. PLINK 1 binary filesets are .bed
with the .bim and .fam beside it. Two bits a genotype are quickly read with NumPy, so that no
further package is needed.

Source:
    The format of .bed as documented for PLINK 1.9 (Chang et al. 2015, GigaScience 4:7): magic bytes
    6c 1b, then 01 for variant-major order; ceil(N / 4) bytes a variant, the first person in the
    lowest bits; 00 two copies of the first allele of the .bim, 10 one, 11 none, 01 no call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmcl.core.config import nearest
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError, damage
from medmcl.core.limits import refuse_large_parquet
from medmcl.core.plain_text import refuse_unsound_text
from medmcl.modalities.genetics.parts import (
    BLOCK_BYTES,
    Blocks,
    named_parts,
    numbered,
    positions_of,
)
from medmcl.modalities.genetics.pgen import ENDINGS, Pgen, pgen_files
from medmcl.modalities.genetics.variants import Fileset, Variants, make_variants
from medmcl.modalities.opening import as_text, require_content

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
        names = [as_text(cell) for cell in frame.iloc[:, 0]]
        self.individuals = numbered(names, files["dosages"], with_family=True)
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
    expected = "path: {dosages: dosages.parquet, variants: variants.csv}"
    fix = "name both tables: alleles are needed to know what is counted"
    return named_parts(paths, FILES, expected, fix)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    expected = ".parquet, .csv, .tsv (also .gz)"
    require_content(path)
    with damage(path, "cannot be read as a table", expected=expected, fix=None):
        if path.suffix == ".parquet":
            refuse_large_parquet(path)
            return pd.read_parquet(path)
        refuse_unsound_text(path)
        separator = "\t" if ".tsv" in path.name else ","
        return pd.read_csv(path, sep=separator, low_memory=False)


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
    columns = {name: [as_text(cell) for cell in frame[name]] for name in COLUMNS}
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
    with damage(path, f"column '{name}' holds what is no number", fix=None):
        return np.asarray(column.astype(np.float64), dtype=np.float64)


MAGIC = b"\x6c\x1b"
VARIANT_MAJOR = 1
_DOSAGE = np.array([2, 0, 1, 0], dtype=np.int8)
_NO_CALL = 1

Individual = Literal["iid", "fid_iid"]


class Plink:
    """An open fileset.

    Args:
        files: ``bed``, ``bim`` and ``fam``.
        individual: Whether people are called by IID, or by FID and IID with ``_`` between them.

    Raises:
        RecordError: A file that is missing, not of the format, truncated, or of another count.
    """

    def __init__(self, files: Mapping[str, Path], individual: Individual = "iid") -> None:
        self.variants = read_bim(files["bim"])
        self.individuals = read_fam(files["fam"], individual)
        people, count = len(self.individuals), len(self.variants)
        width = (people + 3) // 4
        _check_bed(files["bed"], people, count)
        held = np.memmap(files["bed"], dtype=np.uint8, mode="r", offset=3, shape=(count, width))
        self._columns = Blocks(
            lambda start, end: np.ascontiguousarray(held[:, start:end].T),
            BLOCK_BYTES // max(1, count),
            width,
        )

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the first allele of the .bim, (V,) int8, and whether called, (V,) bool."""
        packed = self._columns.at(number // 4)
        codes = (packed >> np.uint8(2 * (number % 4))) & np.uint8(3)
        return _DOSAGE[codes], codes != _NO_CALL


def plink_files(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give the three files of a path with or without ``.bed``, or as they are named."""
    names = ("bed", "bim", "fam")
    if "path" not in paths:
        expected = "path: genotypes.bed, or path: {bed: ..., bim: ..., fam: ...}"
        return named_parts(paths, names, expected, "name the files under path: in cohort.yaml")
    path = paths["path"]
    _refuse_unread(path)
    stem = path.with_suffix("") if path.suffix[1:] in names else path
    return {name: stem.parent / f"{stem.name}.{name}" for name in names}


_CONVERTED = {
    ".vcf": "plink2 --vcf {name}", ".bcf": "plink2 --bcf {name}",
    ".bgen": "plink2 --bgen {name} ref-first --sample {stem}.sample",
}  # fmt: skip
"""Endings of genotypes that no library which medmcl asks for reads, and the first half of a fix."""


def _refuse_unread(path: Path) -> None:
    """Refuse files of other programs, or a stem that has only those of PLINK 2."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    stem, ending = path.with_name(Path(name).stem), Path(name).suffix.lower()
    bare = path.with_suffix("") if ending == ".bed" else path
    if path.name.endswith(ENDINGS) or (
        Path(f"{bare}.pgen").is_file() and not Path(f"{bare}.bed").is_file()
    ):
        raise RecordError(
            "is a fileset of PLINK 2", where=path, fix="say reader: pgen in cohort.yaml"
        )
    if ending not in _CONVERTED:
        return
    command = _CONVERTED[ending].format(stem=stem, name=path)
    raise RecordError(
        f"is {ending}, which is not read", where=path, got=ending,
        expected="PLINK filesets (.bed or .pgen), or a table of dosages",
        fix=f"convert it once: {command} --make-bed --out {stem}",
    )  # fmt: skip


def _check_bed(path: Path, people: int, count: int) -> None:
    with path.open("rb") as file:
        head = file.read(3)
    if head[:2] != MAGIC:
        raise RecordError(
            "is no PLINK 1 .bed: the first bytes are others", where=path, got=head[:2].hex(" "),
            expected=MAGIC.hex(" "),
            fix="was it opened as text, zipped, or is it a .bed of genome regions? make it with "
            "plink --make-bed",
        )  # fmt: skip
    if len(head) < 3 or head[2] != VARIANT_MAJOR:
        raise RecordError(
            "is not in variant-major order, which alone is read", where=path,
            got=head[2:].hex() or "the end of the file", expected="01",
            fix="make it anew with plink --make-bed",
        )  # fmt: skip
    size, expected = path.stat().st_size, 3 + count * ((people + 3) // 4)
    if size != expected:
        fault = "is truncated" if size < expected else "is longer than .bim and .fam say"
        raise RecordError(
            fault, where=path, got=f"{size:,} bytes",
            expected=f"{expected:,} bytes: 3 + {count:,} variants x {(people + 3) // 4:,} bytes "
            f"for {people:,} people",
            fix="copy it again, with the .bim and .fam that belong to it",
        )  # fmt: skip


def read_bim(path: Path) -> Variants:
    """Read the variants: chromosome, name, centimorgans, position, two alleles.

    Raises:
        RecordError: A line of other fields, or a position that is no number.
    """
    rows = _fields(path, 6, "chromosome, name, centimorgans, position, allele 1, allele 2")
    return make_variants(
        [row[1] for row in rows],
        [row[0] for row in rows],
        positions_of([row[3] for row in rows], lambda number: f"{path}, line {number + 1}"),
        [row[4] for row in rows],
        [row[5] for row in rows],
        str(path),
    )


def read_fam(path: Path, individual: Individual = "iid") -> dict[str, int]:
    """Read the people: their names by ``individual``, to their rows.

    Raises:
        RecordError: A line of other fields, or two people of one name.
    """
    rows = _fields(path, 6, "family, individual, father, mother, sex, phenotype")
    names = [row[1] if individual == "iid" else f"{row[0]}_{row[1]}" for row in rows]
    return numbered(names, path, with_family=individual != "iid")


def _fields(path: Path, width: int, names: str) -> list[list[str]]:
    require_content(path)
    refuse_unsound_text(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise RecordError("is no text", where=path, expected=f"lines of: {names}") from None
    rows = [line.split() for line in lines if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise RecordError(
                f"a line has {len(row)} fields", where=f"{path}, line {number}",
                got=" ".join(row)[:80], expected=f"{width}: {names}",
            )  # fmt: skip
    if not rows:
        raise RecordError("is empty", where=path, expected=f"lines of: {names}")
    return rows


Reader = Literal["plink", "pgen", "dosages"]
_OPEN = 4
"""Filesets that stay open: batches of a study."""


def files_of(reader: Reader, paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give every file of a fileset by its part.

    Raises:
        RecordError: A part is not named.
    """
    named = {"plink": plink_files, "pgen": pgen_files, "dosages": dosage_files}
    return named[reader](paths)


def open_fileset(
    reader: Reader, paths: Mapping[str, Path], individual: Individual = "iid"
) -> Fileset:
    """Open a fileset, or give the one that is open and has not changed on disk.

    Raises:
        RecordError: A file that is missing, damaged or does not fit the others.
    """
    files = files_of(reader, paths)
    found = map(require_content, files.values())
    stamps = tuple((one.st_size, one.st_mtime_ns) for one in found)
    return _open(reader, tuple(files.items()), stamps, individual)


@lru_cache(maxsize=_OPEN)
def _open(
    reader: Reader,
    files: tuple[tuple[str, Path], ...],
    stamps: tuple[tuple[int, int], ...],  # noqa: ARG001  (part of the key)
    individual: Individual,
) -> Fileset:
    if reader == "pgen":
        return Pgen(dict(files), with_family=individual == "fid_iid")
    return Plink(dict(files), individual) if reader == "plink" else Dosages(dict(files))


def individual_of(place: RecordRef, column: str | None) -> str:
    """Give a person's name in the files: the cell of a column, or the subject."""
    return place.subject if column is None else label(place.values.get(column)) or ""


def label(cell: Any) -> str | None:
    """Give a cell as text, whole numbers without ``.0``; None where it is empty."""
    return None if cell is None or cell != cell else as_text(cell) or None
