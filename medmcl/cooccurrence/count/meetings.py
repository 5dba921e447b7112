"""Who meets whom, and what comes of it: margins, and the cells of pairs and patients.

For each item of one modality the run of items of another that it meets. Cells are counted here with
numpy alone; `kernels` is faster and gives equal results. Pairs are written out, a bounded number at
a time, sorted by cell and summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Margin
from medmcl.cooccurrence.count.items import Items, ascends
from medmcl.data.events.events import starts


@dataclass(frozen=True)
class Meetings:
    """Items of one modality, by token, each with the run of items of the other that it meets.

    Attributes:
        first: Where the items of each token begin, (d_a + 1,) int64.
        begin: First item that is met, (m,) int64.
        end: One past the last, (m,) int64.
        weight: (m,) int32.
        patient: (m,) int32, ascending within a token.
        own: The item itself among those it meets, (m,) int64; -1 across modalities.
        token: Of the items that are met, (m_b,) uint32.
        other_weight: Theirs, (m_b,) int32.
    """

    first: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    weight: np.ndarray
    patient: np.ndarray
    own: np.ndarray
    token: np.ndarray
    other_weight: np.ndarray

    def __len__(self) -> int:
        return len(self.begin)


@dataclass(frozen=True)
class Records:
    """The same as the compiled loops read it (see `kernels`).

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


def meet(a: Items, b: Items, size: int, reach: int, *, same: bool, half: bool) -> Meetings:
    """Arrange the items of ``a`` by token, each with what it meets in ``b``.

    Args:
        a: Items whose tokens are the rows.
        b: Items whose tokens are the columns.
        size: Tokens in the vocabulary of ``a``.
        reach: Places that far apart meet.
        same: ``a`` and ``b`` are one modality.
        half: Only items that come after; the caller adds the transpose.
    """
    begin, end = reach_of(a, b, reach)
    own = np.arange(len(a)) if same else np.full(len(a), -1)
    if half:
        begin = own + 1
    order = np.argsort(a.token, kind="stable")
    first = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(np.bincount(a.token, minlength=size), out=first[1:])
    return Meetings(
        first,
        begin[order],
        end[order],
        a.weight[order],
        a.patient[order],
        own[order],
        b.token,
        b.weight,
    )


def records_of(a: Items, b: Items, size: int, reach: int, *, same: bool, half: bool) -> Records:
    """Arrange the same (see `meet`) for the compiled loops."""
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
    some = Items(items.token[often], items.weight[often], items.patient[often], items.place[often])
    return _by_token(some.token, weight * (weight - 1), size), patients_of(some, size)


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
