"""Counts of several sites as those of one: an exact sum."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Final, Literal

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Vocabulary, origins
from medmcl.cooccurrence.count.people import People, counted_twice
from medmcl.cooccurrence.exchange.folder import load_counts
from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.data.events.spelling import spelt_otherwise, told

log = logging.getLogger(__name__)
Align = Literal["union"]
OTHER_PEOPLE: Final = (
    "Patients of the same ids at two sites were taken for other people because somebody said so: "
    "if they are the same, each counts as several, and a cell may be one patient's."
)
"""Note of a sum for which that was said, and warning of a release of it."""


def merge(
    *sites: Counts | str | Path, align: Align | None = None, other_people: bool = False
) -> Counts:
    """The sum of the sites, exact and the same in any order.

    Args:
        sites: Counts, or folders of saved counts.
        align: What to do if the sites' vocabularies differ. None refuses. ``union`` takes a token
            that a site does not list as one that none of its patients has: right if every site
            counted *all* tokens it has. If a site dropped tokens (rare ones, or a coding system it
            does not map), its pairs with them are lost: they count as never having met, their
            margins are too small, and their embedding is drawn towards "these avoid each other".
            Then merge embeddings instead (`medmcl cooccur merge-embeddings`, or
            `medmcl.cooccurrence.embed.stacked.merge_embeddings`).
        other_people: Patients of the same ids are other people at each site, by chance: add them
            up. A patient who is the same counts as several, and passes a threshold alone; so it
            is refused still where their days or contents show that they are the same.

    Raises:
        ArtefactError: If there is no site, one is given twice (its folder, a copy, or a sum that
            holds it), some have patients of the same ids, or they do not go together; the message
            names the site.
    """
    named = open_sites(sites)
    behind = {one for _, counts in named for one in origins(counts)}
    if align == "union":
        named = _over_union(named)
    (_, total), *rest = named
    for name, counts in rest:
        try:
            total = total + counts
        except MedmclError as error:
            # all that are suppressed, or both that differ: nobody knows which is wrong
            suppressed = [one for one, site in named if site.min_patients is not None]
            where = ", ".join(suppressed) or f"{name}, beside {named[0][0]}"
            raise ArtefactError(
                error.what, where=where, got=error.got, expected=error.expected, fix=error.fix
            ) from None
    refuse_counted_twice(
        [
            (name, counts.provenance.people)
            for (name, counts), given in zip(named, sites, strict=True)
            if not isinstance(given, Counts) and _any_pair(counts)
        ],
        other_people=other_people,
    )
    notes = {*total.notes, *([OTHER_PEOPLE] if other_people else [])}
    provenance = replace(total.provenance, merged_from=tuple(sorted(behind)))
    return replace(total, notes=tuple(sorted(notes)), provenance=provenance)


def open_sites(sites: Sequence[Counts | str | Path]) -> list[tuple[str, Counts]]:
    """Counts with a name for messages, folders read.

    Raises:
        ArtefactError: If there is none, or one is given twice (its folder, a copy, or a sum that
            holds it).
    """
    if not sites:
        raise ArtefactError("nothing to merge", expected="one site or more")
    refuse_twice([Path(one) for one in sites if not isinstance(one, Counts)])
    named = [
        (f"site {number}", one) if isinstance(one, Counts) else (str(one), load_counts(one))
        for number, one in enumerate(sites, 1)
    ]
    saved = [one for one, given in zip(named, sites, strict=True) if not isinstance(given, Counts)]
    for (one, mine), (other, theirs) in combinations(saved, 2):
        if _same(mine, theirs):
            raise ArtefactError(
                "two sites hold exactly the same counts",
                where=other,
                got=f"all of {one}",
                expected="counts of other patients",
                fix="leave out the copy",
            )
    _refuse_overlap(saved)
    return named


def refuse_twice(folders: Sequence[Path]) -> None:
    """Refuse a folder that is named twice, by whatever path."""
    places = [folder.resolve() for folder in folders]
    twice = {str(folder) for folder, p in zip(folders, places, strict=True) if places.count(p) > 1}
    if twice:
        raise ArtefactError("a site is given twice", got=", ".join(sorted(twice)))


def _refuse_overlap(saved: Sequence[tuple[str, Counts]]) -> None:
    """Refuse sums that hold the same counts: their patients would count twice."""
    behind = [(name, set(origins(counts))) for name, counts in saved if _any_pair(counts)]
    for (one, mine), (other, theirs) in combinations(behind, 2):
        shared = len(mine & theirs)
        if shared:
            raise ArtefactError(
                "the same counts would be added twice: their manifests (merged_from) share them",
                where=other,
                got=f"{shared} of the {len(theirs)} counts behind it are in {one} too",
                expected="counts of other patients",
                fix="give each site once, or the sum without the sites that are in it",
            )


def refuse_counted_twice(
    sites: Sequence[tuple[str, Sequence[People]]], *, other_people: bool = False
) -> None:
    """Refuse sites that share patients, for each of whom a threshold would count several.

    Args:
        sites: Name and patients of each.
        other_people: See `merge`.

    Raises:
        ArtefactError: Two have patients of the same ids; see `counted_twice`. Or a secure sum,
            whose patients nobody knows, stands beside counts.
    """
    sums = [name for name, people in sites if any(one.is_name for one in people)]
    if 0 < len(sums) < len(sites) and not other_people:
        raise ArtefactError(
            "whether patients of the counts are in a secure sum cannot be told, and each who is "
            "would pass the threshold as two",
            where=sums[0],
            expected="secure sums alone, or counts alone",
            fix="sum all sites in one secure round; --other-people (other_people=True) if none of "
            "the sites is in the sum",
        )
    for (one, mine), (other, theirs) in combinations(sites, 2):
        twice = sum(counted_twice(a, b, other_people=other_people) for a in mine for b in theirs)
        if twice:
            raise ArtefactError(
                "the same patients would be added twice, and each would pass the threshold as two",
                where=other,
                got=f"{twice:,} patients who are in {one} too",
                expected="no patient in two of the counts",
                fix="count years, settings or sources of one site in one `medmcl cooccur count` "
                "(several values of `keep`, several sources of a spec)"
                + (
                    "; their days or contents show that they are the same"
                    if other_people
                    else "; --other-people (other_people=True) if ids are the same by chance"
                ),
            )


def _same(mine: Counts, theirs: Counts) -> bool:
    """Whether two sites agree in every count, and count anything at all."""
    if mine.totals != theirs.totals or mine.vocabularies != theirs.vocabularies:
        return False
    if set(mine.blocks) != set(theirs.blocks) or not _any_pair(mine):
        return False
    return all((b.pairs != theirs.blocks[pair].pairs).nnz == 0 for pair, b in mine.blocks.items())


def _any_pair(counts: Counts) -> bool:
    return any(block.pairs.nnz for block in counts.blocks.values())


def _refuse_dropped(named: Sequence[tuple[str, Counts]]) -> None:
    """Refuse a union of vocabularies where a site left out events of codes that it does not list.

    Its patients may have these codes, so that "none has it" is wrong. Sites of one vocabulary left
    out the same codes.
    """
    if all(counts.vocabularies == named[0][1].vocabularies for _, counts in named):
        return
    for name, counts in named:
        if counts.provenance.outside_vocabulary:
            raise ArtefactError(
                "was counted without codes that its patients have: in a union they would count as "
                "codes that nobody there has",
                where=name,
                got=f"{counts.provenance.outside_vocabulary:,} events left out: their codes are "
                "outside the vocabulary (a file, or too rare for its limits)",
                expected="sites that counted all codes they have",
                fix="embed each site (medmcl cooccur embed) and run medmcl cooccur "
                "merge-embeddings on the vectors; or count every site over one shared vocabulary, "
                "or without vocabulary.min_occurrences and min_patients",
            )


def _over_union(named: list[tuple[str, Counts]]) -> list[tuple[str, Counts]]:
    _refuse_dropped(named)
    first = named[0][1]
    union: dict[str, Vocabulary] = {}
    for modality in first.modalities:
        versions, tokens = set(), set()
        for name, counts in named:
            if modality not in counts.vocabularies:
                raise ArtefactError("did not count this modality", where=name, expected=modality)
            versions.add(counts.vocabularies[modality].version)
            tokens |= set(counts.vocabularies[modality].tokens)
        if len(versions) > 1:
            raise ArtefactError(
                f"the sites counted {modality} in different versions",
                got=", ".join(f"'{one}'" for one in sorted(versions)),
                expected="one version: a code may mean something else in another",
                fix="map the codes to one version before counting",
            )
        union[modality] = Vocabulary(tuple(sorted(tokens)), versions.pop())
        for at, counts in named:
            theirs = tokens - set(counts.vocabularies[modality].tokens)
            if meant := spelt_otherwise(sorted(theirs), counts.vocabularies[modality].tokens):
                log.warning(
                    "%s of other sites are codes of %s but for their spelling, and are not added "
                    "to these: %s",
                    f"{len(meant):,} {modality}", at,
                    told(meant),
                )  # fmt: skip
                break
    return [(name, _spread(counts, union)) for name, counts in named]


def _spread(counts: Counts, union: dict[str, Vocabulary]) -> Counts:
    """The counts over a larger vocabulary, zeros for tokens that the site does not list."""
    into, margins = {}, {}
    for name, words in counts.vocabularies.items():
        if name not in union:
            raise ArtefactError("a modality that other sites did not count", got=name)
        places = {token: place for place, token in enumerate(union[name].tokens)}
        into[name] = np.array([places[token] for token in words.tokens], dtype=np.int64)
        place = partial(_placed, into=into[name], size=len(union[name]))
        margins[name] = counts.margins[name].each(place)
    blocks = {}
    for (a, b), block in counts.blocks.items():
        shape = (len(union[a]), len(union[b]))
        spread = partial(_placed_cells, rows=into[a], columns=into[b], shape=shape)
        blocks[a, b] = block.each(spread)
    return replace(
        counts,
        vocabularies={name: union[name] for name in counts.vocabularies},
        margins=margins,
        blocks=blocks,
    )


def _placed(values: np.ndarray, into: np.ndarray, size: int) -> np.ndarray:
    wide = np.zeros(size, dtype=np.int64)
    wide[into] = values
    return wide


def _placed_cells(
    matrix: sparse.csr_array, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    cells = sparse.coo_array(matrix)
    i, j = cells.coords
    return sparse.csr_array((cells.data, (rows[i], columns[j])), shape=shape)
