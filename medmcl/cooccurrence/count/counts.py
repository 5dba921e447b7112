"""Co-occurrence counts: what a site shares instead of patients, and how sites add up.

Their `Provenance` says which folders were added up, on which splits, and what was left out; nothing
of it changes a number. A fingerprint is a hash of a site's counts: it names them without
showing them, but who guesses the counts exactly can confirm the guess. So it goes with exact counts
only, and no release carries those of the counts behind it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.people import People
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class Provenance:
    """What is known of how counts came about.

    Attributes:
        merged_from: Fingerprints of the counts that were added up to these, through any number of
            sums; empty if these were counted, not added.
        outside_vocabulary: Events that were left out because the vocabulary does not have their
            code; None if it is not known.
        splits: Splits of the source whose subjects were counted, all that it lists if none was
            asked for; None if the source lists none, or it is not known.
        people: Whose counts these are, site by site; empty if it is not known.
    """

    merged_from: tuple[str, ...] = ()
    outside_vocabulary: int | None = None
    splits: tuple[str, ...] | None = None
    people: tuple[People, ...] = field(default=(), compare=False)

    def __add__(self, other: Provenance) -> Provenance:
        splits = known_sum(self.splits, other.splits)
        return Provenance(
            tuple(sorted({*self.merged_from, *other.merged_from})),
            known_sum(self.outside_vocabulary, other.outside_vocabulary),
            None if splits is None else tuple(sorted(set(splits))),
            self.people + other.people,
        )


def origins(counts: Counts) -> tuple[str, ...]:
    """Fingerprints of all that stands behind counts; their own if they were not added up."""
    return counts.provenance.merged_from or (fingerprint_of(counts),)


def people_of(counts: Counts) -> tuple[People, ...]:
    """Whose counts they are, site by site; where that is not known, the counts stand for them."""
    if counts.provenance.people:
        return counts.provenance.people
    behind = origins(counts)
    return tuple(People(one, counts.patients if len(behind) == 1 else None) for one in behind)


def fingerprint_of(counts: Counts) -> str:
    """SHA-256 of all numbers of counts, with what they are of; the same however they are stored."""
    whole = hashlib.sha256()
    words = [[name, one.version, one.tokens] for name, one in counts.vocabularies.items()]
    said = [words, counts.window, counts.pairing, counts.units, counts.patients]
    whole.update(json.dumps(said).encode())
    for name, margin in counts.margins.items():
        whole.update(f"\n{name}".encode())
        for values in (margin.tokens, margin.pairs, margin.patients):
            whole.update(b"-" if values is None else np.asarray(values, dtype="<i8").tobytes())
    for (a, b), block in sorted(counts.blocks.items()):
        for matrix in (block.pairs, block.patients):
            whole.update(f"\n{a} x {b}".encode())
            if matrix is not None:
                cells = ordered_cells(matrix)
                for values in (cells.indptr, cells.indices, cells.data):
                    whole.update(np.asarray(values, dtype="<i8").tobytes())
    return whole.hexdigest()


def ordered_cells(matrix: sparse.csr_array) -> sparse.csr_array:
    """A copy without zeros, duplicates or disorder."""
    matrix = matrix.copy()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


Known = TypeVar("Known", int, np.ndarray, sparse.csr_array, tuple[str, ...])

Pair = tuple[str, str]
"""Two modalities, in the order of the vocabularies; twice the same name within a modality."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one modality, each with its row in every matrix.

    Attributes:
        tokens: Codes or concept ids, all different.
        version: Free text of the site, for example ``ICD-10-CM 2025``; sites must agree on it.
    """

    tokens: tuple[str, ...]
    version: str = ""

    def __post_init__(self) -> None:
        if len(set(self.tokens)) < len(self.tokens):
            twice = sorted(t for t, n in Counter(self.tokens).items() if n > 1)
            raise ArtefactError(
                "a vocabulary names a token twice", got=", ".join(twice[:5]), expected="each once"
            )

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Margin:
    """Sums of one modality, one value a token, int64 (d,).

    Attributes:
        tokens: Occurrences, s_w = sum_i x_iw.
        pairs: Ordered pairs within the modality that start with the token, self-pairs left out,
            g_w = sum_i x_iw (T_i - 1) with T_i the tokens of unit i.
        patients: Patients who have the token at all; None if it was not counted.
        most: Most occurrences in one patient; None if it is not known. A release needs it to see
            that no cell is one patient's.
    """

    tokens: np.ndarray
    pairs: np.ndarray
    patients: np.ndarray | None = None
    most: np.ndarray | None = None

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> Margin:
        """The same with all its numbers changed, in the order of the fields."""
        asked = (self.tokens, self.pairs, self.patients, self.most)
        tokens, pairs, patients, most = (None if one is None else change(one) for one in asked)
        assert tokens is not None
        assert pairs is not None
        return Margin(tokens, pairs, patients, most)

    def __add__(self, other: Margin) -> Margin:
        return Margin(
            self.tokens + other.tokens,
            self.pairs + other.pairs,
            known_sum(self.patients, other.patients),
            None if self.most is None or other.most is None else np.maximum(self.most, other.most),
        )


@dataclass(frozen=True)
class Block:
    """Cells of one pair of modalities, int64 (d_a, d_b).

    Attributes:
        pairs: Token pairs a cell. Within a modality ordered pairs without self-pairs, symmetric.
        patients: Patients who add to the cell; None if it was not counted. A release needs it.
        pairs_per_patient: Mean over the cells that a release kept, which turns its threshold on
            patients into one on pairs; None where nothing was suppressed.
        largest: Most pairs that one of several sites adds to the cell; None if there is one site,
            or it is not known.
    """

    pairs: sparse.csr_array
    patients: sparse.csr_array | None = None
    pairs_per_patient: float | None = None
    largest: sparse.csr_array | None = None

    def each(self, change: Callable[[sparse.csr_array], sparse.csr_array]) -> Block:
        """The same with all its cells changed, in the order of the fields."""
        pairs = change(self.pairs)
        patients = None if self.patients is None else change(self.patients)
        largest = None if self.largest is None else change(self.largest)
        return Block(pairs, patients, self.pairs_per_patient, largest)

    def __add__(self, other: Block) -> Block:
        return Block(self.pairs + other.pairs, known_sum(self.patients, other.patients))

    def with_largest(self, other: Block, sites: tuple[int, int]) -> Block:
        """Both together, of so many sites each, and what the largest of them adds to each cell."""
        mine, theirs = (
            block.pairs if number == 1 else block.largest
            for block, number in zip((self, other), sites, strict=True)
        )
        known = None if mine is None or theirs is None else sparse.csr_array(mine.maximum(theirs))
        return replace(self + other, largest=known)


@dataclass(frozen=True)
class Counts:
    """Additive co-occurrence counts of any number of modalities.

    Cai et al. (arXiv 2403.14926) need the cross block D, the margins s and g, and three scalars.
    All are sums over patients, so the sum of sites equals the pooled patients' counts bit for bit.

    Attributes:
        vocabularies: Of each modality, in order.
        margins: Of each modality.
        blocks: Of each pair (a, b); (a, a) is a within-modality block, which CLAIME does not need.
        units: Windows that were counted (patients, if the window is the whole record); None if a
            release withholds it.
        patients: Patients who were counted; None if a release withholds it.
        window: Which tokens of a patient meet: ``record``, ``month``, ``days:30``, ``visit``, ...
        pairing: ``product`` counts every pair of tokens, ``distinct`` each pair once a window.
        min_patients: Cells of fewer patients are absent: an absent cell is no zero; None if
            nothing was suppressed.
        noise_sd: Standard deviation of the noise in every cell, which may then be negative; None
            if there is none.
        sites: Sites whose counts were added up to these.
        nested: Modalities in which a code may count the events of another one (a code and its
            roll-up): a cell may then be the difference of others.
        notes: What a reader of these counts must know; not compared.
        provenance: Where the counts come from; not compared.
    """

    vocabularies: Mapping[str, Vocabulary]
    margins: Mapping[str, Margin]
    blocks: Mapping[Pair, Block]
    units: int | None
    patients: int | None
    window: str = "record"
    pairing: str = "product"
    min_patients: int | None = None
    noise_sd: float | None = None
    sites: int = 1
    nested: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    provenance: Provenance = field(default=Provenance(), compare=False)

    def __post_init__(self) -> None:
        for (a, b), block in self.blocks.items():
            shape = (len(self.vocabularies[a]), len(self.vocabularies[b]))
            for matrix in (block.pairs, block.patients, block.largest):
                if matrix is not None and matrix.shape != shape:
                    raise ArtefactError(
                        f"block {a} x {b} does not fit its vocabularies",
                        got=f"{matrix.shape[0]} x {matrix.shape[1]} cells",
                        expected=f"{shape[0]} x {shape[1]}",
                    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names, in the order of the vocabularies."""
        return tuple(self.vocabularies)

    @property
    def is_released(self) -> bool:
        """Whether cells were suppressed or made noisy."""
        return self.min_patients is not None or self.noise_sd is not None

    @property
    def D(self) -> sparse.csr_array:  # noqa: N802 - the paper's name
        """Cross-modal pairs of the only pair of two modalities, int64 (d1, d2)."""
        return self.cross().pairs

    @property
    def totals(self) -> dict[str, int]:
        """Tokens of each modality, and the units and patients if they are known."""
        tokens = {name: exact_sum(margin.tokens) for name, margin in self.margins.items()}
        known = {"units": self.units, "patients": self.patients}
        return {**tokens, **{what: n for what, n in known.items() if n is not None}}

    def pair(self, first: str | None = None, second: str | None = None) -> Pair:
        """The named pair of modalities, or the only one if none is named.

        Raises:
            ArtefactError: If the pair was not counted, or none is named and there are several.
        """
        across = [(a, b) for a, b in self.blocks if a != b]
        if first is None and second is None and len(across) == 1:
            return across[0]
        if first is not None and second is not None and (first, second) in self.blocks:
            return first, second
        raise ArtefactError(
            "which pair of modalities?" if first is None else "this pair was not counted",
            got=None if first is None else f"{first} x {second}",
            expected=", ".join(f"{a} x {b}" for a, b in self.blocks) or "counts with a block",
        )

    def cross(self, first: str | None = None, second: str | None = None) -> Block:
        """The block of two modalities (see `pair`)."""
        return self.blocks[self.pair(first, second)]

    def __add__(self, other: Counts) -> Counts:
        """Counts of both sites together, exact.

        Raises:
            ArtefactError: If the sites differ in vocabulary, window, pairing rule or blocks, one of
                them has suppressed cells, which are no zeros, or only one of them is noisy.
        """
        self._refuse_unlike(other)
        return replace(
            self,
            margins={m: self.margins[m] + other.margins[m] for m in self.margins},
            blocks={
                pair: block.with_largest(other.blocks[pair], (self.sites, other.sites))
                if self.noise_sd is None
                else block + other.blocks[pair]
                for pair, block in self.blocks.items()
            },
            units=known_sum(self.units, other.units),
            patients=known_sum(self.patients, other.patients),
            noise_sd=None
            if self.noise_sd is None or other.noise_sd is None
            else math.hypot(self.noise_sd, other.noise_sd),  # independent noise adds up in squares
            sites=self.sites + other.sites,
            nested=tuple(sorted({*self.nested, *other.nested})),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            provenance=replace(
                self.provenance + other.provenance, people=people_of(self) + people_of(other)
            ),
        )

    def __radd__(self, other: int | Counts) -> Counts:
        """So that ``sum(sites)`` works."""
        return self if isinstance(other, int) else other + self

    def _refuse_unlike(self, other: Counts) -> None:
        if self.min_patients is not None or other.min_patients is not None:
            raise ArtefactError(
                "counts with suppressed cells cannot be added: an absent cell is no zero",
                got=f"suppressed below {self.min_patients} and {other.min_patients}",
                expected="counts without suppression",
                fix="add the exact counts first and release the sum: medmcl cooccur release A B, "
                "or secure-start for sites that may not see one another's counts; or embed each "
                "release and run medmcl cooccur merge-embeddings",
            )
        if (self.noise_sd is None) != (other.noise_sd is None):
            raise ArtefactError(
                "noisy counts and exact ones cannot be added: the sum would hold margins that are "
                "no sums of its cells, and look private",
                got=f"noise of {self.noise_sd} and {other.noise_sd}",
                expected="exact counts of every site, or private releases of every site",
            )
        for what in ("window", "pairing"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise ArtefactError(
                    f"sites that counted with another {what} cannot be added",
                    got=f"{mine} and {theirs}",
                    expected="the same for every site",
                )
        if self.modalities != other.modalities or set(self.blocks) != set(other.blocks):
            raise ArtefactError(
                "sites that counted other modalities cannot be added",
                got=f"{sorted(self.blocks)} and {sorted(other.blocks)}",
                expected="the same pairs of modalities",
            )
        for name, mine in self.vocabularies.items():
            theirs = other.vocabularies[name]
            if mine == theirs:
                continue
            alone = set(mine.tokens) ^ set(theirs.tokens)
            raise ArtefactError(
                f"the sites' vocabularies of {name} differ",
                got=f"versions '{mine.version}' and '{theirs.version}', {len(mine)} and "
                f"{len(theirs)} tokens, {len(alone)} of them at one site only",
                expected="the same tokens in the same order",
                fix="embed each site (medmcl cooccur embed) and run medmcl cooccur "
                "merge-embeddings on the vectors; or count every site over one shared vocabulary; "
                "or, only if every site counted all codes that it has, add --align union",
            )


def exact_sum(values: np.ndarray) -> int:
    """Sum of int64 values that may lie beyond int64: high and low halves apart."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


def known_sum(mine: Known | None, theirs: Known | None) -> Known | None:
    """Both together; None where one of them is not known."""
    return None if mine is None or theirs is None else mine + theirs
