"""The few cells of a column that are no numbers where all others are, for messages.

A column of 0 and 1 with one ``yes`` is read as text. Comparing it with the text ``'1'`` would turn
that yes into a no unnoticed, so the cells are named with who has them, and the fix keeps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from medmcl.core.findings import counted
from medmcl.modalities.tabular.gap_codes import UNCLEAR

SHOWN = 8
_NAMED = 3
NO = frozenset({"no", "n", "f", "false", "neg", "negative", "nein", "non", "nee"})


def odd_cells(data: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which cells are no numbers in a column of text that is mostly numbers. (N,) bool.

    None are where fewer than half of the known cells are numbers: the column is text then.

    Args:
        data: Cells as text. (N,) object.
        known: Which are there. (N,) bool.
    """
    seen: dict[object, bool] = {}
    for cell in data[known]:
        if cell not in seen:
            seen[cell] = is_number(str(cell))
    numbers = np.array([ok and seen[cell] for cell, ok in zip(data, known, strict=True)], bool)
    if 2 * numbers.sum() < known.sum():
        return np.zeros(len(known), bool)
    return known & ~numbers


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def told(data: np.ndarray, odd: np.ndarray, name: Callable[[int], str] | None) -> str:
    """Write odd cells with their rows: ``'yes' (1 row: subject s3), '?' (2 rows: row 4, row 9)``.

    Args:
        data: Cells as text. (N,) object.
        odd: Which of them to name. (N,) bool.
        name: Gives what messages call a row; its number, from 1, if not given.
    """
    call = name or (lambda row: f"row {row + 1}")
    values = Counter(data[odd].tolist())
    parts = [
        named(value, count, map(call, np.flatnonzero(odd & (data == value)).tolist()), repr)
        for value, count in values.most_common(SHOWN)
    ]
    more = f" and {len(values) - SHOWN:,} more values" if len(values) > SHOWN else ""
    return f"{', '.join(parts)}{more}"


def named(value: str, count: int, names: Iterable[str], written: Callable[[object], str]) -> str:
    """Write a value with how many rows hold it, and the first of these."""
    who = list(dict.fromkeys(names))
    more = f" and {len(who) - _NAMED:,} more" if len(who) > _NAMED else ""
    return f"{written(value)} ({counted(count, 'row')}: {', '.join(who[:_NAMED])}{more})"


def correct(odd: np.ndarray) -> str:
    """Say that odd cells be corrected."""
    which = "the cell to a number" if odd.sum() == 1 else "the cells to numbers"
    return f"correct {which} or empty (unknown)"


def meant_as_one(column: str, data: np.ndarray, known: np.ndarray, odd: np.ndarray) -> str | None:
    """Write ``isin(column, '1', 'yes')`` for a column compared with 1; None where that would guess.

    It keeps every cell that is 1 or says something else than no. Where an odd cell says neither
    yes nor no there is none: whoever has it would become a no.
    """
    values = [str(one) for one in dict.fromkeys(data[odd])]
    if any(one.lower() in UNCLEAR for one in values) or len(values) > SHOWN:
        return None
    ones = sorted({str(one) for one in data[known & ~odd] if float(one) == 1}) or ["1"]
    ones += [one for one in values if one.lower() not in NO]
    said = column if column.isidentifier() else f"`{column}`"
    return f"isin({said}, {', '.join(map(repr, ones))})"
