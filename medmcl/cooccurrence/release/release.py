"""Counts that may leave a site: the one door, and the rule of small cells.

Two ways lead here. `release_threshold` leaves out cells of few patients; `release_private`
(`medmcl.cooccurrence.release.private`) adds noise with a proven bound. Both keep only cells and
sums of released cells: no patients of a token or a cell, no number of patients, no total that was
counted, because each of these could tell what an absent cell hides.

The threshold is a rule on each cell by itself. Two more look further: no cell is mostly one
patient's or one site's (`medmcl.cooccurrence.release.dominance`), and all releases of the same
patients are looked at together (`medmcl.cooccurrence.release.differences`), also those of other
events (`medmcl.cooccurrence.release.other_events`), as the site's register remembers them
(`medmcl.cooccurrence.release.register`). A release by threshold is entered there before it is
written.

Where a code counts the events of others (a code and its roll-up in one vocabulary), an absent cell
may be the difference of two that are there. Counts that say so (`Counts.nested`) are refused, and
so are other codes of patients of an earlier release; a hierarchy in one vocabulary that was counted
without saying so cannot be seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import (
    Block,
    Counts,
    Pair,
    Provenance,
    Vocabulary,
    exact_sum,
    people_of,
)
from medmcl.cooccurrence.count.people import names_a_register
from medmcl.cooccurrence.exchange.checks import margins_of_cells, refuse_telling
from medmcl.cooccurrence.exchange.folder import refuse_used, save_counts
from medmcl.cooccurrence.exchange.manifest import PrivateKeys, ThresholdKeys
from medmcl.cooccurrence.exchange.merging import OTHER_PEOPLE, refuse_counted_twice
from medmcl.cooccurrence.release.differences import (
    Past,
    earlier_threshold,
    refuse_other_codes,
    told_by_others,
)
from medmcl.cooccurrence.release.dominance import (
    LARGEST_SHARE,
    check_share,
    keep_cells,
    sites_are_known,
    undominated,
)
from medmcl.cooccurrence.release.register import Register, memory_of
from medmcl.cooccurrence.release.shares import FEWEST_PATIENTS, refuse_beside_sums
from medmcl.core.errors import ArtefactError

Keys = TypeVar("Keys", ThresholdKeys, PrivateKeys)
_TWO_RELEASES = (
    "A threshold does not hide a patient from someone who knows the patient's record and traces "
    "it, nor from someone who subtracts a release of nearly the same patients that this site's "
    "register does not know of; differential privacy does."
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
_UNKNOWN_SITES = (
    "What each site gives to a cell is not known, so that a cell may be one site's for the most "
    "part."
)
_LOWER = (
    "Some of these patients were released before by a threshold of {}: cells of fewer of them are "
    "shown now."
)
_BESIDE_PRIVATE = (
    "Noisy releases of some of these patients may have been made before: what their epsilon "
    "promises does not hold against who has this release too."
)
_BESIDE_SUMS = (
    "Secure sums and counts by themselves are both released here, and whether a site is in both "
    "was not compared: the one less the other may be one site's."
)
_ABSENT: Final = (
    "0, below the threshold, mostly of one patient or site, or told by earlier releases"
)


@dataclass(frozen=True)
class Release(Generic[Keys]):
    """Counts that were made safe, and the statement of how.

    Attributes:
        counts: Without patients, units and exact totals.
        keys: What the manifest says of the release.
        left_out: For the site's own record: how much was suppressed. It is not written, because
            "one cell was suppressed" would tell which zero is none.
        entry: What the register is to remember; none of a release that a ledger pays for.
    """

    counts: Counts
    keys: Keys
    left_out: Mapping[str, int] = field(default_factory=dict)
    entry: Entry | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the release to a new folder; the register remembers it from before that.

        Raises:
            ArtefactError: If it holds more than cells and their sums, or tells too much beside
                what was released since it was made.
        """
        refuse_telling(self.counts, folder)
        if self.counts.notes:
            raise ArtefactError(
                "notes of the site are no part of a release", where=folder, got=self.counts.notes[0]
            )
        if self.entry is None:
            return save_counts(self.counts, folder, release=self.keys)
        register = self.entry.register or Register.beside(Path(folder).parent)
        with register.alone():
            refuse_used(Path(folder))
            assert isinstance(self.keys, ThresholdKeys)
            keys = self.entry.keys(self.keys, register)
            self.entry.enter(register)
            return save_counts(self.counts, folder, release=keys)


@dataclass(frozen=True)
class Entry:
    """What a register is to remember of a release by threshold.

    Attributes:
        register: Which register; that beside the release where nobody says where the counts lie.
        past: What it remembers.
        share: See `release_threshold`.
        beside: Folders of counts that remember it too.
        occurring: Tokens that occur in the counts, shown or not; None if other codes of the same
            patients are allowed.
        beside_private: Noisy releases of the same patients are allowed.
        beside_sums: See `release_threshold`.
    """

    register: Register | None
    past: Past
    share: float
    beside: tuple[Path, ...] = ()
    occurring: frozenset[str] | None = None
    beside_private: bool = False
    beside_sums: bool = False

    def keys(self, keys: ThresholdKeys, register: Register) -> ThresholdKeys:
        """The statement of a release, with what earlier ones make of it."""
        higher = earlier_threshold(self.past, register.past(self.beside))
        said = [] if higher is None else [_LOWER.format(higher)]
        warnings = dict.fromkeys((*keys.warnings, *said))
        changes = {"earlier_min_patients": higher, "warnings": tuple(warnings)}
        return keys.model_copy(update=changes)

    def told(self, register: Register | None = None) -> dict[Pair, sparse.csr_array]:
        """Cells that earlier releases would tell more of: 1 where (`told_by_others`).

        Raises:
            ArtefactError: See `told_by_others`, `refuse_other_codes`, `refuse_beside_sums` and
                `Register.refuse_private`.
        """
        register = register or self.register
        past = register.past(self.beside) if register else []
        if register and not self.beside_private:
            register.refuse_private(people_of(self.past.counts))
        if not self.beside_sums:
            refuse_beside_sums(self.past, past)
        if self.occurring is not None:
            refuse_other_codes(self.past, self.occurring, past)
        return told_by_others(self.past, past, self.share)

    def enter(self, register: Register) -> None:
        """Remember it; to be called alone, and before it is written.

        Raises:
            ArtefactError: Something was released meanwhile, and together they tell too much.
        """
        for (a, b), cells in self.told(register).items():
            if cells.nnz:
                raise ArtefactError(
                    "another release of these patients was made meanwhile, and together they tell "
                    f"of few patients in {cells.nnz} cells of {a} x {b}",
                    fix="make this one anew",
                )
        register.enter(self.past, self.beside)


def release_threshold(
    counts: Counts,
    min_patients: int = FEWEST_PATIENTS,
    *,
    public_vocabulary: bool = False,
    allow_nested: bool = False,
    largest_share: float = LARGEST_SHARE,
    register: Register | None = None,
    beside: Sequence[Path] = (),
    beside_private: bool = False,
    beside_sums: bool = False,
) -> Release[ThresholdKeys]:
    """Leave out every cell of fewer patients than ``min_patients``, and all that could tell it.

    An absent cell means 0 or a few, and the manifest says so. Margins are the sums of the released
    cells; patients, units and counted totals are withheld. Nothing of the release depends on a
    cell that was left out, so nothing about it can be derived beyond "fewer than
    ``min_patients``", unless a code counts the events of others: a roll-up G of P1 and P2 gives P2
    as G - P1. Of a sum of sites, the cells of the sum are meant: a site can subtract its own.

    The release is made beside all that the register remembers, and is entered there when it is
    saved: a release in memory has left nobody.

    Args:
        counts: Exact counts with patients counted, best the sum of several sites.
        min_patients: Fewest patients of a cell that is released.
        public_vocabulary: The vocabulary was fixed in public before anyone looked at the data, so
            that naming a token says nothing. Otherwise tokens of few patients are left out.
        allow_nested: Release counts that say that their codes are nested (`Counts.nested`), or
            whose patients were released under other codes: you have seen that no small cell is
            the difference of two that are released.
        largest_share: Most of a cell that one patient may give, or one of several sites; cells of
            which one may give more are left out. 1 leaves none out.
        register: What was released before; that beside the counts if not given, or, where nobody
            says where they lie, beside the release, which is then looked at when it is saved.
        beside: Folders of counts that remember releases of their own.
        beside_private: Release also patients of whom noisy releases were made; the manifest says
            it. What epsilon promises them does not hold against who has both.
        beside_sums: Release a secure sum although counts were released whose patients are known, or
            the reverse: you know that no site of the sum is in the counts. The manifest says it.

    Raises:
        ArtefactError: If patients were not counted, some twice in a sum (`merge`), the counts were
            released before, their codes are nested, or others than in an earlier release of some of
            the patients, no cell is left, a combination with earlier releases shows one site or few
            patients, a secure sum stands beside counts, or a budget was charged for some of them.
    """
    check_share(largest_share)
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
    if OTHER_PEOPLE not in counts.notes:
        people = enumerate(counts.provenance.people, 1)
        refuse_counted_twice([(f"site {number} of the sum", [one]) for number, one in people])
    kept = {
        name: _kept_tokens(counts, name, min_patients, public_vocabulary) for name in counts.margins
    }
    if register is None and (beside or names_a_register()):
        register = Register.beside(Path(beside[0]).parent if beside else Path())
    enough: dict[Pair, Block] = {}
    dominated = 0
    for pair, block in counts.blocks.items():
        assert block.patients is not None  # _refuse_unfit
        above = keep_cells(block, block.patients >= min_patients)
        enough[pair] = keep_cells(above, undominated(counts, pair, largest_share))
        dominated += above.pairs.nnz - enough[pair].pairs.nnz
    found = Entry(
        register,
        _past(counts, enough, min_patients, register),
        largest_share,
        tuple(beside),
        None if allow_nested else _occurring(counts),
        beside_private,
        beside_sums,
    )
    told = found.told()
    enough = {pair: keep_cells(one, one.pairs.sign() > told[pair]) for pair, one in enough.items()}
    if not any(block.pairs.nnz for block in enough.values()):
        raise ArtefactError(
            "no cell has enough patients to be released",
            got=f"{sum(block.pairs.nnz for block in counts.blocks.values())} cells, all of fewer "
            f"than {min_patients} patients, mostly of one, or told by earlier releases",
            fix="sum several sites first, or count wider windows or coarser codes; if earlier "
            "releases of these patients tell of them, release the same events as before, or noise: "
            "medmcl cooccur release-private",
        )
    entry = replace(found, past=_past(counts, enough, min_patients, register))
    blocks = {(a, b): _released(one, kept[a], kept[b]) for (a, b), one in enough.items()}
    absent = sum(one.pairs.nnz - blocks[pair].pairs.nnz for pair, one in counts.blocks.items())
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
    beside_that = {
        _UNKNOWN_SITES: largest_share < 1 and not sites_are_known(counts),
        _BESIDE_PRIVATE: beside_private,
        _BESIDE_SUMS: beside_sums,
        OTHER_PEOPLE: OTHER_PEOPLE in counts.notes,
    }
    warnings = [_TWO_RELEASES, _NESTED, _ONE_SITE if counts.sites == 1 else _OWN_COUNTS]
    warnings += [text for text, holds in beside_that.items() if holds]
    dropped = {f"{n} left out": int((~k).sum()) for n, k in kept.items()}
    keys = ThresholdKeys(
        min_patients=min_patients,
        absent=_ABSENT,
        largest_share=largest_share,
        entry=entry.past.name.partition("-")[2],
        beside_private=beside_private,
        public_vocabulary=public_vocabulary,
        sites=counts.sites,
        warnings=tuple(warnings),
    )
    left_out = {"cells suppressed": absent, "cells mostly of one": dominated, **dropped}
    return Release(released, entry.keys(keys, register) if register else keys, left_out, entry)


def _past(
    counts: Counts, enough: Mapping[Pair, Block], min_patients: int, register: Register | None
) -> Past:
    """What a register is to remember: the cells that are released, with their patients."""
    sums = margins_of_cells(counts.vocabularies, enough)
    memory = memory_of(replace(counts, margins=sums, blocks=dict(enough)), counts)
    name = (register or Register.here()).name_of(memory, min_patients)
    return Past(name, memory, min_patients)


def _occurring(counts: Counts) -> frozenset[str]:
    """Tokens of which there is an event."""
    return frozenset(
        words.tokens[k]
        for name, words in counts.vocabularies.items()
        for k in np.flatnonzero(counts.margins[name].tokens)
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


def _released(block: Block, rows: np.ndarray, columns: np.ndarray) -> Block:
    """Pairs over the tokens that are kept; whoever has a cell of enough patients is kept."""
    assert block.patients is not None
    pairs = sparse.csr_array(block.pairs[rows][:, columns])
    patients = exact_sum(block.patients.data)
    mean = exact_sum(pairs.data) / patients if patients else 1.0
    return Block(pairs, pairs_per_patient=float(f"{mean:.3g}"))
