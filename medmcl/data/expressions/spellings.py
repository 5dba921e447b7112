"""Cells that an expression takes for another word, though it is the same: 'Yes' for 'yes'."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from medmcl.core.findings import first_of
from medmcl.data.expressions.syntax import columns_of, parse_expression
from medmcl.data.tables.repeated_words import is_repeated


def other_spellings(text: str, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Give cells that differ by capitals or spaces alone from a word that an expression asks for.

    Of a column alone, as of classes: from one another. Of ``lower(...)`` nothing is told.

    Args:
        text: The expression.
        table: What it is asked of.

    Yields:
        Of each such column what is odd, and how to fix it.
    """
    words = set[str]()
    if text not in table.columns:
        parts = list(ast.walk(parse_expression(text, "", table.columns)))
        if any(isinstance(one, ast.Name) and one.id == "lower" for one in parts):
            return
        given = {one.value for one in parts if isinstance(one, ast.Constant)}
        words = {one for one in given if isinstance(one, str)} - {*table.columns}
        if not words:
            return
    for column in columns_of(text, table.columns):
        cells: dict[str, int] = {}
        if table[column].dtype == object or is_repeated(table[column]):
            held = pd.Series(table[column].to_numpy(object)).value_counts()
            cells = {one: n for one, n in held.items() if isinstance(one, str)}
        keys = {one: " ".join(one.casefold().split()) for one in (*words, *cells)}
        same = Counter(keys[one] for one in words or cells)
        odd = [one for one in cells if same[keys[one]] > (not words) and one not in words]
        if odd:
            some = first_of(f"{one!r} ({cells[one]:,})" for one in odd)
            what = f"'{column}' also holds {some}, which `{text}` takes for another value"
            if text == column:
                what = f"'{column}' holds {some}, which are taken as {len(odd)} values"
            fix = f"spell them alike in the table, or by derive: {{{column}: lower({column})}}"
            yield what, fix
