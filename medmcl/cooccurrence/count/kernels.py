"""Counting loops compiled by numba (extra ``[fast]``); `plain` gives equal results without it.

Row by row of the result, as in Gustavson's sparse product (ACM TOMS 4(3), 1978): the cells of a row
stay in the cache, and no pair is ever written down. Unlike a product X'X, half of a symmetric
result is never computed, nothing is passed over twice, and sliding windows need no copies.

A *record* (m, 5) int32 says of an item: first item that it meets, one past the last, its weight,
its patient, and where it stands itself among those it meets (-1 across modalities). What is met is
one number an item, weight << 32 | token, so that it comes with one load.

The loops have no annotations (each says so to mypy): numba takes the types of its first arguments.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_TOKEN = np.uint64(0xFFFFFFFF)
_UP = np.uint64(32)


@njit(cache=True, nogil=True)
def by_token(  # type: ignore[no-untyped-def]  # numba
    token, weight, patient, place, other_token, other_weight, others, reach, size, same, half
):
    """Records of items, by token, each token's in their order: the fields of `meetings.Records`.

    Items and others are read once, in order: what an item meets is a window that slides along.
    """
    count = len(token)
    met = np.empty(len(others), np.uint64)
    for s in range(len(others)):
        met[s] = np.uint64(other_token[s]) | (np.uint64(other_weight[s]) << _UP)
    first = np.zeros(size + 1, np.int64)
    for k in range(count):
        first[token[k] + 1] += 1
    for i in range(size):
        first[i + 1] += first[i]
    to, pairs = first.copy(), np.zeros(size, np.int64)
    record = np.empty((count, 5), np.int32)
    low = high = inside = meetings = 0
    for k in range(count):
        while low < len(others) and others[low] < place[k] - reach:
            inside -= other_weight[low]
            low += 1
        while high < len(others) and others[high] <= place[k] + reach:
            inside += other_weight[high]
            high += 1
        at = to[token[k]]
        to[token[k]] = at + 1
        pairs[token[k]] += weight[k] * np.int64(inside)
        begin = k + 1 if half else low
        meetings += high - begin
        record[at, 0] = begin
        record[at, 1] = high
        record[at, 2] = weight[k]
        record[at, 3] = patient[k]
        record[at, 4] = k if same else -1
    return first, record, met, pairs.max() if size else 0, meetings


@njit(cache=True, nogil=True)
def add_pairs(first, record, met, cells):  # type: ignore[no-untyped-def]  # numba
    """Add all pairs to ``cells`` (d_a, d_b) int32; the caller knows that none overflows."""
    for i in range(cells.shape[0]):
        row = cells[i]
        for k in range(first[i], first[i + 1]):
            begin, end, times = record[k, 0], record[k, 1], np.int64(record[k, 2])
            for s in range(np.uint64(begin), np.uint64(end)):
                one = met[s]
                row[one & _TOKEN] += times * np.int64(one >> _UP)
            if begin <= record[k, 4] < end:
                row[i] -= times  # w (w - 1): no event is paired with itself


@njit(cache=True, nogil=True)
def add_both(first, record, met, cells, people, seen, stamp):  # type: ignore[no-untyped-def]  # numba
    """Add all pairs to ``cells``, and each patient once a cell to ``people``.

    ``seen`` holds, for each column, the mark of the last patient in this row; marks start from
    ``stamp`` and no two rows share one, so it is never cleared. Gives the next free mark.
    """
    for i in range(cells.shape[0]):
        row, row_people = cells[i], people[i]
        for k in range(first[i], first[i + 1]):
            times, own = np.int64(record[k, 2]), record[k, 4]
            mark = stamp + record[k, 3]
            begin, end = record[k, 0], record[k, 1]
            middle = own if begin <= own < end else end
            for s in range(np.uint64(begin), np.uint64(middle)):
                one = met[s]
                j = one & _TOKEN
                row[j] += times * np.int64(one >> _UP)
                if seen[j] != mark:
                    seen[j] = mark
                    row_people[j] += 1
            if middle < end and times > 1:
                row[i] += times * (times - 1)
                if seen[i] != mark:
                    seen[i] = mark
                    row_people[i] += 1
            for s in range(np.uint64(middle + 1), np.uint64(end)):
                one = met[s]
                j = one & _TOKEN
                row[j] += times * np.int64(one >> _UP)
                if seen[j] != mark:
                    seen[j] = mark
                    row_people[j] += 1
        if first[i + 1] > first[i]:
            stamp += np.int64(record[first[i + 1] - 1, 3]) + 1
    return stamp


@njit(cache=True, nogil=True)
def rows_of(rows, first, record, met, width, room):  # type: ignore[no-untyped-def]  # numba
    """Count some rows for a sparse result: (lengths, columns, pairs, people).

    ``room`` is an upper bound of the cells in these rows.
    """
    pairs, people = np.zeros(width, np.int64), np.zeros(width, np.int64)
    seen, met_once = np.full(width, -1, np.int64), np.zeros(width, np.bool_)
    columns, length = np.empty(room, np.int64), np.zeros(rows[1] - rows[0], np.int64)
    out_pairs, out_people = np.empty(room, np.int64), np.empty(room, np.int64)
    used = 0
    for i in range(rows[0], rows[1]):
        start = used
        for k in range(first[i], first[i + 1]):
            times = np.int64(record[k, 2])
            for s in range(record[k, 0], record[k, 1]):
                j = np.int64(met[s] & _TOKEN)
                more = times * (np.int64(met[s] >> _UP) - (1 if s == record[k, 4] else 0))
                if more == 0:
                    continue
                pairs[j] += more
                if not met_once[j]:
                    met_once[j] = True
                    columns[used] = j
                    used += 1
                if seen[j] != record[k, 3]:
                    seen[j] = record[k, 3]
                    people[j] += 1
        columns[start:used].sort()
        for at in range(start, used):
            j = columns[at]
            out_pairs[at], out_people[at] = pairs[j], people[j]
            pairs[j] = people[j] = 0
            met_once[j], seen[j] = False, -1
        length[i - rows[0]] = used - start
    return length, columns[:used], out_pairs[:used], out_people[:used]


@njit(cache=True, nogil=True)
def filled(cells):  # type: ignore[no-untyped-def]  # numba
    """Cells of each row that are not zero, (d_a,) int64."""
    found = np.zeros(cells.shape[0], np.int64)
    for i in range(cells.shape[0]):
        count = 0
        for j in range(cells.shape[1]):
            count += cells[i, j] != 0
        found[i] = count
    return found


@njit(cache=True, nogil=True)
def compress(cells, columns, values):  # type: ignore[no-untyped-def]  # numba
    """Write the cells that are not zero as sparse rows, one after the other.

    Every cell is written, and a zero is written over by the next: no branch to be foreseen. So
    ``columns`` and ``values`` have room for one more than there are.
    """
    at = 0
    for i in range(cells.shape[0]):
        row = cells[i]
        for j in range(len(row)):
            columns[at], values[at] = j, row[j]
            at += row[j] != 0


@njit(cache=True, nogil=True)
def mirror(cells):  # type: ignore[no-untyped-def]  # numba
    """Give A + A' in place, tile by tile."""
    size, tile = cells.shape[0], 64
    for top in range(0, size, tile):
        for left in range(top, size, tile):
            for i in range(top, min(top + tile, size)):
                for j in range(max(left, i), min(left + tile, size)):
                    both = cells[i, j] + cells[j, i]
                    cells[i, j] = both
                    cells[j, i] = both
