"""Columns of text whose cells repeat: which word each cell holds, and each word once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import pandas as pd
from typing_extensions import override

_BLOCK = 2**14


class Words(Sequence[str | None]):
    """The cells of such a column, None where missing.

    Args:
        column: A categorical column of text.
    """

    def __init__(self, column: pd.Series) -> None:
        self._which: np.ndarray = column.cat.codes.to_numpy()
        self._words = [*column.cat.categories, None]  # -1, no word, is the last

    @override
    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, row: int) -> str | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[str | None]: ...
    @override
    def __getitem__(self, row: int | slice) -> str | list[str | None] | None:
        if isinstance(row, slice):
            return [self._words[one] for one in self._which[row].tolist()]
        return self._words[self._which[row]]


def is_repeated(column: pd.Series) -> bool:
    """Whether a column is such a one."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def repeated(number: np.ndarray, words: pd.Series) -> pd.Series:
    """Give such a column.

    Args:
        number: Which of the words stands in each row; -1, none. (N,) int
        words: Text, perhaps alike or missing.
    """
    which, distinct = pd.factorize(words)
    which = np.append(which, -1)[number]
    kind = pd.CategoricalDtype(pd.Index(distinct, dtype=words.dtype))
    return pd.Series(pd.Categorical.from_codes(which, dtype=kind), name=words.name, copy=False)


class Gathered:
    """A column of text, piece by piece, which is such a one where every 2^14 rows are."""

    def __init__(self) -> None:
        self._pieces: list[pd.Series] = []
        self._rows = 0
        self._blocks: list[pd.Series] = []

    def add(self, cells: pd.Series) -> None:
        """Add a piece, (N,) text."""
        self._pieces.append(cells)
        self._rows += len(cells)
        if self._rows >= _BLOCK:
            self._fold()

    def _fold(self) -> None:
        cells = pd.concat(self._pieces, ignore_index=True)
        self._pieces, self._rows = [], 0
        number, words = pd.factorize(cells)
        few = 2 * len(words) < len(cells)
        self._blocks.append(repeated(number, pd.Series(words)) if few else cells)

    def column(self) -> pd.Series:
        """Give it whole."""
        if self._pieces:
            self._fold()
        blocks = self._blocks
        if len(blocks) == 1:
            return blocks[0]
        if not all(map(is_repeated, blocks)):
            plain = [x.astype(x.cat.categories.dtype) if is_repeated(x) else x for x in blocks]
            return pd.concat(plain, ignore_index=True)
        words = [one.cat.categories.to_series() for one in blocks]
        begins = np.cumsum([0, *map(len, words)])
        own = [one.cat.codes.to_numpy(np.int32) for one in blocks]  # int8 ends at 127
        codes = [
            np.where(one < 0, np.int32(-1), one + np.int32(begin))
            for one, begin in zip(own, begins, strict=False)
        ]
        return repeated(np.concatenate(codes), pd.concat(words, ignore_index=True))
