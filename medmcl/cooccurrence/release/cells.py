"""Cells of several releases side by side, and which of them a combination of releases tells.

A combination of releases of patients whose records are the same in each is the sum over groups of
patients, each so many times. It tells of few if fewer patients than the threshold add to a cell, or
if one patient, or one of several sites, may give most of it. What one gives is bounded from above:
by what it may give to a release that is added (`medmcl.cooccurrence.release.dominance`), and, of a
patient, by the cell less a pair for each other one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Pair
from medmcl.cooccurrence.release.dominance import most_of_one
from medmcl.core.errors import ArtefactError

MOST_SUMS = 4_096
"""Ways to add up blocks of the same codes, over all releases that are compared."""


@dataclass(frozen=True)
class Cells:
    """The cells of a pair of modalities that a release shows, in it and in earlier ones.

    Attributes:
        where: Row and column of each cell, (n,) each.
        pairs: Of each release, 0 where it does not show the cell, (releases, n).
        patients: Likewise.
        patient: Most pairs that one patient may give to it.
        site: Pairs of the largest of several sites; 0 where there is one, or it is not known.
    """

    where: tuple[np.ndarray, np.ndarray]
    pairs: np.ndarray
    patients: np.ndarray
    patient: np.ndarray
    site: np.ndarray


def cells_in_the_places_of(new: Counts, others: Sequence[Counts]) -> Iterator[tuple[Pair, Cells]]:
    """Give the cells of each block of ``new`` that shows any, first its own, then of the others.

    A cell is known by its two tokens, whatever modalities they are in elsewhere. Where a release
    has a cell in several blocks (settings as modalities of the same tokens), the block is given
    once with each of them and with each sum of some.

    Raises:
        ArtefactError: There are too many such sums to look at.
    """
    for pair, block in new.blocks.items():
        where = sparse.coo_array(block.pairs).coords
        if not len(where[0]):
            continue
        mine, *found = (_in_the_places_of(new, pair, where, one) for one in (new, *others))
        ways = (2 ** (len(mine) - 1)) * math.prod(2 ** len(one) - 1 for one in found)
        if ways > MOST_SUMS:
            raise ArtefactError(
                "too many sums of modalities with the same codes stand in these releases to tell "
                "what their differences show",
                got=f"{ways:,} for {pair[0]} and {pair[1]}",
                expected=f"at most {MOST_SUMS:,}",
                fix="count each code in one modality",
            )
        own = [mine[0] + rest for rest in (np.zeros_like(mine[0]), *_sums_of_some(mine[1:]))]
        for each in product(own, *map(_sums_of_some, found)):
            yield pair, Cells(where, *np.stack(each, axis=1))


def _sums_of_some(tables: np.ndarray) -> list[np.ndarray]:
    """The sum of each choice of at least one of the tables, (4, n) each."""
    return [tables[list(some)].sum(axis=0) for count in range(1, len(tables) + 1)
            for some in combinations(range(len(tables)), count)]  # fmt: skip


def _tables(counts: Counts, pair: Pair, block: Block) -> list[sparse.csr_array]:
    """Pairs, patients, and the most of a patient and of a site, each as the block."""
    assert block.patients is not None
    return [block.pairs, block.patients, *most_of_one(counts, pair)]


def _in_the_places_of(
    new: Counts, pair: Pair, where: tuple[np.ndarray, np.ndarray], counts: Counts
) -> np.ndarray:
    """The tables of other counts in the cells of a block here, (blocks, 4, n) int64.

    Of each cell that of a block of the same names first, then the larger ones; at least one.
    """
    shape = new.blocks[pair].pairs.shape
    found, first = [np.zeros((4, len(where[0])), dtype=np.int64)], [False]
    for (c, d), block in counts.blocks.items():
        for one, two, turned in ((c, d, False), (d, c, True)):
            into = [_places_in(new, pair[0], counts, one), _places_in(new, pair[1], counts, two)]
            if block.patients is None or (turned and c == d):  # which holds both halves
                continue
            if all((places >= 0).any() for places in into):
                tables = _tables(counts, (c, d), block)
                moved = [_moved(k.T if turned else k, into, shape) for k in tables]
                found.append(np.array([k[where] for k in moved]))
                first.append((one, two) == pair)
    cells = np.array(found)
    there = cells[:, 0] > 0
    rank = np.where(there, cells[:, 0] + np.array(first)[:, None] * (1 << 62), 0)
    cells = np.take_along_axis(cells, np.argsort(-rank, axis=0, kind="stable")[:, None], axis=0)
    return np.asarray(cells[: max(1, there.sum(axis=0).max())])


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


def where_told(
    cells: Cells,
    factors: np.ndarray,
    groups: np.ndarray,
    few: np.ndarray,
    fewest: int,
    share: float,
) -> np.ndarray:
    """Cells of the first release of which a combination tells what few patients have, (n,) bool.

    Args:
        cells: Of each release.
        factors: Of each combination, (m, releases).
        groups: How often each combination counts the patients of a group, (m, groups).
        few: Groups of few patients, of which some may be taken away, (groups,).
        fewest: Patients that are not few.
        share: Most of a cell that one patient or site may give.
    """
    small = np.zeros(cells.pairs.shape[1], dtype=bool)
    for one, left in zip(factors, groups, strict=True):
        often = left[~few].max(initial=0) or np.abs(one).max()
        pairs, patients = np.abs(one @ cells.pairs), np.abs(one @ cells.patients)
        told = patients < fewest * often
        if share < 1:
            taken = (left < 0).any()
            times, of = max(often, np.abs(left).max()), one != 0 if taken else one > 0
            most = times * cells.patient[of].max(axis=0)
            if not taken and left.any():  # each other patient gives a pair at least
                most = np.minimum(most, pairs - np.ceil(patients / often) + 1)
            told |= np.maximum(most, times * cells.site[of].max(axis=0)) > share * pairs
        if not left[~few].any():  # the same patients: where they have the same, nothing is told
            told &= pairs != 0
        small |= told & (cells.pairs[one != 0] != 0).all(axis=0)
    return small
