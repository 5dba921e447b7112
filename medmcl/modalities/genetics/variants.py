"""Variants and the genotypes of one person at them, whatever file they came from.

A dosage means nothing without the allele it counts. Where a file counts the other allele, dosages
are turned (2 - dosage); where it was read from the other strand, letters are translated.
"""

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
        left_out: Variants of the file with more than two alleles, of which a dosage counts one.
    """

    ids: tuple[str, ...]
    chromosomes: tuple[str, ...]
    positions: np.ndarray
    counted: tuple[str, ...]
    other: tuple[str, ...]
    where: str = ""
    left_out: int = 0

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


ABSENT = -1
SURE, LIKE = 6.0, 3.0
"""A frequency so many standard errors from that of train, and so near to that of the other allele,
looks turned."""
_ONE_STRAND = 0.99
"""With this share of the telling variants on one strand a file is of that strand."""
MOST_TURNED = 0.5
"""With this share of the telling variants turned, a file as a whole counts the other allele."""
TELLING = 20
"""So many variants must tell before a file as a whole is judged."""


@dataclass(frozen=True)
class Alignment:
    """How to read a file for a panel.

    Attributes:
        columns: Column of the file for each variant of the panel, `ABSENT` where none. (V,) int64
        turned: Whether the file counts the other allele. (V,) bool
        strand: Whether the file has letters of the other strand. (V,) bool
        doubtful: A/T or C/G in a file of both strands, so not read. (V,) bool
        other_alleles: Ids whose alleles in the file are others; not read.
        moved: Ids that lie elsewhere in the file: another genome build.
    """

    columns: np.ndarray
    turned: np.ndarray
    strand: np.ndarray
    doubtful: np.ndarray
    other_alleles: tuple[str, ...]
    moved: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the panel that the file has."""
        return float((self.columns >= 0).mean()) if len(self.columns) else 0.0

    def read(self, raw: Genotypes) -> tuple[np.ndarray, np.ndarray]:
        """Give copies of the panel's counted alleles, 0 where not called, and calls. Both (V,)."""
        there = self.columns >= 0
        columns = np.maximum(self.columns, 0)
        called = raw.called[columns] & there
        dosage = raw.dosage[columns]
        dosage = np.where(self.turned, 2 - dosage, dosage)
        return np.where(called, dosage, 0).astype(raw.dosage.dtype), called


def align(variants: Variants, panel: Variants) -> Alignment:
    """Find the variants of a panel in a file.

    An allele that PLINK writes ``0``, because nobody of the file has it, is what the panel says.
    A/T and C/G look alike from both strands: they are taken as of the strand that all others of the
    file are of. Where the file has both strands they are not read.

    Args:
        variants: Those of the file.
        panel: Those to be read.
    """
    size = len(panel)
    columns = np.full(size, ABSENT, dtype=np.int64)
    turned, strand, ambiguous = (np.zeros(size, dtype=bool) for _ in range(3))
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(variants.ids):
        rows.setdefault(name, []).append(number)
    others, moved = [], []
    for place, name in enumerate(panel.ids):
        wanted = (panel.counted[place], panel.other[place])
        for row in rows.get(name, ()):
            found = match_alleles((variants.counted[row], variants.other[row]), wanted)
            if found is not None:
                columns[place], turned[place], strand[place] = row, found[0], found[1]
                ambiguous[place] = is_ambiguous(*wanted)
                break
        if columns[place] == ABSENT and name in rows:
            others.append(name)
        elif columns[place] >= 0 and _is_elsewhere(variants, int(columns[place]), panel, place):
            moved.append(name)
    plain = (columns >= 0) & ~ambiguous
    flipped = float(strand[plain].mean()) if plain.any() else 0.0
    doubtful = np.zeros(size, dtype=bool)
    if flipped >= _ONE_STRAND:
        turned ^= ambiguous
        strand |= ambiguous
    elif flipped > 1 - _ONE_STRAND:
        doubtful = ambiguous
        columns[doubtful], turned[doubtful] = ABSENT, False
    return Alignment(columns, turned, strand, doubtful, tuple(others), tuple(moved))


def match_alleles(given: tuple[str, str], wanted: tuple[str, str]) -> tuple[bool, bool] | None:
    """Tell whether a file's (counted, other) alleles are turned, and of the other strand.

    The same strand is tried first, so A/T and C/G count as the same strand. None = other alleles.
    """
    flipped = tuple(allele if allele == UNWRITTEN else complement(allele) for allele in given)
    for is_flipped, alleles in ((False, given), (True, flipped)):
        if None in alleles:
            continue
        if _same(alleles, wanted):
            return False, is_flipped
        if _same(alleles, wanted[::-1]):
            return True, is_flipped
    return None


def _same(given: tuple[str | None, ...], wanted: tuple[str, ...]) -> bool:
    """Whether alleles agree; at most one of a pair may be unwritten."""
    known = [one for one in zip(given, wanted, strict=True) if UNWRITTEN not in one]
    return bool(known) and all(one == other for one, other in known)


def _is_elsewhere(variants: Variants, row: int, panel: Variants, place: int) -> bool:
    here, there = int(variants.positions[row]), int(panel.positions[place])
    if here and there and here != there:
        return True
    return variants.chromosomes[row] != panel.chromosomes[place]


@dataclass(frozen=True)
class Turned:
    """What allele frequencies say of the alleles of some records.

    Attributes:
        telling: Variants whose frequency could have told.
        looks_turned: Numbers of those whose frequency fits the other allele. (K,)
        opposed: Whether frequencies over the panel run against those of train.
    """

    telling: int
    looks_turned: np.ndarray
    opposed: bool

    @property
    def all_turned(self) -> bool:
        """Whether the records as a whole count the other allele."""
        many = len(self.looks_turned) > MOST_TURNED * self.telling
        return self.telling >= TELLING and many and self.opposed


def compare_frequencies(
    found: np.ndarray, calls: np.ndarray, train: np.ndarray, people: int
) -> Turned:
    """Look for alleles that were exchanged without a trace in their letters.

    A variant tells if its two alleles are so unequally common in train that the people at hand
    could not have both frequencies. Real differences of ancestry look alike: what is found is to
    be looked at, not proven.

    Args:
        found: Frequency of the counted allele in the records at hand. (V,)
        calls: People it is from. (V,)
        train: The frequency in train. (V,)
        people: Train people.
    """
    spread = train * (1 - train)
    error = np.sqrt(spread / 2 * (1 / np.maximum(calls, 1) + 1 / max(1, people)))
    error = np.maximum(error, 1e-6)
    telling = (calls > 0) & (np.abs(2 * train - 1) > (SURE + LIKE) * error)
    turned = telling & (np.abs(found - train) > SURE * error)
    turned &= np.abs(found - (1 - train)) < LIKE * error
    against = float(((found - 0.5) * (train - 0.5))[telling].sum()) < 0
    return Turned(int(telling.sum()), np.flatnonzero(turned), against)
