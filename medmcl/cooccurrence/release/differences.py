"""What releases by threshold tell together: sums and differences of them, not only of two.

A release is the sum over some patients. Who holds several has every linear combination of them:
A + B + C less A + B is C alone, and half of (A + B) + (A + C) - (B + C) is A. So a release is
looked at together with all earlier ones whose patients it shares, directly or through others:

- *Patients* are sorted into groups by the releases and sites that they are in. Every combination of
  releases is a vector over the groups. Refused are combinations that live on groups of few patients
  alone, or on one site alone but for a few others, unless that site was released by itself: ranks
  of matrices decide that for all combinations at once, whatever their factors.
- *Cells*: a combination with factors -1, 0, 1 that adds patients only, but for a few (E + F as the
  difference of two sums), or cancels (the same patients counted otherwise), is a release of its own
  that nobody suppressed. Where it gives a cell of few patients, the new release leaves it out.
- *Codes*: cells of other tokens cannot be compared one by one. A group of codes less those of its
  codes that are shown is the one that is not: other codes of the same patients are refused.

Up to `TOGETHER` earlier releases all factors are tried, beyond it those of up to three of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Pair, people_of
from medmcl.cooccurrence.count.people import People, shared_patients
from medmcl.core.errors import ArtefactError

TOGETHER = 7
_FACTORS_OF = 3
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
        ArtefactError: A combination of the releases isolates one site, or few patients.
    """
    near = _connected(new, past)
    told = {pair: sparse.csr_array(b.pairs.shape, dtype=np.int64)
            for pair, b in new.counts.blocks.items()}  # fmt: skip
    if not near:
        return told
    fewest = max(one.min_patients for one in (new, *near))
    groups = _groups([people_of(one.counts) for one in (new, *near)])
    _refuse_few(groups, fewest, near)
    _refuse_site(groups, share, near)
    others = [_in_the_places_of(one.counts, new.counts) for one in near]
    for factors in _factors(len(near)):
        combined = np.r_[1, factors] @ groups.rows
        sides = [groups.size[side].sum() for side in (combined < 0, combined > 0)]
        if min(sides) >= fewest:  # of so many less so many it tells nothing of few
            continue
        used = [(f, one) for f, one in zip(factors, others, strict=True) if f]
        for pair, block in new.counts.blocks.items():
            if all(pair in one for _, one in used):
                told[pair] = told[pair] + _few(block.pairs, block.patients, pair, used, fewest)
    for cells in told.values():
        cells.data[:] = 1
    return told


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
        found = [other for other in left if _share_any(mine, people_of(other.counts))]
        near += found
        left = [other for other in left if all(other is not one for one in found)]
    return near[1:]


def _share_any(ours: Sequence[People], theirs: Sequence[People]) -> bool:
    for one in ours:
        for other in theirs:
            if one.site == other.site:
                return True
            if one.tags is None or other.tags is None or one.kind != other.kind:
                continue
            if len(np.intersect1d(one.tags, other.tags)):
                return True
    return False


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
        tags = np.concatenate([one for _, one in known])
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


def _derived(rows: np.ndarray, inside: np.ndarray) -> int:
    """How many independent combinations live inside some groups, beside releases that do."""
    direct = rows[(rows[:, ~inside] == 0).all(axis=1)]
    return _rank(rows) - _rank(rows[:, ~inside]) - _rank(direct)


def _rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows.astype(float))) if rows.size else 0


def _refuse_few(groups: _Groups, fewest: int, near: Sequence[Past]) -> None:
    few = groups.size < fewest
    if few.any() and _derived(groups.rows, few):
        raise _refused(
            "together with earlier releases this one would show few patients by themselves",
            f"groups of {', '.join(f'{n:g}' for n in groups.size[few][:5])} patients, who are in "
            "one of the releases and not in another",
            f"at least {fewest} patients, or the very same",
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


def _factors(others: int) -> Iterator[np.ndarray]:
    """Factors of the earlier releases, beside 1 of the new one; not all 0."""
    if others <= TOGETHER:
        for factors in product((0, 1, -1), repeat=others):
            if any(factors):
                yield np.array(factors)
        return
    for number in range(1, _FACTORS_OF + 1):
        for places in combinations(range(others), number):
            for signs in product((1, -1), repeat=number):
                found = np.zeros(others, dtype=np.int64)
                found[list(places)] = signs
                yield found


Cells = tuple[sparse.csr_array, sparse.csr_array]


def _in_the_places_of(counts: Counts, new: Counts) -> dict[Pair, Cells]:
    """Pairs and patients of each block, in the rows and columns of another release.

    A block is known by its tokens: modalities may have other names there, or another order.
    """
    found = {}
    for a, b in new.blocks:
        shape = new.blocks[a, b].pairs.shape
        best = (0, False)
        for (c, d), block in counts.blocks.items():
            for one, two, turned in ((c, d, False), (d, c, True)):
                into = [_places_in(new, a, counts, one), _places_in(new, b, counts, two)]
                alike = (
                    int((into[0] >= 0).sum()) * int((into[1] >= 0).sum()),
                    (one, two) == (a, b),
                )
                if block.patients is None or not alike[0] or alike <= best:
                    continue
                best = alike
                cells = (block.pairs, block.patients)
                found[a, b] = tuple(_moved(k.T if turned else k, into, shape) for k in cells)
    return found


def _places_in(new: Counts, name: str, counts: Counts, other: str) -> np.ndarray:
    """Where each token of a modality stands in one of ``new``; -1 of those that it lacks."""
    places = {token: k for k, token in enumerate(new.vocabularies[name].tokens)}
    words = counts.vocabularies[other].tokens
    return np.array([places.get(token, -1) for token in words], dtype=np.int64)


def _moved(
    cells: sparse.csr_array, into: Sequence[np.ndarray], shape: tuple[int, int]
) -> sparse.csr_array:
    there = sparse.coo_array(cells)
    row, column = (where[one] for where, one in zip(into, there.coords, strict=True))
    kept = (row >= 0) & (column >= 0)
    return sparse.csr_array((there.data[kept], (row[kept], column[kept])), shape=shape)


def _few(
    pairs: sparse.csr_array,
    patients: sparse.csr_array | None,
    pair: Pair,
    used: Sequence[tuple[int, Mapping[Pair, Cells]]],
    fewest: int,
) -> sparse.csr_array:
    """Cells that all the releases show, and whose combination is of fewer patients: 1 where."""
    assert patients is not None
    shown = _ones(pairs)
    for _, one in used:
        shown = sparse.csr_array(shown * _ones(one[pair][0]))
    if not shown.nnz:  # an empty choice of cells would come back as a matrix
        return sparse.csr_array(pairs.shape, dtype=np.int64)
    where = sparse.coo_array(shown).coords
    values, people = pairs[where], patients[where]
    for factor, one in used:
        values = values + factor * one[pair][0][where]
        people = people + factor * one[pair][1][where]
    small = (values != 0) & (np.abs(people) < fewest)
    row, column = (one[small] for one in where)
    return sparse.csr_array((np.ones(len(row), dtype=np.int64), (row, column)), shape=pairs.shape)


def _ones(cells: sparse.csr_array) -> sparse.csr_array:
    found = cells.copy()
    found.data = np.ones_like(found.data)
    return found
