"""Values that stand for a missing cell, such as -9999: ``missing:`` of a cohort.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

import pandas as pd

from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.tables.files import as_text

_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][-+]?\d+)?")
"""Text that is a number; with a leading zero (0999) it is a code of its own."""
_SHOWN = 8

Codes = Mapping[str, tuple[str | int | float, ...]]
"""Column, or pattern (``*``), to the values that stand for a missing cell."""


def empty_cells(
    frame: pd.DataFrame, codes: Codes, spared: Collection[str], counts: dict[str, int]
) -> pd.DataFrame:
    """Empty the cells that hold a code: 999, 999.0 and "999" are one.

    Args:
        frame: A table, cells as they were read.
        codes: What stands for a missing cell.
        spared: Columns that no pattern takes: ids, places of files.
        counts: Column to how many of its cells were emptied; added to.
    """
    found: dict[str, pd.Series] = {}
    for name in map(str, frame.columns):
        own = codes_of(name, {k: v for k, v in codes.items() if k == name or name not in spared})
        column = frame[name]
        if not own or pd.api.types.is_datetime64_any_dtype(column):
            continue
        hit = column.isin([one for one in column.dropna().unique() if plain(one) in own])
        if hit.any():
            found[name] = column.mask(hit)
            counts[name] = int(hit.sum())
    return frame.assign(**found) if found else frame


def codes_of(column: str, codes: Codes) -> set[object]:
    """Give what stands for a missing cell of a column, each as `plain` writes it."""
    own = (some for key, some in codes.items() if key == column or fnmatchcase(column, key))
    return {plain(code) for some in own for code in some}


def plain(cell: object) -> object:
    """Give a cell or code as a number where it is one, as text otherwise."""
    text = as_text(cell)
    return float(text) if _NUMBER.fullmatch(text) else text


def emptied_finding(table: str, counts: Mapping[str, int]) -> Finding:
    """Say how many cells stood for nothing, by column."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(shown)
    return cohort_warning(
        "cohort.missing_code",
        f"table {table}",
        f"{counted(sum(counts.values()), 'cell')} taken as missing, as `missing:` says: "
        + ", ".join([*shown, *([f"{more:,} more columns"] if more else [])]),
        "nothing, if that is meant",
    )
