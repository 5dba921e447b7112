"""The text of a column expression: back quotes, parsing, and the columns it names."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import accumulate

import pandas as pd

from medmcl.core.errors import CohortError

_INSTEAD = {
    r"&&": "and",
    r"\|\|": "or",
    r"<>|=!|≠": "!=",
    r"!(?!=)": "not",
    r"=>|≥": ">=",
    r"=<|≤": "<=",
    r"(?<![=<>!])=(?!=)": "==",
    r"%in%": "in",
    r"\bc\(": "['a', 'b']",
    r"(?i:\bis\s+null\b)": "isnull(column)",
    r"(?i:\bis\s+not\s+null\b)": "notnull(column)",
    r"\bAND\b": "and",
    r"\bOR\b": "or",
    r"\bNOT\b": "not",
    r"\bIN\b": "in",
    r"(?<![\w.])0\d+\b(?!\.)": "'007' (a code, in quotes)",
    r"[\u2018-\u201e\xab\xbb\xb4]": "a straight quote",
}
"""What SQL, R or a word processor writes, and what is written here."""
_SIGN = re.compile("|".join(f"({sign})" for sign in _INSTEAD))


def odd_column(text: str, columns: Iterable[str]) -> tuple[str, str] | None:
    """Find a column whose name is no plain word and that stands without back quotes.

    Returns:
        What is wrong, and how to fix it.
    """
    bare = _without_quoted(text)
    for name in sorted(columns, key=len, reverse=True):
        if name.isidentifier() or not re.search(r"[^\W\d_]", name):
            continue
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", bare, re.IGNORECASE):
            return (
                f"the name of the column '{name}' is no plain word",
                f"put it between back quotes: `{name}`",
            )
    return None


def _without_quoted(text: str) -> str:
    """Blank out what stands in quotes, keeping every position."""
    letters = list(text)
    for start, end in _quoted(text):
        letters[start:end] = "\0" * (len(text[:end]) - start)
    return "".join(letters)


def _quoted(text: str) -> Iterator[tuple[int, int | None]]:
    """Where what stands in quotes begins, and where it has ended; None: it never does."""
    quote, start = "", 0
    for position, letter in enumerate(text):
        if quote == "":
            if letter in "\"'`":
                quote, start = letter, position
        elif letter == quote and (quote == "`" or text[position - 1] != "\\"):
            yield start, position + 1
            quote = ""
    if quote:
        yield start, None


_LONGEST = 4000
_DEEPEST = 60
_SHOWN = 200
FORMS = (
    "comparisons, and/or/not, + - * / // % **, in, isin, isnull, notnull, nullif, recode, lower, "
    'contains, startswith, abs, log, min, max, map[column], col("name")'
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
        ExpressionError: It is empty, too long, nested too deeply, or no expression.
    """
    if not isinstance(text, str) or not text.strip():
        raise ExpressionError(
            "an expression must be a text", where=where or None, got=repr(text)[:80]
        )
    steps = ((sign in "([{") - (sign in ")]}") for sign in _without_quoted(text))
    depth, too_much = max(accumulate(steps)), ""
    if depth > _DEEPEST:
        too_much = f"brackets are nested too deeply: {depth:,} levels, at most {_DEEPEST}"
    elif len(text) > _LONGEST:
        too_much = f"the expression is too long: {len(text):,} characters, at most {_LONGEST:,}"
    if too_much:
        raise ExpressionError(
            too_much,
            where=where or None,
            got=f"{text[:60]}…",
            fix="write it shorter, or compute the column in the table",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Turn back-quoted names into ``col("...")``; back quotes inside a text stay
            parts, done = "", 0
            for start, end in _quoted(text):
                if text[start] == "`" and end is not None:
                    parts += f"{text[done:start]}col({json.dumps(text[start + 1 : end - 1])})"
                    done = end
            plain = (parts + text[done:]).replace("\n", " ").strip()
            return _Columns().visit(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        what, fix = _told(error, text, map(str, columns))
    raise ExpressionError(
        f"is not an expression: {what}", where=where or None, got=text[:_SHOWN], fix=fix
    )


def _told(error: Exception, text: str, columns: Iterable[str]) -> tuple[str, str]:
    """Say what Python says of a text and from where on, and what to write for signs of others."""
    odd = odd_column(text, columns)
    if odd is not None:
        return odd
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    if isinstance(error, SyntaxError):
        place = error.offset or 0  # from 1 on; 0: the end
        rest = (error.text or "")[place - 1 :].strip() if place else ""
        what = f"{error.msg}, at {rest[:30]!r}" if rest else f"{error.msg}, at its end"
    found = {m[0]: list(_INSTEAD.values())[m.lastindex - 1]  # type: ignore[operator]  # a group each
             for m in _SIGN.finditer(_without_quoted(text))}  # fmt: skip
    write = ", ".join(f"{new} for {sign}" for sign, new in found.items())
    return what, f"write {write}; known are {FORMS}" if write else f"write only {FORMS}"


class _Columns(ast.NodeTransformer):
    """Makes ``col("name")`` the name of a column, as a plain word is one."""

    def visit_Call(self, node: ast.Call) -> ast.AST:  # named by ast
        """Give the name in the place of the call."""
        match self.generic_visit(node):
            case ast.Call(ast.Name("col"), [ast.Constant(str(name))], []):
                return ast.Name(name, ast.Load())
        return node


def columns_of(text: str, known: pd.Index, where: str = "") -> list[str]:
    """Give the columns that an expression reads, each once."""
    if text in known:
        return [text]
    nodes = list(ast.walk(parse_expression(text, where, known)))
    maps = {id(node.value) for node in nodes if isinstance(node, ast.Subscript)}
    names = [node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in maps]
    return list(dict.fromkeys(name for name in names if name in known))


def names_in(text: str) -> set[str]:
    """Give every name that an expression may take a column or map from; of any table."""
    try:
        nodes = list(ast.walk(parse_expression(text, "")))
    except ExpressionError:
        return {text}
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {text, *(n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in called)}


def words_compared_with(tree: ast.expr, columns: Iterable[str]) -> set[str]:
    """Give the names that stand where a value does: equal to a column, or listed for one.

    ``sex == F``, ``stage in [II, III]``, ``isin(stage, II)``: F, II and III were probably meant as
    texts. In ``has_cmr == 1`` the name is a column, whether the table has it or not.
    """
    known, found = set(columns), set[str]()
    for node in ast.walk(tree):
        sides = _equated(node)
        inner = [one for side in sides for one in ast.walk(side) if isinstance(one, ast.Name)]
        if any(one.id in known for one in inner):
            found |= {one.id for one in sides if isinstance(one, ast.Name)} - known
    return found


LISTS = (ast.List, ast.Tuple, ast.Set)
_EQUATING = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


def _equated(node: ast.AST) -> list[ast.expr]:
    """What a comparison, or a function of several arguments, asks to be the same; lists opened."""
    sides: list[ast.expr] = []
    if isinstance(node, ast.Compare) and all(isinstance(sign, _EQUATING) for sign in node.ops):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.Call):
        sides = node.args
    return [one for side in sides for one in (side.elts if isinstance(side, LISTS) else [side])]
