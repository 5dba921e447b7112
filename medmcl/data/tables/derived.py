"""Columns that are made of others: ``derive:`` of a cohort.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning, counted
from medmcl.data.expressions.expression import column_values, evaluate
from medmcl.data.expressions.syntax import columns_of, names_in
from medmcl.data.tables.files import Table


def derived(
    table: Table,
    columns: Mapping[str, str],
    lacking: dict[str, CohortError | None],
    findings: list[Finding],
) -> Table:
    """Add columns to a table that has what they read.

    Args:
        table: Its rows.
        columns: Name to expression; one may read those before it, or the column that it replaces.
        lacking: Name to why no table had its columns, None where one had; added to.
        findings: What there is to say of cells; added to.

    Raises:
        CohortError: An expression cannot be evaluated, or a column of its name is there that it
            does not read.
    """
    for name, text in columns.items():
        where = f"derive.{name}, table {table.where}"
        try:
            values = evaluate(text, table.frame, where=where)
        except CohortError as error:
            if "no column" not in error.what:
                raise
            lacking.setdefault(name, error)
            continue
        lacking[name] = None
        reads = columns_of(text, table.frame.columns, where)
        if name in table.frame.columns and name not in reads:
            raise CohortError(
                f"the table has a column '{name}' already",
                where=where,
                fix="call the new one otherwise; one that is made of the old may have its name",
            )
        if values.kind == "codes":
            raise CohortError(
                f"'{name}' would be a set of codes", where=where, fix="write map[...] in a task"
            )
        whole = np.all([column_values(table.frame, one).known for one in reads], axis=0)
        lost = int((whole & ~values.known).sum())
        if lost:
            finding = cohort_warning(
                "cohort.derived",
                where,
                f"{counted(lost, 'row')} without a value, though all that it reads is there",
                "nothing, if nullif is meant to; otherwise a number was divided by zero, or has "
                "no logarithm",
            )
            findings += [finding] * (finding not in findings)  # several may read the table
        cells = values.data.astype(object if values.kind == "text" else np.float64)
        cells[~values.known] = None  # of numbers: NaN
        table = replace(table, frame=table.frame.assign(**{name: cells}))
    return table


def told_through(columns: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """Give the columns that tell what some columns do: made of them, or what these are made of.

    Args:
        columns: Name to expression of the columns that are made of others.
        names: Columns that a task is made of.
    """
    reads = {name: names_in(text) for name, text in columns.items()}

    def with_sources(found: set[str]) -> set[str]:
        todo = [*found]
        while todo:
            more = reads.get(todo.pop(), set()) - found
            found |= more
            todo += more
        return found

    told = with_sources(set(names))
    return told | {name for name in reads if with_sources({name}) & told}
