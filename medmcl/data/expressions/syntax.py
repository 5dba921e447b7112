"""The text of a column expression: back quotes, parsing, and the columns it names."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.modalities.tabular.gap_codes import NO_VALUE

_CURLY = "\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u00b4"
_KEYWORDS = ("and", "or", "not", "in", "is", "if", "else", "True", "False", "None")


@dataclass(frozen=True)
class Mistake:
    """A mistake: what it is, and how to fix it."""

    what: str
    fix: str


_SIGNS: tuple[tuple[str, str], ...] = (
    (r"&&", "and"),
    (r"\|\|", "or"),
    (r"!==", "!="),
    (r"===", "=="),
    (r"<>|=!|≠|~=", "!="),
    (r"=>|≥", ">="),
    (r"=<|≤", "<="),
    (r"!(?!=)", "not"),
    (r";", "and, or"),
    (r"(?<![=<>!:])=(?!=)", "=="),
)
"""A sign that is not known, and what is written instead."""


def find_mistake(text: str, columns: Iterable[str]) -> Mistake | None:
    """Give the first mistake in a text that is no expression, or None if it is not a known one."""
    bare, open_quote = _without_quoted(text)
    curly = re.search(f"[{_CURLY}]", bare)
    if curly:
        what = f"{curly[0]} is not a straight quote{_at(curly.start())}"
        return Mistake(what, "write straight quotes: 'word'")
    if open_quote is not None:
        quote = text[open_quote]
        what = f"the quote {quote} is not closed{_at(open_quote)}"
        return Mistake(what, f"close it with the same sign: {quote}word{quote}")
    known = list(columns)
    looks = (odd_column(text, known), _sign(bare), _words(bare, known))
    found = next((one for one in looks if one is not None), None)
    return found or _brackets(bare) or _end(bare) or _neighbours(text, bare)


def odd_column(text: str, columns: Iterable[str]) -> Mistake | None:
    """Find a column whose name is no plain word and that stands without back quotes."""
    bare, _ = _without_quoted(text)
    for name in sorted(columns, key=len, reverse=True):
        if name.isidentifier() or not re.search(r"[^\W\d_]", name):
            continue
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", bare, re.IGNORECASE):
            return Mistake(
                f"the name of the column '{name}' is no plain word",
                f"put it between back quotes: `{name}`",
            )
    return None


_OPENING = re.compile(r"[(\[{]")


def nesting(text: str) -> int:
    """Give how many brackets stand within one another, at most."""
    depth = deepest = 0
    for letter in _without_quoted(text)[0]:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _at(position: int) -> str:
    return f" (character {position + 1})"


def _without_quoted(text: str) -> tuple[str, int | None]:
    """Blank out what stands in quotes, keeping every position; also where an open quote stands."""
    letters = list(text)
    for start, end in _quoted(text):
        if end is None:
            return "".join(letters), start
        letters[start:end] = "\0" * (end - start)
    return "".join(letters), None


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


def _sign(bare: str) -> Mistake | None:
    found = [(m.start(), m[0], right) for sign, right in _SIGNS for m in re.finditer(sign, bare)]
    if not found:
        return None
    position, sign, right = min(found, key=lambda one: (one[0], -len(one[1])))
    if sign == "=":
        return Mistake(f"a single '=' compares nothing{_at(position)}", "use == to compare")
    return Mistake(f"'{sign}' is not known{_at(position)}", f"write {right}")


def _words(bare: str, columns: list[str]) -> Mistake | None:
    """Words of other languages: SQL, R."""
    null = re.search(r"(\w+)\s+(is)\s+(not\s+)?(\w+)", bare, re.IGNORECASE)
    if null and null[4].lower() in NO_VALUE:
        function = "notnull" if null[3] else "isnull"
        what = f"'{null[2]}' is not known{_at(null.start(2))}"
        return Mistake(what, f"write {function}({null[1]})")
    for word, fix in (
        ("between", "write low <= column and column <= high"),
        ("like", "write contains(column, 'part')"),
    ):
        found = re.search(rf"\b{word}\b", bare, re.IGNORECASE)
        if found and found[0] not in columns:
            return Mistake(f"'{found[0]}' is not known{_at(found.start())}", fix)
    found = re.search(r"\b(?:AND|OR|NOT|IN|And|Or|Not|In)\b", bare)
    if found and found[0] not in columns:
        what = f"'{found[0]}' is not known{_at(found.start())}"
        return Mistake(what, f"write it small: {found[0].lower()}")
    zeros = re.search(r"(?<![\w.])0\d+\b(?!\.)", bare)
    if zeros:
        what = f"{zeros[0]} is a number with a zero in front{_at(zeros.start())}"
        return Mistake(what, f"put a code in quotes: '{zeros[0]}'")
    return None


def _brackets(bare: str) -> Mistake | None:
    closing = {")": "(", "]": "[", "}": "{"}
    opened: list[tuple[str, int]] = []
    for position, letter in enumerate(bare):
        if letter in closing.values():
            opened.append((letter, position))
        elif letter in closing and (not opened or opened.pop()[0] != closing[letter]):
            what = f"'{letter}' closes nothing{_at(position)}"
            return Mistake(what, f"take it out, or open it with '{closing[letter]}'")
    if not opened:
        return None
    letter, position = opened[-1]
    wanted = next(right for right, left in closing.items() if left == letter)
    return Mistake(f"'{letter}' is not closed{_at(position)}", f"close it with '{wanted}'")


def _end(bare: str) -> Mistake | None:
    last = re.search(r"(and|or|not|in|[-+*/%<>=!,])\s*$", bare)
    if not last or (last[1].isalpha() and not re.search(r"\b\w+\s*$", bare)):
        return None
    return Mistake(
        f"nothing stands after '{last[1]}' at the end", "complete the expression, or take it out"
    )


def _neighbours(text: str, bare: str) -> Mistake | None:
    """Two words side by side: a text without quotes, or a name with a space in it."""
    for found in re.finditer(r"([^\W\d]\w*)\s+(?=([^\W\d]\w*))", bare):
        if found[1] in _KEYWORDS or found[2] in _KEYWORDS:
            continue
        both = text[found.start(1) : found.end(2)]
        return Mistake(
            f"'{found[1]}' and '{found[2]}' stand side by side{_at(found.start())}",
            f"put words in quotes: '{both}'; a column with a space between back quotes: `{both}`",
        )
    return None


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
        ExpressionError: It is empty, too long, nested too deeply, or no expression; says what was
            probably meant.
    """
    if not isinstance(text, str) or not text.strip():
        raise ExpressionError(
            "an expression must be a text", where=where or None, got=repr(text)[:80]
        )
    depth, too_much = nesting(text) if _OPENING.search(text) else 0, ""
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
            return ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        found = find_mistake(text, map(str, columns))
        why = found.what if found else getattr(error, "msg", None) or error
        fix = found.fix if found else f"write only {FORMS}"
    raise ExpressionError(
        f"is not an expression: {why}", where=where or None, got=text[:_SHOWN], fix=fix
    )


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


def names_in(text: str) -> set[str]:
    """Give every name that an expression may take a column or map from; of any table."""
    try:
        tree = parse_expression(text, "")
    except ExpressionError:
        return {text}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    plain = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}
    quoted = {n.args[0].value for n in ast.walk(tree) if is_col(n)}  # type: ignore[attr-defined]  # by is_col
    return {text, *plain, *quoted}


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
