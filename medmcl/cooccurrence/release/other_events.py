"""Releases of the same patients by other events, windows or code maps: what they tell together.

Where a patient's record is not the same in two releases, what a difference holds of the patient is
not known: all less what was counted inside and outside a hospital is the pairs across both, of
whoever has any. So every sum and difference of such releases (factors -1, 0 and 1) is judged by
what holds whatever the records are:

- who is in a cell of a release that is added, and in none of those that are taken away, adds to the
  difference: at least the patients of the one less those that the others may share with it;
- nobody gives more than to all that is added together, or to all that is taken away.

A cell stays only if that is enough for the threshold and for the largest share. So few cells stay
of a release that earlier ones explain for the most part, and many of one that is much more.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from medmcl.cooccurrence.release.cells import Cells


def signed(otherwise: np.ndarray, most: int) -> np.ndarray | None:
    """Factors of sums and differences of releases that count the same patients otherwise.

    Args:
        otherwise: Which two do, (releases, releases) of bool; the first release is the new one.
        most: Factors that may be looked at.

    Returns:
        -1, 0 or 1 for each release, 1 for the first, (m, releases) int64; all of which the
        releases hang together by ``otherwise``. None if they are more than ``most``.
    """
    near = np.arange(len(otherwise)) == 0
    for _ in otherwise:
        near |= otherwise[near].any(axis=0)
    others = np.flatnonzero(near)[1:]
    if 3 ** len(others) > most:
        return None
    found = np.zeros((3 ** len(others), len(otherwise)), dtype=np.int64)
    found[:, 0] = 1
    found[:, others] = list(product((0, 1, -1), repeat=len(others)))
    return found[[_hangs_together(one != 0, otherwise) for one in found]]


def _hangs_together(used: np.ndarray, otherwise: np.ndarray) -> bool:
    """Whether the first of some releases leads to all others of them; alone it is none."""
    reached = np.arange(len(used)) == 0
    for _ in used:
        reached |= used & otherwise[reached].any(axis=0)
    return bool(used.sum() > 1 and reached[used].all())


def where_told_by_others(
    cells: Cells, factors: np.ndarray, shared: np.ndarray, fewest: int, share: float
) -> np.ndarray:
    """Cells of the first release of which a combination may tell what few have, (n,) bool.

    Args:
        cells: Of each release.
        factors: Of each combination (`signed`), (m, releases).
        shared: Patients that two releases have in common, (releases, releases).
        fewest: Patients that are not few.
        share: Most of a cell that one patient or site may give.
    """
    small = np.zeros(cells.pairs.shape[1], dtype=bool)
    alike = _alike(cells)
    for one in factors[~factors[:, alike].any(axis=1)]:
        used = np.flatnonzero(one)
        surely = np.zeros(len(small), dtype=np.int64)
        for k in used:
            against = [n for n in used if one[n] != one[k]]
            theirs = np.minimum(cells.patients[against], shared[k, against][:, None])
            surely = np.maximum(surely, cells.patients[k] - theirs.sum(axis=0))
        few = surely < fewest
        if share < 1:
            sides = [
                values[one == sign] for sign in (1, -1) for values in (cells.patient, cells.site)
            ]
            most = np.max([side.sum(axis=0) for side in sides], axis=0)
            few |= most > share * np.abs(one @ cells.pairs)
        small |= few & (cells.pairs[used] != 0).all(axis=0)
    return small


def _alike(cells: Cells) -> np.ndarray:
    """Earlier releases that show all cells of the new one as they are, (releases,)."""
    same = (cells.pairs == cells.pairs[0]) & (cells.patients == cells.patients[0])
    found = same.all(axis=1)
    found[0] = False
    return found
