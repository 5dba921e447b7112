"""The text of a column expression: back quotes, parsing, and the columns it names."""

from __future__ import annotations

import ast
import json
import warnings

import pandas as pd

from medmcl.core.errors import CohortError

_LONGEST = 4000
FORMS = (
    "comparisons, and/or/not, + - * / // % **, in, isin, isnull, notnull, lower, contains, abs, "
    'log, map[column], col("name")'
)


def parse_expression(text: str, where: str) -> ast.expr:
    """Parse the text of an expression; whether its forms are known is seen at evaluation.

    Raises:
        CohortError: It is empty, too long, or no expression.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        raise CohortError("an expression must be a text", where=where or None, got=repr(text)[:80])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(_unquote(text).strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise CohortError(
            f"is not an expression: {getattr(error, 'msg', None) or error}",
            where=where or None,
            got=text,
            expected=FORMS,
            mend="put a column whose name is no plain word between back quotes",
        ) from None
    return tree


def _unquote(text: str) -> str:
    """Turn back-quoted names into ``col("...")``; back quotes inside a text stay."""
    parts: list[str] = []
    quote, start = "", 0
    for position, letter in enumerate(text):
        if quote == "":
            if letter in "\"'`":
                parts.append(text[start:position])
                quote, start = letter, position
        elif letter == quote and (quote == "`" or text[position - 1] != "\\"):
            inside = text[start : position + 1]
            parts.append(f"col({json.dumps(inside[1:-1])})" if quote == "`" else inside)
            quote, start = "", position + 1
    return "".join(parts) + text[start:]


def is_col(node: ast.AST) -> bool:
    """Whether a node is ``col("name")``."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "col"
        and len(node.args) == 1
        and not node.keywords
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    )


def columns_of(text: str, known: pd.Index, where: str = "") -> list[str]:
    """Give the columns that an expression reads, each once."""
    if text in known:
        return [text]
    found: list[str] = []
    tree = parse_expression(text, where)
    outer = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in outer and node.id in known:
            found.append(node.id)
        elif is_col(node):
            found.append(node.args[0].value)  # type: ignore[attr-defined]  # checked by is_col
    return list(dict.fromkeys(found))
