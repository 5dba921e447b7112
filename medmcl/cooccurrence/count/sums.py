"""Running sums of one block of cells: dense where it fits the memory, otherwise sparse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block
from medmcl.cooccurrence.count.meetings import Records

MOST = int(np.iinfo(np.int32).max)
"""Largest dense cell."""
_AT_A_TIME = 1 << 22
"""Dense cells that are looked through at a time."""
_CELLS_A_MEETING = 16
"""Where fewer items meet for so many cells, sparse sums are faster."""
Cells = tuple[np.ndarray, np.ndarray]
"""Flat cell numbers (row * width + column), all different, and their values."""
Diagonal = tuple[np.ndarray, np.ndarray]
"""What is added to the diagonal of a mirrored block: pairs and patients, two (d,) int64."""


class DenseSum:
    """Cells as arrays of 32 bits, (d_a, d_b), two if patients are counted.

    No cell can overflow: none is above ``_bound``, and nothing is added to the arrays that could
    lift a cell past `MOST`. What is larger lies beside them, in sparse sums of 64 bits. There also
    lies what was counted first, until it is enough to be worth going through all cells.
    """

    def __init__(self, rows: int, columns: int, *, patients: bool, fast: bool, room: int) -> None:
        self._pairs = np.zeros((rows, columns), dtype=np.int32)
        self._people = np.zeros((rows, columns), dtype=np.int32) if patients else None
        self._seen = np.full(columns if patients else 0, -1, dtype=np.int64)
        self._stamp, self._fast = 0, fast
        self._bound = 0
        self._used, self._few = False, rows * columns // _CELLS_A_MEETING
        self._beyond = SparseSum(rows, columns, patients=patients, room=room)

    def add_fast(self, found: Records) -> None:
        """Add what meets, with the compiled loops (see `kernels`)."""
        from medmcl.cooccurrence.count.kernels import add_both, add_pairs

        if not self._worth(found) or not self._fits(found):
            self._beyond.add_fast(found)
            return
        self._bound += found.most
        if self._people is None:
            add_pairs(found.first, found.record, found.met, self._pairs)
        else:
            self._stamp = add_both(
                found.first, found.record, found.met,
                self._pairs, self._people, self._seen, self._stamp,
            )  # fmt: skip

    def add_cells(self, pairs: Iterator[Cells], people: Iterator[Cells]) -> None:
        """Add values of flat cells."""
        for cell, value in pairs:
            # the cells are all different; what becomes large goes beside the arrays
            self._used = True
            flat = self._pairs.reshape(-1)
            total = flat[cell] + value.astype(np.int64)
            large = total > MOST // 2
            flat[cell] = np.where(large, 0, total)
            self._bound = max(self._bound, int(total[~large].max(initial=0)))
            if large.any():
                self._beyond.add_cells(iter([(cell[large], total[large])]), iter(()))
        if self._people is not None:
            for cell, value in people:
                self._people.reshape(-1)[cell] += value.astype(np.int32)

    def add(self, block: Block) -> None:
        """Add sparse sums."""
        people = () if block.patients is None else _flat(block.patients)
        self.add_cells(_flat(block.pairs), iter(people))

    def peek(self) -> Block:
        """Give the sums so far."""
        if not self._used:
            return self._beyond.peek()
        people = None if self._people is None else self._sparse(self._people)
        return self._with_beyond(Block(self._sparse(self._pairs), people))

    def take(self, diagonal: Diagonal | None = None) -> Block:
        """Give the sums and let go of the arrays.

        Args:
            diagonal: Given where only half was counted: the block becomes A + A' + diagonal.
        """
        if not self._used:
            return self._beyond.take(diagonal)
        if diagonal is not None:
            # A becomes A + A' + diagonal
            if self._bound > MOST // 2:
                self._settle()
            for cells in (self._pairs, self._people):
                if cells is None:
                    continue
                if self._fast:
                    from medmcl.cooccurrence.count.kernels import mirror

                    mirror(cells)
                else:
                    cells += cells.T.copy()
            self._bound *= 2
            self._beyond.mirror()
            where = np.arange(len(self._pairs)) * (len(self._pairs) + 1)
            self.add_cells(iter([(where, diagonal[0])]), iter([(where, diagonal[1])]))
        pairs, people = self._pairs, self._people
        self._pairs, self._people = np.zeros((0, 0), dtype=np.int32), None
        found = self._sparse(pairs)
        del pairs
        return self._with_beyond(Block(found, None if people is None else self._sparse(people)))

    def _with_beyond(self, block: Block) -> Block:
        return block + self._beyond.peek() if self._beyond else block

    def _worth(self, found: Records) -> bool:
        """Whether so much is counted that dense cells cost less; it then moves there."""
        if not self._used:
            self._few -= found.meetings
            if self._few >= 0:
                return False
            self.add(self._beyond.drain())
        return True

    def _fits(self, found: Records) -> bool:
        """Whether no cell can overflow, if need be after a look at all cells."""
        if self._bound + found.most > MOST:
            self._settle()
        return self._bound + found.most <= MOST

    def _settle(self) -> None:
        """Look at the largest cell, and leave none in the arrays that is above half of the most."""
        width = self._pairs.shape[1]
        step = max(1, _AT_A_TIME // max(width, 1))
        self._bound = 0
        for row in range(0, len(self._pairs), step):
            some = self._pairs[row : row + step].reshape(-1)
            if some.max(initial=0) > MOST // 2:
                large = np.flatnonzero(some > MOST // 2)
                cells = (row * width + large, some[large].astype(np.int64))
                self._beyond.add_cells(iter([cells]), iter(()))
                some[large] = 0
            self._bound = max(self._bound, int(some.max(initial=0)))

    def _sparse(self, cells: np.ndarray) -> sparse.csr_array:
        """Dense to sparse int64 in little memory beside the result."""
        if self._fast:
            from medmcl.cooccurrence.count.kernels import compress, filled

            lengths = filled(cells)
        else:
            lengths = np.array([np.count_nonzero(row) for row in cells], dtype=np.int64)
        first = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        columns = np.empty(int(first[-1]) + 1, dtype=np.int32)
        values = np.empty(len(columns), dtype=np.int64)
        if self._fast:
            compress(cells, columns, values)
        else:
            step = max(1, _AT_A_TIME // max(cells.shape[1], 1))
            for row in range(0, cells.shape[0], step):
                some = cells[row : row + step]
                at = slice(first[row], first[min(row + step, cells.shape[0])])
                where = np.nonzero(some)
                columns[at], values[at] = where[1], some[where]
        return _rows(values[:-1], columns[:-1], first, cells.shape)


class SparseSum:
    """Cells as sparse matrices, added up when two are alike in size: each is merged log n times."""

    def __init__(self, rows: int, columns: int, *, patients: bool, room: int) -> None:
        self._shape, self._patients, self._room = (rows, columns), patients, max(room, columns)
        self._pairs: list[sparse.csr_array] = []
        self._people: list[sparse.csr_array] = []

    def __bool__(self) -> bool:
        """Whether anything was added."""
        return bool(self._pairs or self._people)

    def add_fast(self, found: Records) -> None:
        """Add what meets, with the compiled loops (see `kernels`), some rows at a time."""
        from medmcl.cooccurrence.count.kernels import rows_of

        if not found.meetings:
            return
        first, record, met = found.first, found.record, found.met
        rows, width = self._shape
        meetings = np.r_[0, np.cumsum(record[:, 1].astype(np.int64) - record[:, 0])]
        most = np.minimum(np.diff(meetings[first]), width)  # cells that a row can have
        bound = np.r_[0, np.cumsum(most)]
        parts, at = [], 0
        while at < rows:
            stop = int(np.searchsorted(bound, bound[at] + self._room, side="right")) - 1
            stop = min(max(stop, at + 1), rows)
            room = int(bound[stop] - bound[at])
            parts.append(rows_of((at, stop), first, record, met, width, room))
            at = stop
        length, columns, pairs, people = map(np.concatenate, zip(*parts, strict=True))
        starts = np.r_[0, np.cumsum(length)]
        self.add(Block(*(_rows(value, columns, starts, self._shape) for value in (pairs, people))))

    def add_cells(self, pairs: Iterator[Cells], people: Iterator[Cells]) -> None:
        """Add values of flat cells."""
        for part in pairs:
            _push(self._pairs, self._of(part))
        if self._patients:
            for part in people:
                _push(self._people, self._of(part))

    def add(self, block: Block) -> None:
        """Add sparse sums."""
        _push(self._pairs, block.pairs)
        if self._patients and block.patients is not None:
            _push(self._people, block.patients)

    def peek(self) -> Block:
        """Give the sums so far."""
        people = self._total(self._people) if self._patients else None
        return Block(self._total(self._pairs), people)

    def drain(self) -> Block:
        """Give the sums so far, and begin anew."""
        block = self.peek()
        self._pairs, self._people = [], []
        return block

    def mirror(self) -> None:
        """Turn A into A + A'."""
        for parts in (self._pairs, self._people):
            if parts:
                half = self._total(parts)
                parts[:] = [half + half.T.tocsr()]

    def take(self, diagonal: Diagonal | None = None) -> Block:
        """Give the sums, mirrored if a diagonal is given (see `DenseSum.take`)."""
        if diagonal is not None:
            self.mirror()
            self.add(Block(*(_on_diagonal(values) for values in diagonal)))
        return self.peek()

    def _of(self, part: Cells) -> sparse.csr_array:
        cell, value = part
        where = (cell // self._shape[1], cell % self._shape[1])
        return sparse.csr_array((value, where), shape=self._shape)

    def _total(self, parts: list[sparse.csr_array]) -> sparse.csr_array:
        while len(parts) > 1:
            parts.append(parts.pop() + parts.pop())
        return parts[0] if parts else sparse.csr_array(self._shape, dtype=np.int64)


Sum = DenseSum | SparseSum


def _on_diagonal(values: np.ndarray) -> sparse.csr_array:
    found = sparse.csr_array(sparse.diags_array(values, dtype=np.int64))
    found.eliminate_zeros()
    return found


def _rows(
    values: np.ndarray, columns: np.ndarray, first: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
    """Sparse rows; scipy widens all indices to 64 bits if one array of them has 64."""
    small = max(int(first[-1]), shape[1]) <= np.iinfo(np.int32).max
    kind = np.int32 if small else np.int64
    parts = (values, columns.astype(kind, copy=False), first.astype(kind, copy=False))
    return sparse.csr_array(parts, shape=shape)


def _push(parts: list[sparse.csr_array], more: sparse.csr_array) -> None:
    parts.append(more)
    while len(parts) > 1 and parts[-2].nnz <= 2 * parts[-1].nnz:
        parts.append(parts.pop() + parts.pop())


def _flat(more: sparse.csr_array) -> Iterator[Cells]:
    """Give the cells of some rows at a time."""
    step = max(1, _AT_A_TIME // max(more.shape[1], 1))
    for row in range(0, more.shape[0], step):
        some = sparse.coo_array(more[row : row + step])
        yield (row + some.coords[0].astype(np.int64)) * more.shape[1] + some.coords[1], some.data
