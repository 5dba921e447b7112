"""Cells of several releases side by side, and which of them a combination of releases tells.

A combination of releases of patients whose records are the same in each is the sum over groups of
patients, each so many times. It tells of few if fewer patients than the threshold add to a cell, or
if one patient, or one of several sites, may give most of it. What one gives is bounded from above:
by what it may give to a release that is added (`medmcl.cooccurrence.release.dominance`), and, of a
patient, by the cell less a pair for each other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Pair
from medmcl.cooccurrence.release.dominance import most_of_one


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


def cells_in_the_places_of(new: Counts, others: Sequence[Counts]) -> Mapping[Pair, Cells]:
    """Give the cells of each block of ``new`` that shows any, first its own, then of the others.

    A block is known by its tokens: modalities may have other names elsewhere, or another order.
    """
    found = {}
    for pair, block in new.blocks.items():
        row, column = sparse.coo_array(block.pairs).coords
        if not len(row):
            continue
        tables: list[list[sparse.csr_array] | None] = [_tables(new, pair, block)]
        tables += [_of_another(new, pair, one, block.pairs.shape) for one in others]
        none = np.zeros(len(row), dtype=np.int64)
        values = [
            np.array([none if one is None else one[k][row, column] for one in tables])
            for k in range(4)
        ]
        found[pair] = Cells((row, column), *values)
    return found


def _tables(counts: Counts, pair: Pair, block: Block) -> list[sparse.csr_array]:
    """Pairs, patients, and the most of a patient and of a site, each as the block."""
    assert block.patients is not None
    return [block.pairs, block.patients, *most_of_one(counts, pair)]


def _of_another(
    new: Counts, pair: Pair, counts: Counts, shape: tuple[int, int]
) -> list[sparse.csr_array] | None:
    """The tables of a block of other counts in the places of one here; None if it is not there."""
    best, found = (0, False), None
    for (c, d), block in counts.blocks.items():
        for one, two, turned in ((c, d, False), (d, c, True)):
            into = [_places_in(new, pair[0], counts, one), _places_in(new, pair[1], counts, two)]
            known = int((into[0] >= 0).sum()) * int((into[1] >= 0).sum())
            alike = (known, (one, two) == pair)
            if block.patients is None or not known or alike <= best:
                continue
            best = alike
            cells = _tables(counts, (c, d), block)
            found = [_moved(k.T if turned else k, into, shape) for k in cells]
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
