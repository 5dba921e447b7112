"""What releases by threshold tell together: sums and differences of them, not only of two.

A release is the sum over some patients. Who holds several has every linear combination of them:
A + B + C less A + B is C alone, and half of (A + B) + (A + C) - (B + C) is A. So a release is
looked at together with all earlier ones whose patients it shares, directly or through others:

- *Patients* are sorted into groups by the releases and sites that they are in. Every combination of
  releases is a vector over the groups. Refused are combinations that live on groups of few patients
  alone, or on one site alone but for a few others, unless that site was released by itself: ranks
  of matrices decide that for all combinations at once, whatever their factors. Few are fewer than
  the threshold over the largest share: a cell that is shown is then true of no more than that share
  of any group (14 patients at a threshold of 11 and a share of 0.8). Of a release that has none but
  small groups the largest is not few.
- *Cells*: a combination that takes no group away, but for few patients (E + F as the difference of
  two sums), is a release of its own that nobody suppressed, and its zeros are no more to be told
  than its small cells. Where it would give one of fewer patients than the threshold, the new
  release leaves the cell out. So it does where a combination cancels (the same patients counted
  otherwise) and a few patients are left, or one patient or site gives most of what is left. All
  combinations are sums of a finite number of them (`_combinations`), which are all looked at; where
  they are too many, the release is refused.
- *Other events*: all that holds for patients who have the same records in every release. Releases
  of the same patients by other events, windows or code maps are judged by what holds whatever
  their records are (`medmcl.cooccurrence.release.other_events`). Where they have no event in common
  (years, each counted from its own events), a difference is of nothing, and they are taken for
  other people.
- *Codes*: cells of other tokens cannot be compared one by one. A group of codes less those of its
  codes that are shown is the one that is not: other codes of the same patients are refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Pair, people_of
from medmcl.cooccurrence.count.people import (
    People,
    counted_alike,
    known_by_contents,
    overlap,
    renamed,
    same_names,
    shared_patients,
)
from medmcl.cooccurrence.release.cells import cells_in_the_places_of, where_told
from medmcl.cooccurrence.release.other_events import factors_of, where_told_by_others
from medmcl.core.errors import ArtefactError

MOST_COMBINATIONS = 2000
"""Of a release with earlier ones; nine sites released one by one and then together have 512."""
_UNKNOWN = 1 << 40
"""Patients of a site that are not known one by one, nor how many: no few."""


@dataclass(frozen=True)
class Past:
    """A release by threshold as the site itself remembers it.

    Attributes:
        name: Of its entry in the register.
        counts: Its cells with their patients, and whose they are (`people_of`).
        min_patients: Its threshold.
    """

    name: str
    counts: Counts
    min_patients: int


@dataclass(frozen=True)
class _Groups:
    """Patients by where they are.

    Attributes:
        rows: How often each release counts the patients of a group, (releases, groups).
        size: Patients of each group, (groups,).
        sites: For each site, which groups hold patients of it, (groups,) of bool.
    """

    rows: np.ndarray
    size: np.ndarray
    sites: Mapping[str, np.ndarray]


def told_by_others(new: Past, past: Sequence[Past], share: float) -> dict[Pair, sparse.csr_array]:
    """Give the cells that a release must leave out because of earlier ones: 1 where, int64.

    Args:
        new: What is to be released.
        past: All earlier releases.
        share: A combination is one site's if at least this share of its patients is.

    Raises:
        ArtefactError: A combination of the releases isolates one site, or few patients, or there
            are too many of them.
    """
    near = _connected(new, past)
    told = {pair: sparse.csr_array(b.pairs.shape, dtype=np.int64)
            for pair, b in new.counts.blocks.items()}  # fmt: skip
    if not near:
        return told
    fewest = max(one.min_patients for one in (new, *near))
    groups = _groups([people_of(one.counts) for one in (new, *near)])
    few = groups.size < math.ceil(fewest / share - 1e-9)
    for row in sorted(groups.rows, key=lambda one: int(groups.size[one > 0].sum())):
        if not row[~few].any():  # nothing but small groups: the largest of them stands for it
            few[np.argmax(np.where(row, groups.size, -1))] = False
    _refuse_few(groups, few, near)
    _refuse_site(groups, share, near)
    factors = _combinations(groups.rows[:, ~few], near)
    factors = factors[(factors[:, 0] != 0) & factors[:, 1:].any(axis=1)]  # what is new by this one
    otherwise, unnamed = _counted_otherwise([new, *near])
    mixed = factors_of(otherwise, MOST_COMBINATIONS)
    if mixed is None:
        raise _refused(
            "these patients were released too often by other events, windows or codes to look at "
            "each combination",
            f"{otherwise[0].sum()} earlier releases of other events of the same patients",
            "the same events and window as before, or events of which none was counted before",
            near,
        )
    again = (groups.rows == groups.rows[0]).all(axis=1) & ~otherwise[0]
    again[0] = False  # what the same counts showed before tells nothing new
    both = (groups.rows[:, None] > 0) & (groups.rows[None] > 0)
    shared = np.where(unnamed, _UNKNOWN, both @ groups.size)
    for pair, cells in cells_in_the_places_of(new.counts, [one.counts for one in near]):
        small = where_told(cells, factors, factors @ groups.rows, few, fewest, share)
        small |= where_told_by_others(cells, mixed, shared, fewest, share)
        small &= (cells.pairs[again] != cells.pairs[0]).all(axis=0)
        row, column = (one[small] for one in cells.where)
        ones = np.ones(len(row), dtype=np.int64)
        here = sparse.csr_array((ones, (row, column)), shape=told[pair].shape)
        told[pair] = sparse.csr_array(told[pair].maximum(here))
    return told


def _counted_otherwise(releases: Sequence[Past]) -> tuple[np.ndarray, np.ndarray]:
    """Which two releases count the same patients otherwise, and which share more than is known.

    Both (releases, releases) of bool.
    """
    found, unnamed = (np.zeros((len(releases), len(releases)), dtype=bool) for _ in range(2))
    counts = [one.counts for one in releases]
    for k, one in enumerate(counts):
        for n, other in enumerate(counts[:k]):
            same = (one.window, one.pairing) == (other.window, other.pairing)
            both = [(a, b) for a in people_of(one) for b in people_of(other) if overlap(a, b)]
            found[k, n] = found[n, k] = _sums_that_differ(one, other) or any(
                not (same and counted_alike(a, b)) for a, b in both
            )
            unnamed[k, n] = unnamed[n, k] = any(known_by_contents(a, b) for a, b in both)
    return found, unnamed


def _sums_that_differ(one: Counts, other: Counts) -> bool:
    """Whether secure sums of the same sites show other cells: nobody knows what each site counted.

    Of sums of other sites those in both are taken for counted alike.
    """
    mine, theirs = ({p.site for p in people_of(counts)} for counts in (one, other))
    if mine != theirs or all(people.tags is not None for people in people_of(one)):
        return False
    return any(
        ((cells.pairs != 0).all(axis=0) & (cells.pairs[0] != cells.pairs[1])).any()
        for _, cells in cells_in_the_places_of(one, [other])
    )


def earlier_threshold(new: Past, past: Sequence[Past]) -> int | None:
    """Highest threshold of earlier releases of some of the patients, if it is above the new one.

    A site may show more than before: no cell is shown that a first release would not show. The
    differences of both are held to the higher one.
    """
    higher = [one.min_patients for one in _connected(new, past)]
    return max((n for n in higher if n > new.min_patients), default=None)


def refuse_other_codes(new: Past, occurring: Collection[str], past: Sequence[Past]) -> None:
    """Refuse patients whose events were released under other codes: one level less another tells.

    What counts is what is there, not what a vocabulary lists: it may list two levels, of which
    ``roll_up`` leaves one empty. More patients, or fewer codes, are no other codes.

    Args:
        new: What is to be released.
        occurring: All tokens that occur in the counts that it is made of, also those not shown.
        past: All earlier releases; ``new`` among them is the same release again.

    Raises:
        ArtefactError: An earlier release of some of the patients shows tokens that do not occur
            here, and lacks some that are shown here.
    """
    if any(one.name == new.name for one in past):
        return
    mine = set().union(*_shown(new.counts).values())
    for one in past:
        shown = _shown(one.counts)
        gone = sorted(set().union(*shown.values()).difference(occurring))
        whole = [name for name, tokens in shown.items() if tokens.isdisjoint(gone)]
        known = [one.counts.vocabularies[name].tokens for name in whole]  # rare ones, now shown
        added = sorted(mine.difference(*shown.values(), *known))
        if not added or not gone:
            continue
        shared = sum(
            shared_patients(ours, theirs)
            for ours in people_of(new.counts)
            for theirs in people_of(one.counts)
        )
        if shared:
            raise ArtefactError(
                "these patients were released under other codes, so that an absent cell may be the "
                "difference of one release and the other (a group of codes less those that are "
                "shown)",
                got=f"{', '.join(added[:3])} ({len(added)} tokens) here; {', '.join(gone[:3])} "
                f"({len(gone)} tokens) in an earlier release that shares {shared:,} patients "
                f"(register entry {one.name[-8:]})",
                expected="codes of the same level in all releases of a patient",
                fix="count the same vocabulary with the same roll_up as before; --allow-nested "
                "(allow_nested=True) if you have seen that no small cell follows",
            )


def _shown(counts: Counts) -> dict[str, set[str]]:
    """Tokens of each modality that have a cell."""
    found: dict[str, set[str]] = {name: set() for name in counts.vocabularies}
    for pair, block in counts.blocks.items():
        for name, places in zip(pair, sparse.coo_array(block.pairs).coords, strict=True):
            tokens = counts.vocabularies[name].tokens
            found[name].update(tokens[k] for k in np.unique(places))
    return found


def _connected(new: Past, past: Sequence[Past]) -> list[Past]:
    """The earlier releases that share patients with the new one, or with one that does."""
    left, near = list(past), [new]
    for one in near:  # grows meanwhile
        mine = people_of(one.counts)
        found = [
            other
            for other in left
            if any(overlap(a, b) for a in mine for b in people_of(other.counts))
        ]
        near += found
        left = [other for other in left if all(other is not one for one in found)]
    return near[1:]


def _groups(releases: Sequence[Sequence[People]]) -> _Groups:
    parts = list({one.site: one for people in releases for one in people}.values())
    number = {one.site: k for k, one in enumerate(parts)}
    holds = np.zeros((len(releases), len(parts)), dtype=np.int64)
    for row, people in enumerate(releases):
        for one in people:
            holds[row, number[one.site]] += 1
    patterns, sizes = [], []
    for kind in ("subjects", "records"):
        known = [(number[p.site], p.tags) for p in parts if p.tags is not None and p.kind == kind]
        if not known:
            continue
        tags = np.concatenate(_told_apart([one for one in parts if one.kind == kind]))
        owner = np.repeat([k for k, _ in known], [len(one) for _, one in known])
        each, place = np.unique(tags, return_inverse=True)
        often = np.zeros((len(each), len(parts)), dtype=np.int64)
        np.add.at(often, (place, owner), 1)
        kinds, place = np.unique(often, axis=0, return_inverse=True)
        patterns.append(kinds)
        sizes.append(np.bincount(place.ravel(), often.max(axis=1), minlength=len(kinds)))
    for one in parts:
        if one.tags is None:
            patterns.append((np.arange(len(parts)) == number[one.site])[None].astype(np.int64))
            sizes.append(np.array([_UNKNOWN if one.patients is None else one.patients]))
    pattern, size = np.concatenate(patterns), np.concatenate(sizes)
    sites = {one.site: pattern[:, number[one.site]] > 0 for one in parts}
    return _Groups(holds @ pattern.T, size, sites)


def _told_apart(parts: Sequence[People]) -> list[np.ndarray]:
    """Tags of patients; others of other people of the same names, the same of renamed ones."""
    sort = np.arange(len(parts))
    for k, one in enumerate(parts):
        for n in range(k):
            if sort[n] != sort[k] and same_names(parts[n], one):
                sort[sort == sort[k]] = sort[n]
    known = [k for k, one in enumerate(parts) if one.tags is not None]
    tags = [one.tags ^ np.uint64(k) for k, one in zip(sort, parts, strict=True)
            if one.tags is not None]  # fmt: skip
    for k, mine in enumerate(tags):
        for n in range(k - 1, -1, -1):  # the first one has the last word
            theirs, here = renamed(parts[known[n]], parts[known[k]])
            mine[here] = tags[n][theirs]
    return tags


def _derived(rows: np.ndarray, inside: np.ndarray) -> int:
    """How many independent combinations live inside some groups, beside releases that do."""
    direct = rows[(rows[:, ~inside] == 0).all(axis=1)]
    return _rank(rows) - _rank(rows[:, ~inside]) - _rank(direct)


def _rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows.astype(float))) if rows.size else 0


def _refuse_few(groups: _Groups, few: np.ndarray, near: Sequence[Past]) -> None:
    if few.any() and _derived(groups.rows, few):
        raise _refused(
            "together with earlier releases this one would show few patients by themselves",
            f"groups of {', '.join(f'{n:g}' for n in groups.size[few][:5])} patients, who are in "
            "one of the releases and not in another",
            "groups of at least min_patients / largest_share patients, or the very same patients",
            near,
        )


def _refuse_site(groups: _Groups, share: float, near: Sequence[Past]) -> None:
    for inside in groups.sites.values():
        mine = groups.size[inside].sum()
        around = inside.copy()
        room = (1 / share - 1) * mine
        for group in np.argsort(groups.size):
            if not inside[group] and groups.size[group] <= room:
                around[group] = True
                room -= groups.size[group]
        if _derived(groups.rows, around):
            raise _refused(
                "together with earlier releases this one would show one site by itself",
                f"a difference of sums of which one site gives {share:.0%} or more",
                "sums whose differences are of several sites, or of the same sites",
                near,
            )


def _refused(what: str, got: str, expected: str, near: Sequence[Past]) -> ArtefactError:
    return ArtefactError(
        what,
        got=f"{got}; earlier releases of these patients: {len(near)} "
        f"(register entries {', '.join(one.name[-8:] for one in near[:5])})",
        expected=expected,
        fix="release the same sites and patients as before, or use noise: medmcl cooccur "
        "release-private adds up what all releases tell. Other people with the same names are "
        "taken for the same: give them names of their own (docs/cooccurrence_exchange.md)",
    )


def _combinations(rows: np.ndarray, near: Sequence[Past]) -> np.ndarray:
    """Factors by which releases add up and take no group away: (n, releases), int64.

    Those of which every such combination is a sum, so that it tells of no fewer patients and needs
    no other cells: the elementary vectors of the releases and their groups, found one group after
    the other (double description). Source: Rockafellar, The elementary vectors of a subspace of
    R^N (1969); Fukuda and Prodon, Double description method revisited (1996).

    Args:
        rows: How often each release counts the patients of a group, (releases, groups).
        near: The earlier ones, for the message.

    Raises:
        ArtefactError: There are more than `MOST_COMBINATIONS`.
    """
    found = np.r_[np.eye(len(rows), dtype=np.int64), -np.eye(len(rows), dtype=np.int64)]
    done = rows[:, :0]
    for group in np.unique(rows, axis=1).T:
        sums = found @ group
        uses = _signs(found, done)
        kept = [found[sums >= 0]]
        plus = found[sums > 0]
        for minus in found[sums < 0]:
            agree = plus[~(plus * minus < 0).any(axis=1)]
            both = _signs(agree, done) | _signs(minus[None], done)
            within = ((~both).astype(np.float32) @ uses.T.astype(np.float32) == 0).sum(axis=1)
            made = agree * -(minus @ group) + (agree @ group)[:, None] * minus
            kept.append(made[within == 2])  # no third one, of which they would be a sum
        found = np.concatenate(kept)
        found //= np.gcd.reduce(found, axis=1)[:, None]
        if len(found) > MOST_COMBINATIONS:
            raise _refused(
                "there are too many combinations with earlier releases to look at each",
                f"more than {MOST_COMBINATIONS:,}",
                "fewer releases that share patients in ever other ways",
                near,
            )
        done = np.c_[done, group]
    return found


def _signs(factors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Which releases are added, which are taken away, and which groups are left."""
    return np.c_[factors > 0, factors < 0, factors @ groups > 0]
