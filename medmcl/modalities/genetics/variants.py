"""Variants and the genotypes of one person at them, whatever file they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

SEX_LINKED = frozenset({"X", "Y", "XY", "MT", "M", "23", "24", "25", "26"})
"""Chromosomes whose dosage means something else in men; PLINK's numbers too."""
UNWRITTEN = "0"
"""What PLINK writes for an allele that nobody of a file has."""
_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@dataclass(frozen=True)
class Variants:
    """The variants of one file, in its order.

    Attributes:
        ids: Names, ``rs4881552``. (V,)
        chromosomes: ``1`` to ``22``, ``X``, ...; without ``chr``. (V,)
        positions: Base pairs; 0 where unknown. (V,) int64
        counted: The allele whose copies a dosage counts, capitals. (V,)
        other: The other one. (V,)
        where: The file, for messages.
    """

    ids: tuple[str, ...]
    chromosomes: tuple[str, ...]
    positions: np.ndarray
    counted: tuple[str, ...]
    other: tuple[str, ...]
    where: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def key(self) -> str:
        """A hash of what the variants are, wherever the file lies."""
        digest = hashlib.blake2b(digest_size=8)
        for row in (self.ids, self.chromosomes, self.counted, self.other):
            digest.update("\t".join(row).encode())
            digest.update(b"\n")
        digest.update(np.ascontiguousarray(self.positions, dtype=np.int64).tobytes())
        return digest.hexdigest()

    def take(self, rows: np.ndarray | Sequence[int]) -> Variants:
        """Give some of the variants, in the order of ``rows``."""
        chosen = [int(row) for row in rows]
        return Variants(
            ids=tuple(self.ids[row] for row in chosen),
            chromosomes=tuple(self.chromosomes[row] for row in chosen),
            positions=self.positions[chosen],
            counted=tuple(self.counted[row] for row in chosen),
            other=tuple(self.other[row] for row in chosen),
            where=self.where,
        )


@dataclass(frozen=True)
class Genotypes:
    """One person's genotypes.

    Attributes:
        dosage: Copies of the counted allele, 0 to 2; 0 where not called. (V,) int8 or float32
        called: Whether there is a call. (V,) bool
        variants: What the columns are.
        group: In whom Hardy-Weinberg equilibrium is tested together; None = not tested in him.
    """

    dosage: np.ndarray
    called: np.ndarray
    variants: Variants
    group: str | None = ""


class Fileset(Protocol):
    """Genotypes of many people in one file."""

    @property
    def individuals(self) -> dict[str, int]:
        """Id of each person to the row, in the order of the file."""

    @property
    def variants(self) -> Variants:
        """What the columns are."""

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Give dosages and calls of one person; see `Genotypes`."""


def complement(allele: str) -> str | None:
    """Give an allele as read from the other strand, None where its letters are no bases."""
    if not allele or set(allele) - set("ACGT"):
        return None
    return allele.translate(_COMPLEMENT)[::-1]


def is_ambiguous(one: str, other: str) -> bool:
    """Whether two alleles look alike from both strands: A/T and C/G."""
    return complement(one) == other


def plain_chromosome(text: str) -> str:
    """Give ``10`` for ``chr10`` and ``10.0``, ``X`` for ``chrX``."""
    name = text.strip().removesuffix(".0").upper()
    return name.removeprefix("CHR")


def make_variants(
    ids: Sequence[str],
    chromosomes: Sequence[str],
    positions: np.ndarray,
    counted: Sequence[str],
    other: Sequence[str],
    where: str,
) -> Variants:
    """Make `Variants` from what files hold; one named ``.`` gets its place and alleles."""
    plain = tuple(plain_chromosome(text) for text in chromosomes)
    alleles = [(a.upper(), b.upper()) for a, b in zip(counted, other, strict=True)]
    rows = zip(ids, plain, positions.tolist(), alleles, strict=True)
    return Variants(
        ids=tuple(
            name if name != "." else ":".join((place, str(position), *sorted(pair)))
            for name, place, position, pair in rows
        ),
        chromosomes=plain,
        positions=np.asarray(positions, dtype=np.int64),
        counted=tuple(pair[0] for pair in alleles),
        other=tuple(pair[1] for pair in alleles),
        where=where,
    )
