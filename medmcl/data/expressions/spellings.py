"""Cells that an expression takes for another word, though it is the same: 'Yes' for 'yes'."""

from __future__ import annotations

import ast
from collections import Counter

import pandas as pd

from medmcl.data.expressions.syntax import columns_of, parse_expression


def other_spellings(text: str, table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Give cells that differ by capitals or spaces alone from a word that an expression asks for.

    Of a column alone, as of classes: from one another. Of ``lower(...)`` nothing is told.

    Args:
        text: The expression.
        table: What it is asked of.

    Returns:
        Column to its cells, each with the number of rows.
    """
    words = set[str]()
    if text not in table.columns:
        parts = list(ast.walk(parse_expression(text, "", table.columns)))
        if any(isinstance(one, ast.Name) and one.id == "lower" for one in parts):
            return {}
        given = {one.value for one in parts if isinstance(one, ast.Constant)}
        words = {one for one in given if isinstance(one, str)} - {*table.columns}
        if not words:
            return {}
    found = {}
    for column in columns_of(text, table.columns):
        texts = (one for one in table[column].dropna() if isinstance(one, str))
        cells = Counter(texts) if table[column].dtype == object else Counter[str]()
        same = Counter(map(_key, words or cells))
        odd = [one for one in cells if same[_key(one)] > (not words) and one not in words]
        if odd:
            found[column] = {one: cells[one] for one in odd}
    return found


def _key(cell: str) -> str:
    return " ".join(cell.casefold().split())
