"""Counting with numpy alone; `kernels` is faster and gives equal results.

Pairs are written out, a bounded number at a time, sorted by cell and summed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.items import Items
from medmcl.cooccurrence.count.meetings import Meetings
from medmcl.data.events.events import starts

Cells = tuple[np.ndarray, np.ndarray]
"""Flat cell numbers (row * width + column), all different, and their values."""


def pairs_of(found: Meetings, width: int, budget: int) -> Iterator[Cells]:
    """Give the pairs of each cell, in parts to be added up.

    Args:
        found: Who meets whom.
        width: Columns of the result.
        budget: Pairs that may be written out at a time.
    """
    row = _rows(found)
    for items, met in _written_out(found, budget):
        value = found.weight[items].astype(np.int64) * found.other_weight[met]
        itself = met == found.own[items]
        value[itself] -= found.weight[items[itself]]
        cell = row[items] * width + found.token[met]
        yield _summed(cell[value != 0], value[value != 0])


def products_of(a: Items, b: Items, shape: tuple[int, int], *, upper: bool) -> Iterator[Cells]:
    """Give the pairs of each cell where items meet at one place only: a sparse product A'B.

    Args:
        a: Items whose tokens are the rows.
        b: Items whose tokens are the columns.
        shape: Tokens of both vocabularies.
        upper: Only cells above the diagonal.
    """
    places = starts(np.sort(np.concatenate([a.place, b.place])))
    tables = [
        sparse.csr_array(
            (one.weight.astype(np.int64), (np.searchsorted(places, one.place), one.token)),
            shape=(len(places), size),
        )
        for one, size in zip((a, b), shape, strict=True)
    ]
    product = tables[0].T @ tables[1]
    found = sparse.coo_array(sparse.triu(product, k=1) if upper else product)
    yield found.coords[0].astype(np.int64) * shape[1] + found.coords[1], found.data


def people_of(found: Meetings, width: int, budget: int) -> Iterator[Cells]:
    """Give the patients of each cell, in parts to be added up (see `pairs_of`)."""
    row, people = _rows(found), int(found.patient.max(initial=0)) + 1
    group = row * people + found.patient  # a token of a patient; ascends
    kept = np.zeros(0, dtype=np.int64)
    for items, met in _written_out(found, budget):
        counts = (met != found.own[items]) | (found.weight[items] > 1)
        items, met = items[counts], met[counts]
        if not len(items):
            continue
        key = starts(np.sort(group[items] * width + found.token[met]))
        # A token of a patient may go on from the part before: what it met there is counted.
        new = key[~np.isin(key, kept)] if len(kept) else key
        last = key // width == key[-1] // width
        carried = kept[kept // width == key[-1] // width]
        kept = np.union1d(key[last], carried)
        cell = (new // width // people) * width + new % width
        yield _summed(cell, np.ones(len(cell), dtype=np.int64))


def _rows(found: Meetings) -> np.ndarray:
    """Token of each item, (m,) int64."""
    return np.repeat(np.arange(len(found.first) - 1), np.diff(found.first))


def _written_out(found: Meetings, budget: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Write out pairs (item, met item), about ``budget`` at a time, at least one item's."""
    length = found.end - found.begin
    ends = np.cumsum(length)
    at = 0
    while at < len(length):
        before = int(ends[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(ends, before + budget, side="right")))
        some = length[at:stop]
        items = np.repeat(np.arange(at, stop), some)
        shift = found.begin[at:stop] - (ends[at:stop] - some - before)
        yield items, np.arange(len(items)) + np.repeat(shift, some)
        at = stop


def _summed(cell: np.ndarray, value: np.ndarray) -> Cells:
    order = np.argsort(cell, kind="stable")
    cell, value = cell[order], value[order]
    start = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]]) if len(cell) else np.zeros(0, int)
    return cell[start], np.add.reduceat(value, start) if len(start) else value
