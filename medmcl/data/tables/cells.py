"""What the cells of a column hold, for messages: values, counts, and how to write their meaning.

A column that is meant as yes or no may have cells that say neither (0, 1 and one ``yes``). No
fix may turn a yes into a no unnoticed, so the odd cells are named, and so are the values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from medmcl.data.expressions.expression import Values
from medmcl.data.tables.files import as_text, natives
from medmcl.data.tables.named_columns import is_dates
from medmcl.data.tables.odd_cells import NO, named
from medmcl.modalities.tabular.gap_codes import UNCLEAR, looks_missing, said_missing

_SHOWN = 8
_ONES, _ZEROS = ("1", "1.0", "true"), ("0", "0.0", "false")
_YES = frozenset({"yes", "y", "t", "pos", "positive", "case", "event", "dead", "died", "ja", "oui"})
_NO = NO | UNCLEAR


def held(column: pd.Series) -> str:
    """Write the values of a column with how many cells hold each: ``0 (50), 2 (9), empty (1)``."""
    cells = natives(column)
    known = Counter(as_text(cell) for cell in cells if cell is not None)
    parts = [f"{value} ({count:,})" for value, count in known.most_common(_SHOWN)]
    if len(known) > _SHOWN:
        parts.append(f"{len(known) - _SHOWN:,} more values")
    empty = sum(cell is None for cell in cells)
    return ", ".join([*parts, *([f"empty ({empty:,})"] if empty else [])]) or "nothing"


def no_truth(
    said: str, key: str, value: Values, rows: np.ndarray, subjects: np.ndarray
) -> tuple[str, str]:
    """Say why values are not yes or no, and how to fix it.

    Args:
        said: The column or expression, as it is written in one.
        key: The key of the task that names it.
        value: What it is for each sample. (N,)
        rows: Row of each sample in its table. (N,) int64.
        subjects: Whose each sample is. (N,) object.

    Returns:
        What is wrong, with values and counts of rows; and the fix.
    """
    if value.kind == "codes":
        codes = sorted({code for many in value.data[value.known] for code in many})
        what = f"'{said}' holds codes, for example {', '.join(codes[:5])}"
        return what, _write(key, f"'{codes[0] if codes else 'CODE'}' in {said}", "code")
    shown = np.array([as_text(cell) for cell in value.data], dtype=object)
    plain = np.array([cell.lower() in _ONES + _ZEROS for cell in shown], dtype=bool)
    known = value.known
    written: Callable[[object], str] = repr if value.kind == "text" else str
    counts = _counts(shown, rows, known)
    two = _are_two_codes(counts)  # 1 and 2: which of them is yes differs by program
    if two or 2 * (known & plain).sum() < known.sum():
        if is_dates(pd.Series(value.data[known])):
            what = f"'{said}' holds dates, such as {next(iter(counts))}"
            dated = f'{key}: "not isnull({said})"; any empty cell then means no'
            return what, f"if a date stands there for whoever had it, and for no one else, {dated}"
        rest = [one for one in counts if one.lower() not in _NO] or list(counts)
        likely = next((one for one in rest if one.lower() in _YES), rest[-1])
        listed = ", ".join(f"{written(one)} ({n:,})" for one, n in list(counts.items())[:_SHOWN])
        more = f", {len(counts) - _SHOWN:,} more values" if len(counts) > _SHOWN else ""
        what = f"'{said}' is neither true/false nor 0/1: it holds {listed}{more}"
        if two:
            either = " or ".join(f'"{said} == {written(one)}"' for one in sorted(counts))
            return what, f"say which of the two means yes, {key}: {either}"
        return what, _write(key, f"{said} == {written(likely)}", "value")
    odd = known & ~plain
    values = _counts(shown, rows, odd)
    told = [
        named(one, count, [f"subject {who}" for who in subjects[odd & (shown == one)]], written)
        for one, count in list(values.items())[:_SHOWN]
    ]
    more = f" and {len(values) - _SHOWN:,} more values" if len(values) > _SHOWN else ""
    what = f"'{said}' is 0 or 1, but for {', '.join(told)}{more}"
    ones = sorted({cell for cell in shown[known & plain] if cell.lower() in _ONES})
    if value.kind == "text":
        ones += [one for one in values if one.lower() not in _NO]
    meant = f"isin({said}, {', '.join(map(written, ones or ['1']))})"
    cells = "the cell" if sum(values.values()) == 1 else "the cells"
    fix = f"{said_missing(said.strip('`'), values)}correct {cells} to 0, 1 or empty (unknown)"
    return what, f"{fix}; or {_write(key, meant, 'value')}"


def _are_two_codes(values: Collection[str]) -> bool:
    return len(values) == 2 and all(one.isdigit() and int(one) and not looks_missing(one)
                                    for one in values)  # fmt: skip


def _write(key: str, expression: str, noun: str) -> str:
    return f'say every {noun} that means yes, {key}: "{expression}"; any other then means no'


def _counts(shown: np.ndarray, rows: np.ndarray, which: np.ndarray) -> dict[str, int]:
    """Count the rows of the table that hold each value, most first."""
    held_by = dict(zip(rows[which].tolist(), shown[which], strict=True))
    return dict(Counter(held_by.values()).most_common())
