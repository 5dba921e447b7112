"""Cells that are mostly one patient's, or one site's: too telling, however many others add to them.

The (1, k) rule of statistical disclosure control: a cell is not shown if its largest contributor
gives more than a share k of it. What the largest patient gives is not kept in counts; it is bounded
from above by what is kept, so that no cell is shown that breaks the rule, and some are left out
that would not:

- every other patient of the cell gives a pair at least: ``pairs - (patients - 1)`` or less is left;
- a patient gives no more pairs than the most that anybody has of the one token times the most that
  anybody has of the other, however windows cut the record.

Source: Hundepool et al., Statistical Disclosure Control (Wiley 2012), section 4.2; handbooks name
k from 0.7 to 0.85. Of two sites one gives half at least; what the largest of several gives is
exact, and where it is not known (a secure sum) that part of the rule cannot be kept.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Pair, ordered_cells
from medmcl.core.errors import ArtefactError

LARGEST_SHARE = 0.8
"""Most of a cell that one patient or site may give."""


def check_share(share: float) -> None:
    """Refuse what is no share."""
    if not 0 < share <= 1:
        raise ArtefactError(
            "is no share of a cell", where="largest_share", got=share,
            expected="above 0 and at most 1, which switches the rule off",
        )  # fmt: skip


def undominated(counts: Counts, pair: Pair, share: float) -> sparse.csr_array:
    """1 in each cell of which neither a patient nor one of several sites can give more.

    Args:
        counts: Exact counts, with patients of the cells.
        pair: Of which block.
        share: Most that one may give; at 1 every cell passes.

    Returns:
        int64, as the block; cells without pairs are 0.
    """
    block = counts.blocks[pair]
    cells = ordered_cells(block.pairs)
    passes = np.ones(cells.nnz, dtype=bool)
    if share < 1:
        most = share * cells.data
        passes = _most_of_a_patient(counts, pair, cells) <= most
        if counts.sites > 1 and block.largest is not None:
            passes &= _aligned(block.largest, cells) <= most
    found = sparse.csr_array((passes.astype(np.int64), cells.indices, cells.indptr), cells.shape)
    found.eliminate_zeros()
    return found


def most_of_one(counts: Counts, pair: Pair) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Most pairs that one patient may give to each cell, and those of the largest of several sites.

    Both int64, as the block; nothing where there is one site, or it is not known what each gives.
    """
    block = counts.blocks[pair]
    cells = ordered_cells(block.pairs)
    most = _most_of_a_patient(counts, pair, cells).astype(np.int64)
    patient = sparse.csr_array((most, cells.indices, cells.indptr), cells.shape)
    if counts.sites == 1 or block.largest is None:
        return patient, sparse.csr_array(cells.shape, dtype=np.int64)
    return patient, block.largest


def upper(values: np.ndarray) -> np.ndarray:
    """Round numbers up to 1, 2, 3, 4, 6, 8, 12, ...: bounds stay bounds and are nobody's number."""
    powers = 1 << np.arange(61)
    steps = np.unique(np.r_[0, powers, 3 * powers[:-1]])
    return np.asarray(steps[np.searchsorted(steps, values)])


def sites_are_known(counts: Counts) -> bool:
    """Whether it is known what each of several sites adds."""
    return counts.sites == 1 or all(one.largest is not None for one in counts.blocks.values())


def _most_of_a_patient(counts: Counts, pair: Pair, cells: sparse.csr_array) -> np.ndarray:
    block = counts.blocks[pair]
    assert block.patients is not None  # a release by threshold needs them
    most = cells.data - (_aligned(block.patients, cells) - 1)
    one, two = (counts.margins[name].most for name in pair)
    if one is None or two is None:
        return most
    rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
    return np.minimum(most, one[rows].astype(float) * two[cells.indices])


def _aligned(values: sparse.csr_array, cells: sparse.csr_array) -> np.ndarray:
    """What stands in the cells of another matrix, which has a value in each of them."""
    found = ordered_cells(values)
    if not (
        np.array_equal(found.indptr, cells.indptr) and np.array_equal(found.indices, cells.indices)
    ):
        raise ArtefactError("pairs, patients and sites were counted in different cells")
    return np.asarray(found.data)


def keep_cells(block: Block, kept: sparse.csr_array) -> Block:
    """The block with the cells that are 1 in ``kept``, all else absent."""
    cells = (block.pairs, block.patients, block.largest)
    pairs, patients, largest = (None if one is None else sparse.csr_array(one * kept)
                                for one in cells)  # fmt: skip
    assert pairs is not None
    return Block(pairs, patients, largest=largest)
