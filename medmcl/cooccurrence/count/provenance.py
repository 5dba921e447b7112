"""Where counts come from: which folders were added up, on which splits, and what was left out.

Nothing of it changes a number. A fingerprint is a hash of a site's counts: it names them without
showing them, but who guesses the counts exactly can confirm the guess. So it goes with exact counts
only, and no release carries those of the counts behind it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from medmcl.cooccurrence.count.counts import Counts


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
    """

    merged_from: tuple[str, ...] = ()
    outside_vocabulary: int | None = None
    splits: tuple[str, ...] | None = None

    def __add__(self, other: Provenance) -> Provenance:
        mine, theirs = self.outside_vocabulary, other.outside_vocabulary
        ours = None if self.splits is None or other.splits is None else self.splits + other.splits
        return Provenance(
            tuple(sorted({*self.merged_from, *other.merged_from})),
            None if mine is None or theirs is None else mine + theirs,
            None if ours is None else tuple(sorted(set(ours))),
        )


def origins(counts: Counts) -> tuple[str, ...]:
    """Fingerprints of all that stands behind counts; their own if they were not added up."""
    return counts.provenance.merged_from or (fingerprint_of(counts),)


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
                _update(whole, matrix)
    return whole.hexdigest()


def _update(whole: hashlib._Hash, matrix: sparse.csr_array) -> None:
    matrix = matrix.copy()
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    for values in (matrix.indptr, matrix.indices, matrix.data):
        whole.update(np.asarray(values, dtype="<i8").tobytes())
