"""Counts that may leave a site: the one door, and the rule of small cells.

Two ways lead here. `release_threshold` leaves out cells of few patients; `release_private`
(`medmcl.cooccurrence.release.private`) adds noise with a proven bound. Both keep only cells and
sums of released cells: no patients of a token or a cell, no number of patients, no total that was
counted, because each of these could tell what an absent cell hides.

The rule holds cell by cell. Where a code counts the events of others (a code and its roll-up in one
vocabulary), an absent cell may be the difference of two that are there. Counts that say so
(`Counts.nested`) are refused; a hierarchy that was counted without saying so cannot be seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Provenance, Vocabulary, exact_sum
from medmcl.cooccurrence.exchange.checks import margins_of_cells, refuse_telling
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.cooccurrence.exchange.manifest import PrivateKeys, ThresholdKeys
from medmcl.core.errors import ArtefactError

Keys = TypeVar("Keys", ThresholdKeys, PrivateKeys)
FEWEST_PATIENTS = 11
"""CMS and PCORnet show no count of 1 to 10 patients."""
_TWO_RELEASES = (
    "A threshold does not hide a patient from someone who holds two releases of nearly the same "
    "patients and subtracts them, nor from someone who knows the patient's record and traces it; "
    "differential privacy does."
)
_NESTED = (
    "Cells are not derivable from one another unless one code counts the events of others: release "
    "one level of a hierarchy."
)
_ONE_SITE = (
    "Cells were suppressed at one site. Sites that sum securely before they suppress lose fewer."
)


_OWN_COUNTS = (
    "The threshold holds for the sum. A site that subtracts its own counts from a cell sees what "
    "the other sites added, however few their patients; where there are two sites, that is the "
    "other one's cell."
)


@dataclass(frozen=True)
class Release(Generic[Keys]):
    """Counts that were made safe, and the statement of how.

    Attributes:
        counts: Without patients, units and exact totals.
        keys: What the manifest says of the release.
        left_out: For the site's own record: how much was suppressed. It is not written, because
            "one cell was suppressed" would tell which zero is none.
    """

    counts: Counts
    keys: Keys
    left_out: Mapping[str, int] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write the release to a new folder.

        Raises:
            ArtefactError: If it holds more than cells and their sums.
        """
        refuse_telling(self.counts, folder)
        if self.counts.notes:
            raise ArtefactError(
                "notes of the site are no part of a release", where=folder, got=self.counts.notes[0]
            )
        return save_counts(self.counts, folder, release=self.keys)


def release_threshold(
    counts: Counts,
    min_patients: int = FEWEST_PATIENTS,
    *,
    public_vocabulary: bool = False,
    allow_nested: bool = False,
) -> Release[ThresholdKeys]:
    """Leave out every cell of fewer patients than ``min_patients``, and all that could tell it.

    An absent cell means 0 or a few, and the manifest says so. Margins are the sums of the released
    cells; patients, units and counted totals are withheld. Nothing of the release depends on a
    cell that was left out, so nothing about it can be derived beyond "fewer than
    ``min_patients``", unless a code counts the events of others: a roll-up G of P1 and P2 gives P2
    as G - P1. Of a sum of sites, the cells of the sum are meant: a site can subtract its own.

    Args:
        counts: Exact counts with patients counted, best the sum of several sites.
        min_patients: Fewest patients of a cell that is released.
        public_vocabulary: The vocabulary was fixed in public before anyone looked at the data, so
            that naming a token says nothing. Otherwise tokens of few patients are left out.
        allow_nested: Release counts that say that their codes are nested (`Counts.nested`): you
            have seen that no small cell is the difference of two that are released.

    Raises:
        ArtefactError: If patients were not counted, the counts were released before, their codes
            are nested, or no cell is left.
    """
    _refuse_unfit(counts, min_patients, public_vocabulary)
    if counts.nested and not allow_nested:
        raise ArtefactError(
            "codes count the events of others, so that an absent cell may be the difference of two "
            "that are released",
            got=f"nested codes in {', '.join(counts.nested)}",
            expected="codes of which no event counts for two",
            fix="count one level of the hierarchy (a narrower roll_up, or a vocabulary file of one "
            "level); --allow-nested (allow_nested=True) if you have seen that no small cell "
            "follows",
        )
    kept = {
        name: _kept_tokens(counts, name, min_patients, public_vocabulary) for name in counts.margins
    }
    blocks, absent = {}, 0
    for (a, b), block in counts.blocks.items():
        blocks[a, b] = _suppress(block, kept[a], kept[b], min_patients)
        absent += block.pairs.nnz - blocks[a, b].pairs.nnz
    if not any(block.pairs.nnz for block in blocks.values()):
        raise ArtefactError(
            "no cell has enough patients to be released",
            got=f"{absent} cells, all of fewer than {min_patients} patients",
            fix="sum several sites first, or count wider windows or coarser codes",
        )
    vocabularies = {
        name: Vocabulary(tuple(np.array(words.tokens, dtype=object)[kept[name]]), words.version)
        for name, words in counts.vocabularies.items()
    }
    released = Counts(
        vocabularies=vocabularies,
        margins=margins_of_cells(vocabularies, blocks),
        blocks=blocks,
        units=None,
        patients=None,
        window=counts.window,
        pairing=counts.pairing,
        min_patients=min_patients,
        sites=counts.sites,
        nested=counts.nested,
        provenance=Provenance(splits=counts.provenance.splits),
    )
    warnings = (_TWO_RELEASES, _NESTED, _ONE_SITE if counts.sites == 1 else _OWN_COUNTS)
    dropped = {f"{n} left out": int((~k).sum()) for n, k in kept.items()}
    return Release(
        released,
        ThresholdKeys(
            min_patients=min_patients,
            public_vocabulary=public_vocabulary,
            sites=counts.sites,
            warnings=warnings,
        ),
        {"cells suppressed": absent, **dropped},
    )


def refuse_private_vocabulary(vocabularies: Mapping[str, Vocabulary]) -> None:
    """Refuse a vocabulary that is said to be public but has no name under which it was published.

    Raises:
        ArtefactError: If a version is empty.
    """
    for name, words in vocabularies.items():
        if not words.version:
            raise ArtefactError(
                f"the vocabulary of {name} has no version",
                expected="the name under which it was fixed in public, 'ICD-10-CM 2025'",
                fix="count over a published list and name it (vocabulary.version in the spec, a "
                "column version in a public table); a list of what occurred tells who was there",
            )


def _refuse_unfit(counts: Counts, min_patients: int, public_vocabulary: bool) -> None:
    if min_patients < 2:
        raise ArtefactError("this threshold hides nobody", got=min_patients, expected="2 or more")
    if counts.is_released:
        raise ArtefactError("these counts were released already", expected="exact counts")
    uncounted = [f"{a} x {b}" for (a, b), block in counts.blocks.items() if block.patients is None]
    if public_vocabulary:
        refuse_private_vocabulary(counts.vocabularies)
    else:
        uncounted += [name for name, one in counts.margins.items() if one.patients is None]
    if uncounted:
        raise ArtefactError(
            "patients were not counted, and the threshold is one on patients",
            got=", ".join(uncounted),
            fix="count with patients: true in the spec; pairs of tokens say nothing of how many "
            "patients there are",
        )


def _kept_tokens(
    counts: Counts, name: str, min_patients: int, public_vocabulary: bool
) -> np.ndarray:
    patients = counts.margins[name].patients
    if public_vocabulary or patients is None:
        return np.ones(len(counts.vocabularies[name]), dtype=bool)
    return np.asarray(patients >= min_patients)


def _suppress(block: Block, rows: np.ndarray, columns: np.ndarray, min_patients: int) -> Block:
    """Cells of enough patients, over the tokens that are kept."""
    assert block.patients is not None  # _refuse_unfit
    enough = block.patients.copy()
    enough.data = (enough.data >= min_patients).astype(np.int64)
    enough.eliminate_zeros()
    pairs = sparse.csr_array(block.pairs * enough)[rows][:, columns]
    patients = sparse.csr_array(block.patients * enough)
    mean = exact_sum(pairs.data) / exact_sum(patients.data) if patients.nnz else 1.0
    return Block(sparse.csr_array(pairs), pairs_per_patient=float(f"{mean:.3g}"))
