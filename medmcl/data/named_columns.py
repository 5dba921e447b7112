"""Columns of a table modality by pattern: ``gene_*`` stands for every column that is called so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError
from medmcl.data.spec import ModalitySpec
from medmcl.modalities.tabular import Column, TabularSource


def write_out(
    spec: ModalitySpec, columns: Sequence[str], reserved: Collection[str]
) -> ModalitySpec:
    """Give a modality whose patterns of columns are written out, in the order of the table.

    A column that is named itself, or stands under an earlier pattern, is not taken again. Only
    ``*`` and ``?`` are signs of a pattern; a column that is called so itself is that column.

    Args:
        spec: The modality; other kinds than tables pass.
        columns: Columns of its table.
        reserved: Columns that no pattern takes: ids, dates, the split, outcomes.

    Raises:
        CohortError: Nothing is called so.
    """
    if not isinstance(spec.source, TabularSource):
        return spec
    given = spec.source.columns
    known = set(columns)
    patterns = [name for name in given if name not in known and ("*" in name or "?" in name)]
    if not patterns:
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
    return replace(spec, source=spec.source.model_copy(update={"columns": written}))


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))
