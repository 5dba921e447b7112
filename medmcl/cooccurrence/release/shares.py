"""What a site gave to secure sums, and what sums stand beside counts: nobody's difference of two.

Only the site itself sees whose counts it shares: a sum knows sites by their names. So the site's
register remembers each share's patients under the name that it had, and a share is refused

- under another name than earlier ones of some of these patients: sums would be of other sites;
- of nearly the same patients as an earlier one of the same name, or of the same with few changed
  records: the sums' difference is of those few.

Two shares are compared at a time, in one register. A release of a sum and one of counts whose
patients are known cannot be compared at all, so the second of them is refused unless allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from medmcl.cooccurrence.count.counts import Counts, people_of
from medmcl.cooccurrence.count.drawn import mixed
from medmcl.cooccurrence.count.people import People, counted_twice, renamed
from medmcl.cooccurrence.release.differences import Past
from medmcl.cooccurrence.release.dominance import LARGEST_SHARE
from medmcl.cooccurrence.release.register import Register
from medmcl.core.errors import ArtefactError

FEWEST_PATIENTS = 11
"""CMS and PCORnet show no count of 1 to 10 patients."""
FEWEST_OTHERS: Final = math.ceil(FEWEST_PATIENTS / LARGEST_SHARE)
"""Patients by whom two shares of a site must differ, if they differ: as two releases must."""


def enter_share(
    register: Register,
    counts: Counts,
    site: str,
    *,
    other_people: bool = False,
    beside_private: bool = False,
) -> None:
    """Remember whose counts a site shares; to be called before the share is written.

    Args:
        register: The site's.
        counts: What is shared.
        site: Under which name.
        other_people: Patients of the same ids whom another site shared are other people.
        beside_private: Some of the patients may have a privacy budget, which a sum of exact counts
            does not keep.

    Raises:
        ArtefactError: These patients were shared under another name, or nearly the same ones under
            this name; or they have a privacy budget.
    """
    mine = people_of(counts)
    with register.alone():
        if not beside_private:
            register.refuse_private(mine)
        shares = register.shares()
        again = any(one.notes == (site,) and set(people_of(one)) == set(mine) for one in shares)
        for earlier in () if again else shares:  # the same again tells nothing new
            (name,), theirs = earlier.notes, people_of(earlier)
            if name == site:
                _refuse_nearly(mine, theirs, site)
            else:
                _refuse_other_name(mine, theirs, site, name, other_people=other_people)
        register.enter_share(counts, site)


def refuse_beside_sums(new: Past, past: Sequence[Past]) -> None:
    """Refuse a release of a secure sum and one of counts with known patients together.

    Args:
        new: What is to be released.
        past: All earlier releases; the same again tells nothing new.

    Raises:
        ArtefactError: There is one of the other sort.
    """
    others = [one for one in past if _by_names(one.counts) != _by_names(new.counts)]
    if others and all(one.name != new.name for one in past):
        sorts = ("a secure sum, whose sites are known by name", "counts whose patients are known")
        mine, theirs = sorts if _by_names(new.counts) else sorts[::-1]
        raise ArtefactError(
            "whether these patients are in an earlier release cannot be told, and a sum less the "
            "counts of its other sites is one site's",
            got=f"{mine}, beside a release of {theirs} (register entry {others[0].name[-8:]})",
            expected="releases of sums, or of counts, in one register",
            fix="--beside-sums (beside_sums=True) if you know that no site of the sum is in the "
            "counts; the release then says it. Sums of other people: a register for each "
            "(MEDMCL_REGISTER=FOLDER)",
        )


def _by_names(counts: Counts) -> bool:
    return any(one.is_name for one in people_of(counts))


def _refuse_other_name(
    mine: Sequence[People], theirs: Sequence[People], site: str, name: str, *, other_people: bool
) -> None:
    twice = sum(counted_twice(a, b, other_people=other_people) for a in mine for b in theirs)
    if twice:
        raise ArtefactError(
            "these patients were shared under another name: a sum knows sites by their names, so "
            "that nothing would tell that both hold them",
            where=site,
            got=f"{twice:,} patients whom {name} shared",
            expected="one name of a site in all rounds, and each patient at one site",
            fix=f"share as {name}, the same counts as before; --other-people (other_people=True) "
            "if ids are the same by chance",
        )


def _refuse_nearly(mine: Sequence[People], theirs: Sequence[People], site: str) -> None:
    moved, records = _changed(mine, theirs)
    if any(0 < some < FEWEST_OTHERS for some in (moved, records)):
        raise ArtefactError(
            "nearly the same patients were shared before, and the difference of the sums is of few",
            where=site,
            got=f"{moved} patients who came or left, {records} with other records",
            expected=f"the very same counts, or {FEWEST_OTHERS} patients or more who differ",
            fix="share the folder that was shared before, or release with noise: medmcl cooccur "
            "release-private",
        )


def _changed(mine: Sequence[People], theirs: Sequence[People]) -> tuple[int, int]:
    """How many patients are in one only, and how many are in both with other records."""
    ours, them = ([one for one in some if one.tags is not None] for some in (mine, theirs))
    known = all(one.records is not None for one in (*ours, *them))
    renames = []  # tags that stand for those of an earlier share
    for one in ours:
        assert one.tags is not None
        tags = one.tags.copy()
        for other in them:
            here, there = renamed(one, other)
            assert other.tags is not None
            tags[here] = other.tags[there]
        renames.append(tags)
    first = _each(renames, [one.records if known else None for one in ours])
    second = _each(
        [one.tags for one in them if one.tags is not None],
        [one.records if known else None for one in them],
    )
    _, i, j = np.intersect1d(first[0], second[0], assume_unique=True, return_indices=True)
    moved = len(first[0]) + len(second[0]) - 2 * len(i)
    return moved, int((first[1][i] != second[1][j]).sum())


def _each(
    tags: Sequence[np.ndarray], records: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Tags, each once, and what is the same if all records of the tag are."""
    if not tags:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64)
    found = [np.zeros_like(t) if r is None else r for t, r in zip(tags, records, strict=True)]
    each, place = np.unique(np.concatenate(tags), return_inverse=True)
    sums = np.zeros(len(each), dtype=np.uint64)
    np.add.at(sums, place.ravel(), mixed(np.concatenate(found) + np.uint64(1)))
    return each, sums
