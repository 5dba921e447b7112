"""The cells of a record of a wide table: numbers as one array, not as thousands of objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

WIDE = 64
"""So many columns of numbers make a table wide."""


class WideCells(Mapping[str, Any]):
    """Column to cell, None where missing; a mapping like the dict of a narrow table.

    Attributes:
        columns: Column of numbers to its place; shared by all records of a table.
        numbers: The numbers, NaN where missing. (F,) float64
        others: The other columns.
    """

    __slots__ = ("columns", "numbers", "others")

    def __init__(
        self, columns: Mapping[str, int], numbers: np.ndarray, others: Mapping[str, Any]
    ) -> None:
        self.columns, self.numbers, self.others = columns, numbers, others

    def __getitem__(self, name: str) -> Any:
        place = self.columns.get(name)
        if place is None:
            return self.others[name]
        number = float(self.numbers[place])
        return None if number != number else number

    def __iter__(self) -> Iterator[str]:
        yield from self.others
        yield from self.columns

    def __len__(self) -> int:
        return len(self.others) + len(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns or name in self.others

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self.items()) == dict(other.items())

    def __hash__(self) -> int:
        raise TypeError("cells of a record are no key")

    def stamp(self) -> list[Any]:
        """Everything that tells it from another record, as JSON takes it."""
        from hashlib import blake2b

        whole = blake2b(np.ascontiguousarray(self.numbers).tobytes(), digest_size=16)
        names = blake2b("\x1f".join(self.columns).encode(), digest_size=16)
        return [dict(self.others), names.hexdigest(), whole.hexdigest()]


def wide_columns(table: pd.DataFrame, names: list[str]) -> list[str]:
    """Give the columns of plain numbers if they are many; otherwise none."""
    kinds = table[names].dtypes
    found = [name for name in names if kinds[name] == np.float64]
    return found if len(found) >= WIDE else []
