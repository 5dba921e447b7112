"""Releases of the same patients by other events, windows or code maps: what they tell together.

Where a patient's record is not the same in two releases, what a difference holds of the patient is
not known: all less what was counted inside and outside a hospital is the pairs across both, of
whoever has any. So the combinations of such releases are judged by what holds whatever the records
are:

- who is in a cell of a release that is added, and in none of those that are taken away, adds to the
  difference: at least the patients of the one less those that the others may share with it. That
  depends on no factor, only on what is added and what taken away: with -1, 0 and 1 all
  combinations are looked at.
- nobody gives more than to all that is added together, or to all that is taken away, so often as
  the factors say. Whether that is most of the difference does depend on them. A combination that
  takes no pair of events away from anybody is a sum of those of `elementary_factors`, and so are
  the shares: of up to three releases factors are -1, 0 and 1, of four up to 2 (2 A - B - C - D is
  all pairs across two of three settings, of all and of each two settings), of five up to 3. Of more
  releases those with -1, 0 and 1 alone are looked at.

A cell stays only if that is enough for the threshold and for the largest share. So few cells stay
of a release that earlier ones explain for the most part, and many of one that is much more.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from medmcl.cooccurrence.release.cells import Cells

_MOST_ELEMENTARY = 5
"""Releases of which all `elementary_factors` are looked at; of six they are some 18,000."""
_LARGEST_FACTOR = {4: 2, 5: 3}
"""The largest minor of 0 and 1 with one row less, which bounds the factors (Hadamard)."""


def factors_of(otherwise: np.ndarray, most: int) -> np.ndarray | None:
    """Factors of combinations of releases that count the same patients otherwise.

    Args:
        otherwise: Which two do, (releases, releases) of bool; the first release is the new one.
        most: Factors that may be looked at.

    Returns:
        A factor for each release, above 0 for the first, (m, releases) int64: all of -1, 0 and 1,
        and `elementary_factors`, of which the releases hang together by ``otherwise``. None if
        those of -1, 0 and 1 are more than ``most``.
    """
    near = np.arange(len(otherwise)) == 0
    for _ in otherwise:
        near |= otherwise[near].any(axis=0)
    others = np.flatnonzero(near)[1:]
    if 3 ** len(others) > most:
        return None
    signs = np.array([(1, *one) for one in product((0, 1, -1), repeat=len(others))])
    larger = elementary_factors(len(others) + 1)
    larger = larger[(larger[:, 0] != 0) & (np.abs(larger).max(axis=1) > 1)]
    larger = larger * np.sign(larger[:, :1])
    found = np.zeros((len(signs) + len(larger), len(otherwise)), dtype=np.int64)
    found[:, np.r_[0, others]] = np.concatenate([signs, larger])
    return found[[_hangs_together(one != 0, otherwise) for one in found]]


@lru_cache
def elementary_factors(releases: int) -> np.ndarray:
    """Factors of which all that take nothing away are sums, whatever each release counts.

    Each pair of events is counted by a release or not: a vector of 0 and 1 over the releases. A
    combination takes nothing away if its product with no such vector is below 0. These are cones,
    and their edges are orthogonal to one independent vector less than there are releases (see
    `medmcl.cooccurrence.release.differences`).

    Returns:
        (m, releases) int64, each up to its sign and without common divisors; of more than five
        releases none.
    """
    if releases > _MOST_ELEMENTARY:
        return np.zeros((0, releases), dtype=np.int64)
    largest = _LARGEST_FACTOR.get(releases, 1)
    counted = np.array(list(product((0, 1), repeat=releases)))
    found = np.array(list(product(range(-largest, largest + 1), repeat=releases)))
    first = found[np.arange(len(found)), (found != 0).argmax(axis=1)]
    found = found[(first > 0) & (np.gcd.reduce(found, axis=1) == 1)]
    nothing = found @ counted.T == 0
    edge = [
        zero.sum() >= releases and np.linalg.matrix_rank(counted[zero]) == releases - 1
        for zero in nothing
    ]
    return np.asarray(found[edge])


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
        factors: Of each combination (`factors_of`), (m, releases).
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
            against = [n for n in used if one[n] * one[k] < 0]
            theirs = np.minimum(cells.patients[against], shared[k, against][:, None])
            surely = np.maximum(surely, cells.patients[k] - theirs.sum(axis=0))
        few = surely < fewest
        if share < 1:
            sides = [np.maximum(sign * one, 0) @ values
                     for sign in (1, -1) for values in (cells.patient, cells.site)]  # fmt: skip
            most = np.max(sides, axis=0)
            few |= most > share * np.abs(one @ cells.pairs)
        small |= few & (cells.pairs[used] != 0).all(axis=0)
    return small


def _alike(cells: Cells) -> np.ndarray:
    """Earlier releases that show all cells of the new one as they are, (releases,)."""
    same = (cells.pairs == cells.pairs[0]) & (cells.patients == cells.patients[0])
    found = same.all(axis=1)
    found[0] = False
    return found
