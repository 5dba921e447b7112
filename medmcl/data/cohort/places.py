"""Where the records of a modality lie: a column of `RecordRef`, each made when it is asked for.

A cohort of a hundred thousand rows of a table opens without making an object for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, take
from typing_extensions import override

from medmcl.core.contracts import RecordRef
from medmcl.data.tables.files import natives
from medmcl.data.tables.mapped import leave
from medmcl.data.tables.wide_cells import WideCells, wide_columns

_AT_ONCE = 2**13
"""Rows of a column that a system maps at once, 64 kB; pages leave when others are told."""


class PlaceDtype(ExtensionDtype):
    """The dtype of a column of places."""

    name = "place"
    na_value = None

    @override
    @classmethod
    def construct_array_type(cls) -> type[PlaceArray]:
        return PlaceArray


PlaceDtype.type = RecordRef


class PlaceArray(ExtensionArray):
    """Places by row; a part of it shares what they are made from.

    Args:
        tell: Gives the place of a row of the table.
        rows: Which rows, in order; -1: none. (N,) int32 or int64
    """

    def __init__(self, tell: Callable[[int], RecordRef], rows: np.ndarray) -> None:
        self._tell, self._rows = tell, rows

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes what these places say, not the table that they are made from."""
        return type(self).of, (list(self),)

    @classmethod
    def of(cls, places: Sequence[RecordRef | None]) -> PlaceArray:
        """Places that are made already."""
        known = [one for one in places if one is not None]
        rows = np.full(len(places), -1, dtype=np.int64)
        rows[[number for number, one in enumerate(places) if one is not None]] = range(len(known))
        return cls(known.__getitem__, rows)

    @property
    def cells(self) -> pd.DataFrame | None:
        """The columns that these records read; None where places were made from no table."""
        if not isinstance(self._tell, TableRows) or (self._rows < 0).any():
            return None
        return self._tell.table[self._tell.names].iloc[self._rows]

    def column(self, name: str) -> list[Any]:
        """The cell of each place in a column; None where there is none, or no place."""
        if not isinstance(self._tell, TableRows):
            return [None if one is None else one.values.get(name) for one in self]
        if name not in self._tell.names:
            return [None] * len(self)
        cells = natives(self._tell.table[name].iloc[self._rows])
        return [None if row < 0 else one for row, one in zip(self._rows, cells, strict=True)]

    def numbers(self, name: str) -> np.ndarray | None:
        """The cell of each place in a column of float64, (N,), NaN of none; None: it is no such."""
        tell = self._tell
        if not isinstance(tell, TableRows) or name not in tell.names:
            return None
        column = tell.table[name]
        if column.dtype != np.float64:
            return None
        return np.where(self._rows < 0, np.nan, column.to_numpy()[self._rows])

    @property
    @override
    def dtype(self) -> PlaceDtype:
        return PlaceDtype()

    @property
    @override
    def nbytes(self) -> int:
        return int(self._rows.nbytes)

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def __getitem__(self, item: Any) -> Any:
        rows = self._rows[pd.api.indexers.check_array_indexer(self, item)]
        if isinstance(rows, np.ndarray):
            return type(self)(self._tell, rows)
        return None if rows < 0 else self._tell(int(rows))

    @override
    def __iter__(self) -> Iterator[Any]:
        tell = self._tell
        return (None if row < 0 else tell(int(row)) for row in self._rows)

    @override
    def isna(self) -> np.ndarray:
        return self._rows < 0

    @override
    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        rows = take(self._rows, np.asarray(indices), allow_fill=allow_fill, fill_value=-1)
        return type(self)(self._tell, np.asarray(rows))

    @override
    def copy(self) -> Self:
        return type(self)(self._tell, self._rows.copy())

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Any]) -> Any:
        return cls.of([place for part in to_concat for place in part])

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Any:  # noqa: ARG003  (as pandas calls it)
        return cls.of([None if one is pd.NA else one for one in scalars])


@dataclass(frozen=True)
class TableRows:
    """What places of the rows of a table are made from.

    Attributes:
        table: The rows; those of ``names`` are told.
        names: Columns that records read.
        owner: Subject of each row. (N,) object
        ids: Record id of each row. (N,) object
        paths: Gives the files of a row from its cells.
        roots: See `RecordRef`.
    """

    table: pd.DataFrame
    names: list[str]
    owner: np.ndarray
    ids: np.ndarray
    paths: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    roots: tuple[str, ...]
    _near: list[int] = field(default_factory=lambda: [0], repr=False)

    def __call__(self, row: int) -> RecordRef:
        """Give the place of a row."""
        numbers, others, order, wide = self._cells
        if row // _AT_ONCE != self._near[0]:
            self._near[0] = row // _AT_ONCE
            leave()
        values: Any = {} if order else dict.fromkeys(self.names)  # in the order of the names
        for name, column in others.items():
            values[name] = column[row]
        for name, cells in numbers.items():
            cell = cells.item(row)
            values[name] = cell if cell == cell else None  # NaN is unlike itself
        if order:
            values = WideCells(order, wide[row], values)
        return RecordRef(
            subject=self.owner[row],
            record=self.ids[row],
            paths=self.paths(values),
            values=values,
            roots=self.roots,
        )

    @cached_property
    def _cells(
        self,
    ) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, int], np.ndarray]:
        """Columns of numbers as they lie in the table, and others; of a wide table at once."""
        wide = wide_columns(self.table, self.names)
        order = {name: place for place, name in enumerate(wide)}
        narrow = {name: self.table[name] for name in self.names if name not in order}
        numbers = {n: one.to_numpy() for n, one in narrow.items() if one.dtype == np.float64}
        others = {n: natives(one) for n, one in narrow.items() if n not in numbers}
        return numbers, others, order, self.table[wide].to_numpy(np.float64)
