"""Columns of a table modality that are named alone: by pattern (``gene_*``), and of which kind."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import pandas as pd

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError
from medmcl.core.findings import counted, first_of
from medmcl.data.cohort.spec import ModalitySpec
from medmcl.data.tables.files import first_with_comma
from medmcl.modalities.tabular.adapter import read_cell
from medmcl.modalities.tabular.settings import Column, TabularSource

LOOKED_AT, NEARLY_ALL = 1_000, 0.9
"""Cells that are looked at for dates, and the share that must be some."""
_DAY = r"\s*(\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4})(\D|$)"


def write_out(spec: ModalitySpec, table: pd.DataFrame, reserved: Collection[str]) -> ModalitySpec:
    """Give a modality whose columns are written out, each with its kind, in the order of the table.

    A column that is named alone is a category if no cell of it can be read as a number, as of
    words; otherwise it is a number, and cells that are none are faults.

    Neither is taken of one whose cells are mostly numbers with commas: 18,85 is no word; nor of one
    of dates, which no pattern takes.

    One that the table lacks, as where two rows of a subject differ in it, stays ``auto``.

    A column that is named itself, or stands under an earlier pattern, is not taken again. Only
    ``*`` and ``?`` are signs of a pattern; a column that is called so itself is that column.

    Args:
        spec: The modality; other kinds than tables pass.
        table: Its table.
        reserved: Columns that no pattern takes: ids, dates, the split, outcomes.

    Raises:
        CohortError: Nothing is called so, or a column named alone has numbers with commas.
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
            if one not in taken
            and one not in reserved
            and fnmatchcase(one, name.replace("[", "[[]"))
            and not is_dates(table[one])
        ]
        if not found:
            raise CohortError(
                f"no column is called as '{name}'{nearest(name.strip('*?'), columns)}",
                where=f"modalities.{spec.name}.columns",
                fix="correct the pattern in cohort.yaml; `*` stands for any letters",
            )
        taken.update(found)
        written |= dict.fromkeys(found, about)
    unsaid = [name for name, one in written.items() if one.kind == "auto"]
    _refuse_commas(spec.name, table, unsaid)
    _refuse_dates(spec.name, [n for n in unsaid if n in known and is_dates(table[n])])
    written = {
        name: about.of_kind("category" if _is_words(table[name]) else "number")
        if name in known
        else about
        for name, about in written.items()
    }
    return replace(spec, source=spec.source.model_copy(update={"columns": written}))


def _refuse_commas(modality: str, table: pd.DataFrame, names: Collection[str]) -> None:
    known = [name for name in names if name in table.columns and not _is_numeric(table[name])]
    examples = {name: first_with_comma(table[name]) for name in known}
    found = {name: cell for name, cell in examples.items() if cell is not None}
    if not found:
        return
    name = next(iter(found))
    raise CohortError(
        f"{counted(len(found), 'column')} of numbers that have a comma, which stands for a decimal "
        "point, or parts thousands",
        where=f"modalities.{modality}.columns",
        got=first_of(f"'{cell}' in {one}" for one, cell in found.items()),
        expected="numbers with a point, 18.85",
        fix="write points into the table, or save it with semicolons between its cells, where "
        f"18,85 is read as a number; if these are words, say so: {name}: category under columns:, "
        "and auto for others",
    )


def _refuse_dates(modality: str, names: Sequence[str]) -> None:
    if names:
        raise CohortError(
            f"{counted(len(names), 'column')} of dates: no model takes a day for a number, and as "
            "a category nobody later has one that training had",
            where=f"modalities.{modality}.columns",
            got=first_of(names),
            fix="take them out, or put what is meant into the table, such as years of age; if "
            f"these are few groups, say so: {names[0]}: category under columns:",
        )


def is_dates(cells: pd.Series) -> bool:
    """Whether there are cells, and nearly all of them begin with a day: 2019-03-31."""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return True
    if _is_numeric(cells):
        return False
    known = cells.dropna().head(LOOKED_AT).astype(str)
    return bool(len(known)) and bool(known.str.match(_DAY).mean() > NEARLY_ALL)


def _is_numeric(cells: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(cells) or pd.api.types.is_bool_dtype(cells)


def _is_words(cells: pd.Series) -> bool:
    """Whether there are cells, and none of them can be read as a number."""
    if _is_numeric(cells):
        return False
    known = [one for one in cells.dropna().unique() if not read_cell(one, "number")[1]]
    numbers = any(read_cell(one, "number")[0] is not None for one in cells.dropna().unique())
    return bool(known) and not numbers
