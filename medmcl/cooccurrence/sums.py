"""Running sums of one block of cells: dense where it fits the memory, otherwise sparse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.counts import Block
from medmcl.cooccurrence.plain import Cells

_AT_A_TIME = 1 << 22
"""Dense cells that are turned into sparse rows at a time."""
Diagonal = tuple[np.ndarray, np.ndarray]
"""What is added to the diagonal of a mirrored block: pairs and patients, two (d,) int64."""


class DenseSum:
    """Cells as arrays, (d_a, d_b): 8 bytes a cell, 4 more if patients are counted."""

    def __init__(self, rows: int, columns: int, *, patients: bool, fast: bool) -> None:
        self._pairs = np.zeros((rows, columns), dtype=np.int64)
        self._people = np.zeros((rows, columns), dtype=np.int32) if patients else None
        self._seen = np.full(columns if patients else 0, -1, dtype=np.int64)
        self._stamp, self._fast = 0, fast

    def add_fast(self, first: np.ndarray, record: np.ndarray, met: np.ndarray) -> None:
        """Add what meets, with the compiled loops (see `kernels`)."""
        from medmcl.cooccurrence.kernels import add_both, add_pairs

        if self._people is None:
            add_pairs(first, record, met, self._pairs)
        else:
            self._stamp = add_both(
                first, record, met, self._pairs, self._people, self._seen, self._stamp
            )

    def add_cells(self, pairs: Iterator[Cells], people: Iterator[Cells]) -> None:
        """Add values of flat cells."""
        for cell, value in pairs:
            self._pairs.reshape(-1)[cell] += value
        if self._people is not None:
            for cell, value in people:
                self._people.reshape(-1)[cell] += value.astype(np.int32)

    def add(self, block: Block) -> None:
        """Add sparse sums."""
        _scatter(block.pairs, self._pairs)
        if self._people is not None and block.patients is not None:
            _scatter(block.patients, self._people)

    def peek(self) -> Block:
        """Give the sums so far."""
        people = None if self._people is None else self._sparse(self._people)
        return Block(self._sparse(self._pairs), people)

    def take(self, diagonal: Diagonal | None = None) -> Block:
        """Give the sums and let go of the arrays.

        Args:
            diagonal: Given where only half was counted: the block becomes A + A' + diagonal.
        """
        pairs, people = self._pairs, self._people
        self._pairs, self._people = np.zeros((0, 0), dtype=np.int64), None
        if diagonal is not None:
            self._mirror(pairs, diagonal[0])
            if people is not None:
                self._mirror(people, diagonal[1])
        found = self._sparse(pairs)
        del pairs
        return Block(found, None if people is None else self._sparse(people))

    def _mirror(self, cells: np.ndarray, diagonal: np.ndarray) -> None:
        if self._fast:
            from medmcl.cooccurrence.kernels import mirror

            mirror(cells)
        else:
            cells += cells.T.copy()
        np.fill_diagonal(cells, cells.diagonal() + diagonal.astype(cells.dtype))

    def _sparse(self, cells: np.ndarray) -> sparse.csr_array:
        """Dense to sparse int64 in little memory beside the result."""
        if self._fast:
            from medmcl.cooccurrence.kernels import compress, filled

            lengths = filled(cells)
        else:
            lengths = np.array([np.count_nonzero(row) for row in cells], dtype=np.int64)
        first = np.r_[0, np.cumsum(lengths)].astype(np.int64)
        columns = np.empty(int(first[-1]), dtype=np.int32)
        values = np.empty(int(first[-1]), dtype=np.int64)
        if self._fast:
            compress(cells, first, columns, values)
        else:
            step = max(1, _AT_A_TIME // max(cells.shape[1], 1))
            for row in range(0, cells.shape[0], step):
                some = cells[row : row + step]
                at = slice(first[row], first[min(row + step, cells.shape[0])])
                where = np.nonzero(some)
                columns[at], values[at] = where[1], some[where]
        return sparse.csr_array((values, columns, first), shape=cells.shape)


class SparseSum:
    """Cells as sparse matrices, added up when two are alike in size: each is merged log n times."""

    def __init__(self, rows: int, columns: int, *, patients: bool, room: int) -> None:
        self._shape, self._patients, self._room = (rows, columns), patients, max(room, columns)
        self._pairs: list[sparse.csr_array] = []
        self._people: list[sparse.csr_array] = []

    def add_fast(self, first: np.ndarray, record: np.ndarray, met: np.ndarray) -> None:
        """Add what meets, with the compiled loops (see `kernels`), some rows at a time."""
        from medmcl.cooccurrence.kernels import rows_of

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
        whole = [
            sparse.csr_array((value, columns, starts), shape=self._shape)
            for value in (pairs, people)
        ]
        self.add(Block(*whole))

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

    def take(self, diagonal: Diagonal | None = None) -> Block:
        """Give the sums, mirrored if a diagonal is given (see `DenseSum.take`)."""
        block = self.peek()
        if diagonal is None:
            return block
        people = None if block.patients is None else _mirrored(block.patients, diagonal[1])
        return Block(_mirrored(block.pairs, diagonal[0]), people)

    def _of(self, part: Cells) -> sparse.csr_array:
        cell, value = part
        where = (cell // self._shape[1], cell % self._shape[1])
        return sparse.csr_array((value, where), shape=self._shape)

    def _total(self, parts: list[sparse.csr_array]) -> sparse.csr_array:
        while len(parts) > 1:
            parts.append(parts.pop() + parts.pop())
        return parts[0] if parts else sparse.csr_array(self._shape, dtype=np.int64)


Sum = DenseSum | SparseSum


def _mirrored(half: sparse.csr_array, diagonal: np.ndarray) -> sparse.csr_array:
    both = half + half.T + sparse.diags_array(diagonal, dtype=np.int64)
    found = sparse.csr_array(both)
    found.eliminate_zeros()
    return found


def _push(parts: list[sparse.csr_array], more: sparse.csr_array) -> None:
    parts.append(more)
    while len(parts) > 1 and parts[-2].nnz <= 2 * parts[-1].nnz:
        parts.append(parts.pop() + parts.pop())


def _scatter(more: sparse.csr_array, cells: np.ndarray) -> None:
    for row in range(more.shape[0]):
        some = slice(more.indptr[row], more.indptr[row + 1])
        cells[row, more.indices[some]] += more.data[some].astype(cells.dtype)
