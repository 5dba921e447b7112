"""PLINK 2 filesets: .pgen with the .pvar (also .pvar.zst) and .psam beside it.

Read by pgenlib, of PLINK's own author: a .pgen is compressed, and may hold dosages beside calls.

Source:
    The formats as documented for PLINK 2.0: a .pvar has ``#CHROM POS ID REF ALT ...`` behind lines
    of ``##``, a .psam ``#FID IID ...`` or ``#IID ...``; without such a line they are a .bim and a
    .fam. A dosage counts the ALT allele.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError, damage
from medmcl.core.lazy import import_extra
from medmcl.core.limits import most_bytes, refuse_large
from medmcl.core.plain_text import refuse_unsound_text
from medmcl.modalities.genetics.parts import (
    BLOCK_BYTES,
    Blocks,
    named_parts,
    numbered,
    positions_of,
)
from medmcl.modalities.genetics.variants import UNWRITTEN, Variants, make_variants
from medmcl.modalities.opening import require_content

ENDINGS = (".pgen", ".pvar", ".pvar.zst", ".psam")
_NO_CALL = -9.0
_TWO = 2
_PER_BYTE = 4
"""Bytes of memory that a byte of text takes, about."""


class Pgen:
    """An open fileset.

    Args:
        files: ``pgen``, ``pvar`` and ``psam``.
        with_family: Whether people are called by FID and IID with ``_`` between them.

    Variants with more than two alleles are left out (`Variants.left_out`).

    Raises:
        RecordError: A file that is missing, damaged or of another count.
        ExtraNotInstalledError: pgenlib is not installed.
    """

    def __init__(self, files: Mapping[str, Path], *, with_family: bool = False) -> None:
        self._path = files["pgen"]
        self.variants, alleles = read_pvar(files["pvar"])
        self._kept = np.flatnonzero(alleles == _TWO).astype(np.uint32)
        self.individuals = read_psam(files["psam"], with_family=with_family)
        people, count = len(self.individuals), len(alleles)
        self._reader = _opened(self._path, people, alleles)
        weakref.finalize(self, self._reader.close)
        if self._reader.get_variant_ct() != count:
            raise RecordError(
                "holds another number of variants than its .pvar", where=self._path,
                got=f"{self._reader.get_variant_ct():,}", expected=f"{count:,}",
                fix="copy it again, with the .pvar and .psam that belong to it",
            )  # fmt: skip
        self._people = Blocks(self._read, BLOCK_BYTES // (4 * max(1, count)), people)

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the ALT allele, (V,) float32, and whether called, (V,) bool.

        Raises:
            RecordError: The file is damaged.
        """
        values = self._people.at(number)
        called = values != _NO_CALL
        return np.where(called, values, np.float32(0)), called

    def _read(self, start: int, end: int) -> np.ndarray:
        """Dosages of some people, (people, V)."""
        people = np.arange(start, end, dtype=np.uint32)
        found = np.empty((len(self.variants), len(people)), dtype=np.float32)
        try:
            self._reader.change_sample_subset(people)
            self._reader.read_dosages_list(self._kept, found)
        except (RuntimeError, ValueError) as error:
            raise _damaged(self._path, error) from None
        if not (((found >= 0) & (found <= 2)) | (found == _NO_CALL)).all():
            raise _damaged(self._path, "dosages outside 0 to 2")
        return found.T


def _opened(path: Path, people: int, alleles: np.ndarray) -> Any:
    pgenlib = import_extra("pgenlib", "plink")
    try:
        starts = np.concatenate([[0], np.cumsum(alleles)]).astype(np.uintp)
        several = {"allele_idx_offsets": starts} if (alleles != _TWO).any() else {}
        return pgenlib.PgenReader(str(path).encode(), raw_sample_ct=people, **several)
    except (RuntimeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> RecordError:
    return RecordError(
        "cannot be read as .pgen", where=path, got=" ".join(str(why).split())[:200],
        fix="copy it again, with the .pvar and .psam that belong to it; "
        "`plink2 --pfile STEM --validate` says more",
    )  # fmt: skip


def pgen_files(paths: Mapping[str, Path]) -> dict[str, Path]:
    """Give the three files of a path with or without ``.pgen``, or as they are named."""
    names = ("pgen", "pvar", "psam")
    if "path" not in paths:
        expected = "path: genotypes.pgen, or path: {pgen: ..., pvar: ..., psam: ...}"
        return named_parts(paths, names, expected, "name the files under path: in cohort.yaml")
    path = paths["path"]
    ending = next((one for one in ENDINGS if path.name.endswith(one)), "")
    stem = path.name.removesuffix(ending)
    found = {name: path.with_name(f"{stem}.{name}") for name in names}
    packed = path.with_name(f"{stem}.pvar.zst")
    if packed.is_file() and not found["pvar"].is_file():
        found["pvar"] = packed
    return found


def read_pvar(path: Path) -> tuple[Variants, np.ndarray]:
    """Read the variants of two alleles, and how many alleles each variant of the file has.

    Raises:
        RecordError: A line of other fields, a position that is no number, no variant of two.
    """
    header, rows = _table(path, ("CHROM", "POS", "ID", "REF", "ALT"))
    if header is None:  # as a .bim: the fifth is ALT, the sixth REF; five fields lack centimorgans
        wide = len(rows[0]) > 5
        header = ["CHROM", "ID", *(["CM"] if wide else []), "POS", "ALT", "REF"]
    at = {name: header.index(name) for name in ("CHROM", "POS", "ID", "REF", "ALT")}
    for number, row in enumerate(rows):
        if len(row) < len(header):
            raise RecordError(
                f"variant {number + 1} has {len(row)} fields", where=path,
                got="\t".join(row)[:80], expected=f"{len(header)}: {', '.join(header)}",
            )  # fmt: skip
    alleles = np.array([2 + row[at["ALT"]].count(",") for row in rows])
    if (alleles != _TWO).all():
        raise RecordError(
            "every variant has more than two alleles, of which a dosage counts one", where=path,
            got=f"{rows[0][at['ID']]}: {rows[0][at['ALT']]}"[:80], expected="one ALT allele",
            fix="split them: plink2 --vcf FILE --make-pgen multiallelics=- --out NEW",
        )  # fmt: skip
    positions = positions_of(
        [row[at["POS"]] for row in rows], lambda number: f"{path}, variant {number + 1}"
    )
    kept = np.flatnonzero(alleles == _TWO)
    columns = {name: [rows[number][place] for number in kept] for name, place in at.items()}
    counted, other = (
        [UNWRITTEN if one == "." else one for one in columns[name]] for name in ("ALT", "REF")
    )
    found = make_variants(
        columns["ID"], columns["CHROM"], positions[kept], counted, other, str(path)
    )
    return replace(found, left_out=len(rows) - len(kept)), alleles


def read_psam(path: Path, *, with_family: bool = False) -> dict[str, int]:
    """Read the people: their names by IID, or FID_IID, to their rows.

    Raises:
        RecordError: No IID, or two people of one name.
    """
    header, rows = _table(path, ("IID",))
    header = header or ["FID", "IID"]
    iid, fid = header.index("IID"), header.index("FID") if "FID" in header else None
    short = next((row for row in rows if len(row) <= max(iid, fid or 0)), None)
    if short is not None:
        raise RecordError("a line is too short", where=path, got="\t".join(short)[:80],
                          expected=", ".join(header))  # fmt: skip
    names = [row[iid] for row in rows]
    if with_family:
        names = [f"{'0' if fid is None else row[fid]}_{row[iid]}" for row in rows]
    return numbered(names, path, with_family=with_family)


def _table(path: Path, needs: tuple[str, ...]) -> tuple[list[str] | None, list[list[str]]]:
    """Names of the columns, None where no line says them, and the rows."""
    try:
        lines = [line for line in _text(path).splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise RecordError(
            "is no text", where=path, expected=f"columns {', '.join(needs)}"
        ) from None
    while lines and lines[0].startswith("##"):
        lines.pop(0)
    header = lines.pop(0)[1:].split() if lines and lines[0].startswith("#") else None
    missing = [] if header is None else [name for name in needs if name not in header]
    if missing:
        raise RecordError(f"has no column '{missing[0]}'", where=path,
                          got=", ".join(header or ())[:80], expected=", ".join(needs))  # fmt: skip
    rows = [line.split() for line in lines]
    least = len(needs) if header is not None else max(2, len(needs))
    if not rows or len(rows[0]) < least:
        raise RecordError(
            "is empty" if not rows else f"a line has {len(rows[0])} fields", where=path,
            expected=f"columns {', '.join(needs)}",
        )  # fmt: skip
    return header, rows


def _text(path: Path) -> str:
    require_content(path)
    if path.suffix != ".zst":
        refuse_unsound_text(path)
        return path.read_text(encoding="utf-8")
    import pyarrow as pa

    most = most_bytes("table") // _PER_BYTE
    with damage(path, "cannot be unpacked"), pa.input_stream(str(path), compression="zstd") as file:
        content = file.read(most + 1)
    if len(content) > most:
        refuse_large(len(content) * _PER_BYTE, path, "its text", "table", so_far=True)
    return str(content.decode("utf-8"))
