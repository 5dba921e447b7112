"""Prepared rows of which only those of open splits can be read, whoever reads them and how."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError


class ClosedSplitError(ArtefactError):
    """Rows of a split that is not open were about to be read."""

    def __init__(self, split: str, where: object = None) -> None:
        self.split = split
        super().__init__(
            f"the split '{split}' is not open here: {split} is opened only by evaluate",
            where=where,
            fix="train, select and standardise on train; choose on tuning",
        )


class OpenRows:
    """Rows of an array that refuses those of closed splits.

    Args:
        rows: Prepared rows, (R, ...).
        closed: Split of each row that is closed, empty where a row may be read. (R,) str
    """

    def __init__(self, rows: np.ndarray | OpenRows, closed: np.ndarray) -> None:
        self._rows, self._names, self._shut = rows, closed, closed != ""
        self.shape: tuple[int, ...] = rows.shape
        self.dtype: np.dtype[Any] = rows.dtype
        self.ndim: int = rows.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        """Index as an array is indexed.

        Raises:
            ClosedSplitError: Names the split of the first row that is closed.
        """
        first = key[0] if isinstance(key, tuple) and key else key
        chosen = slice(None) if first is None or first is Ellipsis else first
        shut = np.atleast_1d(self._shut[chosen])
        if shut.any():
            raise ClosedSplitError(str(np.atleast_1d(self._names[chosen])[shut][0]))
        return self._rows[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Give all rows; refused where one is closed."""
        return np.array(self[:], dtype=dtype, copy=copy)
