"""Columns of a table modality that are named alone: by pattern (``gene_*``), and of which kind."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from fnmatch import fnmatchcase

import pandas as pd

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError
from medmcl.data.spec import ModalitySpec
from medmcl.modalities.tabular import Column, TabularSource, read_cell


def write_out(spec: ModalitySpec, table: pd.DataFrame, reserved: Collection[str]) -> ModalitySpec:
    """Give a modality whose columns are written out, each with its kind, in the order of the table.

    A column that is named alone is a category if no cell of it can be read as a number, as of
    words; otherwise it is a number, and cells that are none are faults.

    A column that is named itself, or stands under an earlier pattern, is not taken again. Only
    ``*`` and ``?`` are signs of a pattern; a column that is called so itself is that column.

    Args:
        spec: The modality; other kinds than tables pass.
        table: Its table.
        reserved: Columns that no pattern takes: ids, dates, the split, outcomes.

    Raises:
        CohortError: Nothing is called so.
    """
    if not isinstance(spec.source, TabularSource):
        return spec
    given, columns = spec.source.columns, list(map(str, table.columns))
    known = set(columns)
    patterns = [name for name in given if name not in known and ("*" in name or "?" in name)]
    if not patterns and all(about.kind != "auto" for about in given.values()):
        return spec
    taken = {name for name in given if name not in patterns}
    written: dict[str, Column] = {}
    for name, about in given.items():
        if name not in patterns:
            written[name] = about
            continue
        found = [
            one
            for one in columns
            if one not in taken and one not in reserved and _matches(one, name)
        ]
        if not found:
            raise CohortError(
                f"no column is called as '{name}'{nearest(name.strip('*?'), columns)}",
                where=f"modalities.{spec.name}.columns",
                mend="correct the pattern in cohort.yaml; `*` stands for any letters",
            )
        taken.update(found)
        written |= dict.fromkeys(found, about)
    written = {
        name: about.of_kind("category" if name in known and _is_words(table[name]) else "number")
        for name, about in written.items()
    }
    return replace(spec, source=spec.source.model_copy(update={"columns": written}))


def _is_words(cells: pd.Series) -> bool:
    """Whether there are cells, and none of them can be read as a number."""
    if pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_bool_dtype(cells):
        return False
    known = [one for one in cells.dropna().unique() if not read_cell(one, "number")[1]]
    numbers = any(read_cell(one, "number")[0] is not None for one in cells.dropna().unique())
    return bool(known) and not numbers


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))
