"""Who meets whom, and what comes of it: margins, and the cells of pairs and patients.

For each item of one modality the run of items of another that it meets. Cells are counted here by
sparse products, of a bounded number of meetings at a time; `kernels` is faster and gives equal
results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Margin
from medmcl.cooccurrence.count.items import Items, ascends
from medmcl.data.events.events import starts


@dataclass(frozen=True)
class Records:
    """Items of one modality, by token, each with what it meets, as `kernels` reads them.

    Attributes:
        first: Where the items of each token begin, (d_a + 1,) int64.
        record: Of each item, (m, 5) int32.
        met: What is met, (m_b,) uint64.
        most: Pairs of the token that has most; no cell grows by more.
        meetings: Items met, of all items together.
    """

    first: np.ndarray
    record: np.ndarray
    met: np.ndarray
    most: int
    meetings: int


def reach_of(a: Items, b: Items, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the run of items of ``b`` that each item of ``a`` meets, two (m_a,) int64."""
    if a is b and reach == 0:
        first = np.flatnonzero(np.r_[True, a.place[1:] != a.place[:-1]][: len(a)])
        length = np.diff(np.r_[first, len(a)])
        return np.repeat(first, length), np.repeat(first + length, length)
    begin = np.searchsorted(b.place, a.place - reach, side="left")
    return begin, np.searchsorted(b.place, a.place + reach, side="right")


def records_of(a: Items, b: Items, size: int, reach: int, *, same: bool, half: bool) -> Records:
    """Arrange the items of ``a`` by token for the compiled loops, each with what it meets in ``b``.

    Args:
        a: Items whose tokens are the rows.
        b: Items whose tokens are the columns.
        size: Tokens in the vocabulary of ``a``.
        reach: Places that far apart meet.
        same: ``a`` and ``b`` are one modality.
        half: Only items that come after; the caller adds the transpose.
    """
    from medmcl.cooccurrence.count.kernels import by_token

    found = by_token(
        a.token, a.weight, a.patient, a.place, b.token, b.weight, b.place, reach, size, same, half
    )
    return Records(*found)


def margin_of(items: Items, size: int, reach: int) -> Margin:
    """Give tokens, patients, and pairs as the row sums of the within-modality block.

    g_w = sum over occurrences of w of the others of its modality that it meets.
    """
    begin, end = reach_of(items, items, reach)
    before = np.r_[0, np.cumsum(items.weight, dtype=np.int64)]
    pairs = items.weight * (before[end] - before[begin] - 1)
    return Margin(
        _by_token(items.token, items.weight, size),
        _by_token(items.token, pairs, size),
        patients_of(items, size),
        most_of(items, size),
    )


def zeros(size: int) -> Margin:
    """Give the sums over nobody."""
    return Margin(*(np.zeros(size, dtype=np.int64) for _ in range(4)))


def _by_token(token: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    found = np.zeros(size, dtype=np.int64)
    np.add.at(found, token, value.astype(np.int64))
    return found


def patients_of(items: Items, size: int) -> np.ndarray:
    """Patients who have each token, (d,) int64."""
    if not len(items):
        return np.zeros(size, dtype=np.int64)
    key = items.patient.astype(np.int64) * size + items.token
    key = starts(key if ascends(key) else np.sort(key))
    return np.bincount(key % size, minlength=size).astype(np.int64)


def most_of(items: Items, size: int) -> np.ndarray:
    """Most occurrences of each token in one patient, (d,) int64."""
    found = np.zeros(size, dtype=np.int64)
    if not len(items):
        return found
    key, weight = items.patient.astype(np.int64) * size + items.token, items.weight
    if not ascends(key):
        order = np.argsort(key, kind="stable")
        key, weight = key[order], weight[order]
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    np.maximum.at(found, key[first] % size, np.add.reduceat(weight.astype(np.int64), first))
    return found


def self_pairs(items: Items, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal of what stands at one place: ordered pairs w (w - 1), and patients who have any."""
    often = items.weight > 1
    weight = items.weight[often].astype(np.int64)
    some = items.take(often)
    return _by_token(some.token, weight * (weight - 1), size), patients_of(some, size)


def blocks_of(
    a: Items,
    b: Items,
    shape: tuple[int, int],
    reach: int,
    *,
    same: bool,
    half: bool,
    people: bool,
    budget: int,
) -> Iterator[Block]:
    """Give pairs and patients of each cell, of some patients at a time: parts to be added up.

    Args:
        a: Items whose tokens are the rows.
        b: Items whose tokens are the columns, of the same patients.
        shape: Tokens of both vocabularies.
        reach: Places that far apart meet.
        same: ``a`` and ``b`` are one modality.
        half: As for `records_of`; what stands at one place twice is left to `self_pairs`.
        people: Count patients, too; with ``half`` only those of one place.
        budget: Meetings at a time, or those of one patient.
    """
    begin, end = reach_of(a, b, reach)
    ends = np.cumsum(end - begin)
    at = 0
    while at < len(a):
        last = int(np.searchsorted(ends, (ends[at - 1] if at else 0) + budget, side="right")) - 1
        last = a.patient[max(at, last)]
        stop = int(np.searchsorted(a.patient, last, side="right"))
        others = (
            np.searchsorted(b.patient, a.patient[at]),
            np.searchsorted(b.patient, last, "right"),
        )
        mine, theirs = a.take(slice(at, stop)), b.take(slice(*others))
        yield _block(mine, theirs, shape, reach, same=same, half=half, people=people)
        at = stop


def _block(
    a: Items, b: Items, shape: tuple[int, int], reach: int, *, same: bool, half: bool, people: bool
) -> Block:
    here, there = starts(a.place), starts(b.place)
    begin = np.searchsorted(there, here - reach)
    length = np.searchsorted(there, here + reach, side="right") - begin
    first = np.r_[0, np.cumsum(length)]
    met = np.arange(first[-1]) + np.repeat(begin - first[:-1], length)
    near = sparse.csr_array((np.ones(len(met), np.int64), met, first), (len(here), len(there)))
    row, column = np.searchsorted(here, a.place), np.searchsorted(there, b.place)
    weight, single = a.weight.astype(np.int64), a.weight == 1
    pairs = _table(weight, a.token, row, shape[0], len(here)) @ (
        near @ _table(b.weight.astype(np.int64), column, b.token, len(there), shape[1])
    )
    if same:  # no event is paired with itself
        pairs = pairs - sparse.diags_array(_by_token(a.token, weight, shape[0]), dtype=np.int64)
    if half:
        later = pairs.diagonal() - _by_token(a.token, weight * (weight - 1), shape[0])
        pairs = sparse.triu(pairs, k=1) + sparse.diags_array(later // 2, dtype=np.int64)
    found = sparse.csr_array(pairs)
    found.eliminate_zeros()
    if not people:
        return Block(found)
    group, who = np.unique(a.patient.astype(np.int64) * shape[0] + a.token, return_inverse=True)
    once = near @ _table(np.ones(len(b), np.int64), column, b.token, len(there), shape[1])
    has = _table(np.ones(len(a), np.int64), who, row, len(group), len(here)) @ once
    if same:
        alone = np.ones(int(single.sum()), np.int64)
        has = has - _table(alone, who[single], a.token[single], len(group), shape[1])
        has.eliminate_zeros()
    has.data[:] = 1
    each = np.ones(len(group), np.int64)
    counted = _table(each, group % shape[0], np.arange(len(group)), shape[0], len(group)) @ has
    return Block(found, sparse.csr_array(sparse.triu(counted, k=1) if half else counted))


def _table(
    values: np.ndarray, row: np.ndarray, column: np.ndarray, rows: int, columns: int
) -> sparse.csr_array:
    return sparse.csr_array((values, (row, column)), shape=(rows, columns))
