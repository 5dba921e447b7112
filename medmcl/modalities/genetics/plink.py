"""PLINK 1 binary filesets: .bed with the .bim and .fam beside it.

Two bits a genotype are quickly read with NumPy, so that no further package is needed.

Source:
    The format as documented for PLINK 1.9 (Chang et al. 2015, GigaScience 4:7): magic bytes 6c 1b,
    then 01 for variant-major order; ceil(N / 4) bytes a variant, the first person in the lowest
    bits; 00 two copies of the first allele of the .bim, 10 one, 11 none, 01 no call.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.genetics.variants import Variants, make_variants

MAGIC = b"\x6c\x1b"
VARIANT_MAJOR = 1
_DOSAGE = np.array([2, 0, 1, 0], dtype=np.int8)
_NO_CALL = 1
_BLOCK_BYTES = 64 * 2**20
"""So much of a .bed is held at once: neighbours in the .fam are read together."""

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
        self._width = (people + 3) // 4
        _check_bed(files["bed"], people, count)
        self._bytes = np.memmap(
            files["bed"], dtype=np.uint8, mode="r", offset=3, shape=(count, self._width)
        )
        self._columns = max(1, min(self._width, _BLOCK_BYTES // max(1, count)))
        self._start, self._block = -1, np.empty((0, 0), dtype=np.uint8)

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the first allele of the .bim, (V,) int8, and whether called, (V,) bool."""
        column = number // 4
        start = column - column % self._columns
        if start != self._start:
            part = self._bytes[:, start : start + self._columns]
            self._block, self._start = np.ascontiguousarray(part.T), start
        codes = (self._block[column - start] >> np.uint8(2 * (number % 4))) & np.uint8(3)
        return _DOSAGE[codes], codes != _NO_CALL


def plink_files(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give the three files of a path with or without ``.bed``, or as they are named."""
    if "path" not in paths:
        missing = [name for name in ("bed", "bim", "fam") if name not in paths]
        if missing:
            raise RecordError(
                f"the path has no {' and no '.join(missing)}",
                expected="path: genotypes.bed, or path: {bed: ..., bim: ..., fam: ...}",
                fix="name the files under path: in cohort.yaml",
            )
        return {name: paths[name] for name in ("bed", "bim", "fam")}
    path = paths["path"]
    stem = path.with_suffix("") if path.suffix in (".bed", ".bim", ".fam") else path
    return {name: stem.parent / f"{stem.name}.{name}" for name in ("bed", "bim", "fam")}


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
    positions = np.zeros(len(rows), dtype=np.int64)
    for number, row in enumerate(rows):
        try:
            positions[number] = int(row[3])
        except ValueError:
            raise RecordError(
                "the position is no whole number", where=f"{path}, line {number + 1}", got=row[3]
            ) from None
    return make_variants(
        [row[1] for row in rows],
        [row[0] for row in rows],
        positions,
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
    found = {name: number for number, name in enumerate(names)}
    if len(found) < len(names):
        twice = next(name for number, name in enumerate(names) if found[name] != number)
        raise RecordError(
            "two people have the same name", where=path, got=twice,
            fix="individual: fid_iid calls people FID_IID"
            if individual == "iid" else "give each person a name of his own",
        )  # fmt: skip
    return found


def _fields(path: Path, width: int, names: str) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RecordError("there is no such file", where=path) from None
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
