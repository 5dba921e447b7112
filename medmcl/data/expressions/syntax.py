"""The text of a column expression: back quotes, parsing, and the columns it names."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Iterable

import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.data.expressions.hints import find_mistake, nesting

_LONGEST = 4000
_DEEPEST = 60
_SHOWN = 200
FORMS = (
    "comparisons, and/or/not, + - * / // % **, in, isin, isnull, notnull, nullif, lower, contains, "
    'startswith, abs, log, min, max, map[column], col("name")'
)


class ExpressionError(CohortError):
    """An expression that cannot be understood."""


def parse_expression(text: str, where: str, columns: Iterable[object] = ()) -> ast.expr:
    """Parse the text of an expression; whether its forms are known is seen at evaluation.

    Args:
        text: The expression.
        where: What messages call its place.
        columns: Columns of its table, to tell a name with a space from a mistake.

    Raises:
        ExpressionError: It is empty, too long, nested too deeply, or no expression; says what was
            probably meant.
    """
    if not isinstance(text, str) or not text.strip():
        raise ExpressionError(
            "an expression must be a text", where=where or None, got=repr(text)[:80]
        )
    too_much = _too_much(text)
    if too_much is not None:
        raise ExpressionError(
            too_much,
            where=where or None,
            got=f"{text[:60]}…",
            fix="write it shorter, or compute the column in the table",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = _unquote(text).replace("\n", " ").strip()
            return ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        found = find_mistake(text, map(str, columns))
        why = found.what if found else getattr(error, "msg", None) or error
        fix = found.fix if found else f"write only {FORMS}"
    raise ExpressionError(
        f"is not an expression: {why}", where=where or None, got=text[:_SHOWN], fix=fix
    )


def _too_much(text: str) -> str | None:
    depth = nesting(text)
    if depth > _DEEPEST:
        return f"brackets are nested too deeply: {depth:,} levels, at most {_DEEPEST}"
    if len(text) > _LONGEST:
        return f"the expression is too long: {len(text):,} characters, at most {_LONGEST:,}"
    return None


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
    tree = parse_expression(text, where, known)
    outer = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in outer and node.id in known:
            found.append(node.id)
        elif is_col(node):
            found.append(node.args[0].value)  # type: ignore[attr-defined]  # checked by is_col
    return list(dict.fromkeys(found))


def words_compared_with(tree: ast.expr, columns: Iterable[str]) -> set[str]:
    """Give the names that stand where a value does: equal to a column, or listed for one.

    ``sex == F``, ``stage in [II, III]``, ``isin(stage, II)``: F, II and III were probably meant as
    texts. In ``has_cmr == 1`` the name is a column, whether the table has it or not.
    """
    known, found = set(columns), set[str]()
    for node in ast.walk(tree):
        sides = _equated(node)
        if any(one in known for side in sides for one in _names(side)):
            found |= {side.id for side in sides if isinstance(side, ast.Name)} - known
    return found


_EQUATING = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def _equated(node: ast.AST) -> list[ast.expr]:
    """What a comparison, or a function of several arguments, asks to be the same; lists opened."""
    sides: list[ast.expr] = []
    if isinstance(node, ast.Compare) and all(isinstance(sign, _EQUATING) for sign in node.ops):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.Call):
        sides = node.args
    lists = (ast.List, ast.Tuple, ast.Set)
    return [one for side in sides for one in (side.elts if isinstance(side, lists) else [side])]


def _names(node: ast.AST) -> list[str]:
    inner = list(ast.walk(node))
    quoted = [one.args[0].value for one in inner if isinstance(one, ast.Call) and is_col(one)]  # type: ignore[attr-defined]  # checked by is_col
    return [*(one.id for one in inner if isinstance(one, ast.Name)), *quoted]
