"""What people write in an expression by mistake, and what they meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

NO_VALUE = frozenset({"null", "na", "nan", "none", "nil", "missing", "empty"})
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
    quote, start = "", 0
    for position, letter in enumerate(text):
        if quote == "":
            if letter in "\"'`":
                quote, start = letter, position
        elif letter == quote and (quote == "`" or text[position - 1] != "\\"):
            letters[start : position + 1] = "\0" * (position + 1 - start)
            quote = ""
    return "".join(letters), start if quote else None


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
