"""Column expressions: what a label or a presence is, in terms of table columns. Nothing is run.

``CDR > 0``, ``'NORM' in scp[scp_codes]``, ``isin(Group, 'DCM', 'HCM') and not isnull(age)``. A
column whose name is no plain word is written with back quotes or as ``col("EF (LV)")``. Text is
parsed with `ast` and interpreted; only the forms below are known, everything else is refused.

Logic is three-valued: comparing with a missing cell gives *unknown*, never False;
``unknown and False`` is False, ``unknown or True`` is True. A number that is not finite (a
division by zero, the logarithm of zero) is unknown.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from typing import Any, Literal

import numpy as np
import pandas as pd

from medmcl.core.config import closest
from medmcl.core.errors import CohortError
from medmcl.core.findings import first_of
from medmcl.data.cohort.codes import CodeMap, parse_codes
from medmcl.data.expressions.syntax import (
    FORMS,
    LISTS,
    ExpressionError,
    odd_column,
    parse_expression,
    words_compared_with,
)
from medmcl.data.tables.files import as_text, missing_column, texts
from medmcl.data.tables.odd_cells import correct, meant_as_one, odd_cells, told
from medmcl.modalities.tabular.gap_codes import NO_VALUE, said_missing

Kind = Literal["number", "text", "truth", "codes"]
_DEEPEST = 60
_SHOWN = 5

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Values:
    """The value of an expression for each row.

    Attributes:
        data: (N,) float64, object (text or frozenset of codes) or bool.
        known: (N,) bool.
        kind: What ``data`` holds.
        name: The column or text it came from, for messages.
    """

    data: np.ndarray
    known: np.ndarray
    kind: Kind
    name: str


def evaluate(
    text: str,
    frame: pd.DataFrame,
    maps: Mapping[str, CodeMap] | None = None,
    where: str = "",
    row_name: Callable[[int], str] | None = None,
) -> Values:
    """Give the value of ``text`` for each row of ``frame``.

    A text that is exactly the name of a column is that column, whatever letters it has. Messages
    call a row by ``row_name``, by its number if not given.

    Raises:
        ExpressionError: No expression, a form that is not known, or kinds that cannot be compared.
        CohortError: A column that does not exist (with its nearest neighbour).
    """
    if text in frame.columns:
        return column_values(frame, text)
    columns = [str(name) for name in frame.columns]
    try:
        tree = parse_expression(text, where, columns)
        return _Evaluation(frame, maps or {}, text, where or None, tree, row_name).of(tree)
    except CohortError as error:
        odd = odd_column(text, columns) if isinstance(text, str) else None
        if odd is None:
            raise
        raise ExpressionError(odd[0], where=error.where, got=text, fix=odd[1]) from None


def column_values(frame: pd.DataFrame, name: str) -> Values:
    """Give a column as values."""
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise CohortError(f"two columns are named '{name}'")
    if pd.api.types.is_bool_dtype(column):
        known = column.notna().to_numpy()
        return Values(column.fillna(False).to_numpy(bool), known, "truth", name)
    if pd.api.types.is_numeric_dtype(column):
        return _finite(column.to_numpy(np.float64, na_value=np.nan), name)
    data = texts(column)
    return Values(data, np.array([cell is not None for cell in data], bool), "text", name)


def _finite(data: np.ndarray, name: str, known: np.ndarray | None = None) -> Values:
    finite = np.isfinite(data) if known is None else np.isfinite(data) & known
    return Values(np.where(finite, data, 0.0), finite, "number", name)


@dataclass
class _Evaluation:
    """One expression over one frame; a method for each form that is known."""

    frame: pd.DataFrame
    maps: Mapping[str, CodeMap]
    text: str
    where: str | None
    tree: ast.expr
    row_name: Callable[[int], str] | None
    depth: int = 0

    def of(self, node: ast.expr) -> Values:
        """Give the value of one node."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            comma = isinstance(node, ast.Tuple) and re.search(r"(\d),(\d)", self.text)
            fix = f"write a decimal point: {comma[1]}.{comma[2]}" if comma else None
            raise self._refuse(f"'{ast.unparse(node)[:60]}' is not a form that is known", fix)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._refuse("the expression is nested too deeply")
        result: Values = method(node)
        self.depth -= 1
        return result

    def _refuse(self, what: str, fix: str | None = None) -> ExpressionError:
        fix = fix or f"write only {FORMS}"
        return ExpressionError(what, where=self.where, got=self.text[:200], fix=fix)

    def _constant(self, node: ast.Constant) -> Values:
        value, rows = node.value, len(self.frame)
        if isinstance(value, (bool, str)):
            kind: Kind = "truth" if isinstance(value, bool) else "text"
            data = np.full(rows, value, dtype=bool if kind == "truth" else object)
            return Values(data, np.ones(rows, bool), kind, repr(value))
        if isinstance(value, (int, float)):
            try:
                return _finite(np.full(rows, float(value)), str(value)[:40])
            except OverflowError:
                raise self._refuse("a number is too large") from None
        fix = "write isnull(column) or notnull(column)" if value is None else None
        raise self._refuse(f"'{ast.unparse(node)[:60]}' cannot be compared", fix)

    def _name(self, node: ast.Name) -> Values:
        name = node.id
        if name in self.frame.columns:
            return column_values(self.frame, name)
        if name in self.maps:
            raise self._refuse(f"'{name}' is a map", f"write {name}[column]")
        raise self._no_column(name)

    def _no_column(self, name: str) -> CohortError:
        """Say that a word is no column: a text without quotes, a missing value, or misspelt."""
        if name.lower() in NO_VALUE:
            return self._refuse(f"'{name}' is not known", "write isnull(column), notnull(column)")
        if name.lower() in ("true", "false"):
            return self._refuse(f"'{name}' is not known", f"write {name.capitalize()}")
        columns = [str(column) for column in self.frame.columns]
        missing = missing_column(name, columns, self.where or "")
        near, alone = closest(name, columns), self.text.strip("` ") == name
        if name in words_compared_with(self.tree, columns):
            column = f"write the column {near!r}; or " if near else ""
            fix = f"{column}put words in quotes: {name!r}"
        else:
            wanted = f"write the column {near!r} if that is meant" if near else "correct the name"
            fix = f"{wanted}; or add '{name}' to the table, or take out what reads it"
        return CohortError(
            missing.what, where=self.where, got=None if alone else self.text[:200], fix=fix
        )

    def _subscript(self, node: ast.Subscript) -> Values:
        if not isinstance(node.value, ast.Name) or node.value.id not in self.maps:
            known = ", ".join(self.maps) or "none are defined under maps:"
            raise self._refuse(f"'{ast.unparse(node.value)[:60]}' is not a map (known: {known})")
        mapping, cells = self.maps[node.value.id], self.of(node.slice)
        return self._codes(cells, mapping.of)

    def _codes(self, cells: Values, read: Callable[[str], frozenset[str]]) -> Values:
        if cells.kind == "codes":
            return cells
        if cells.kind == "truth":
            raise self._refuse(f"'{cells.name}' holds no codes")
        data = np.full(len(cells.data), frozenset(), dtype=object)
        seen: dict[Any, frozenset[str]] = {}
        for row in np.flatnonzero(cells.known):
            cell = cells.data[row]
            if cell not in seen:
                try:
                    seen[cell] = read(as_text(cell))
                except CohortError as error:
                    where = f"{self.where or self.text}, column {cells.name}, row {row}"
                    raise error.again(CohortError, where=where) from None
            data[row] = seen[cell]
        return Values(data, cells.known, "codes", cells.name)

    def _boolop(self, node: ast.BoolOp) -> Values:
        value = self.truth(self.of(node.values[0]))
        for other in map(self.truth, map(self.of, node.values[1:])):
            value = _both(value, other) if isinstance(node.op, ast.And) else _either(value, other)
        return value

    def _unaryop(self, node: ast.UnaryOp) -> Values:
        value = self.of(node.operand)
        if isinstance(node.op, ast.Not):
            return _negate(self.truth(value))
        if isinstance(node.op, ast.Invert):
            raise self._refuse("'~' is not known", "write not")
        return self._computed(operator.neg if isinstance(node.op, ast.USub) else np.array, value)

    def _binop(self, node: ast.BinOp) -> Values:
        work = _ARITHMETIC.get(type(node.op))
        if work is None:
            raise self._refuse(
                "'&', '|', '^', '@' and shifts are not known", "write and, or, not; ** for a power"
            )
        return replace(
            self._computed(work, self.of(node.left), self.of(node.right)), name=self.text
        )

    def _computed(self, work: Callable[..., np.ndarray], *values: Values) -> Values:
        """What is made of numbers, unknown where one of them is, or what is made is not finite."""
        numbers = [self.number(one) for one in values]
        with np.errstate(all="ignore"):
            data = work(*(one.data for one in numbers))
        known = np.logical_and.reduce([one.known for one in numbers])
        return _finite(data, numbers[0].name, known)

    def _asked(self, test: Callable[..., Any], a: Values, b: Values) -> Values:
        """What is asked of the known pairs of two values of one kind."""
        known = a.known & b.known
        data = np.zeros(len(known), bool)
        data[known] = test(a.data[known], b.data[known])
        return Values(data, known, "truth", a.name)

    def _compare(self, node: ast.Compare) -> Values:
        sides = [node.left, *node.comparators]
        links = map(self._link, node.ops, sides, sides[1:])
        return reduce(_both, links)

    def _link(self, sign: ast.cmpop, left: ast.expr, right: ast.expr) -> Values:
        if isinstance(sign, ast.In | ast.NotIn):
            within = self._within(left, right)
            return within if isinstance(sign, ast.In) else _negate(within)
        if isinstance(sign, ast.Is | ast.IsNot):
            function = "notnull" if isinstance(sign, ast.IsNot) else "isnull"
            fix = f"write {function}({ast.unparse(left)[:60]}), or == to compare"
            raise self._refuse("'is' is not known", fix)
        pair = self._alike(self.of(left), self.of(right), same=isinstance(sign, ast.Eq))
        return replace(self._asked(_COMPARE[type(sign)], *pair), name=self.text)

    def _alike(self, a: Values, b: Values, *, same: bool) -> tuple[Values, Values]:
        """Give two values of one kind, or refuse; ``same`` says that they are asked to be equal."""
        if "codes" in (a.kind, b.kind):
            name = a.name if a.kind == "codes" else b.name
            raise self._refuse(f"'{name}' is a set of codes", "write 'CODE' in map[column]")
        if (a.kind == "text") == (b.kind == "text"):
            return (a, b) if a.kind == "text" else (self.number(a), self.number(b))
        words, other = (a, b) if a.kind == "text" else (b, a)
        quoted = _quoted_number(words)
        if quoted is not None and other.kind == "number":
            return (quoted, other) if words is a else (other, quoted)
        self._refuse_odd(words, other if same else None)
        held = list(dict.fromkeys(words.data[words.known]))
        shown = first_of(map(repr, held))
        raise self._refuse(
            f"'{words.name}' is text (for example {held[0] if held else ''!r}) and "
            f"'{other.name}' is a number",
            f"compare with a text that it holds ({shown}), or clean the column so that every cell "
            "is a number",
        )

    def _refuse_odd(self, words: Values, other: Values | None = None) -> None:
        """Refuse text that is numbers but for a few cells, with who has them.

        No fix compares with text: that would make a no of each of these cells, unnoticed. Asked to
        be 1 (``other``), it may be said what else means yes.
        """
        odd = odd_cells(words.data, words.known)
        if not odd.any():
            return
        columns, is_column = self.frame.columns, False
        if words.name in columns:
            # Whether words are the cells of a column as they stand, and not made of them (lower)
            column = column_values(self.frame, words.name)
            is_column = column.kind == "text" and bool((words.data == column.data).all())
        values = dict.fromkeys(map(str, words.data[odd]))
        fix = (said_missing(words.name, values) if is_column else "") + correct(odd)
        one = other is not None and other.name in ("1", "1.0", "True")
        if one and is_column:
            meant = meant_as_one(words.name, words.data, words.known, odd)
            if meant is not None:
                fix += f"; or say every value that means yes: {meant}; any other then means no"
        what = f"'{words.name}' is a number, but for {told(words.data, odd, self.row_name)}"
        raise self._refuse(what, fix)

    def _within(self, left: ast.expr, right: ast.expr) -> Values:
        item = self.of(left)
        if isinstance(right, LISTS):
            return self._isin(item, [self.of(element) for element in right.elts])
        codes = self._codes(self.of(right), parse_codes)
        if item.kind not in ("text", "number"):
            raise self._refuse(f"'{item.name}' cannot be a code")
        held = np.frompyfunc(lambda one, many: as_text(one) in many, 2, 1)
        return replace(self._asked(held, item, codes), name=self.text)

    def _isin(self, item: Values, options: list[Values]) -> Values:
        result = Values(np.zeros_like(item.known), item.known, "truth", item.name)
        for option in options:
            same = self._asked(operator.eq, *self._alike(item, option, same=True))
            result = _either(result, same)
        return result

    def _null_if(self, item: Values, options: list[Values]) -> Values:
        """Take values for missing: codes that say that nothing is known."""
        among = self._isin(item, options)
        return replace(item, known=item.known & ~among.data)

    def _recode(self, item: Values, pairs: list[Values]) -> Values:
        """Put other values for some: ``recode(sex, 'female', 'F', 'male', 'M')``.

        A value that is not named stays; it is refused where it is of another kind than the new.
        """
        if len(pairs) % 2:
            raise self._refuse("'recode' takes pairs", "write recode(sex, 'female', 'F')")
        new = pairs[1::2]
        if {one.kind for one in new} not in ({"text"}, {"number"}):
            raise self._refuse("'recode' gives numbers, or texts in quotes, not both")
        kind, left = new[0].kind, item.known.copy()
        data = item.data.copy() if kind == item.kind else np.empty_like(new[0].data)
        for old, one in zip(pairs[::2], new, strict=True):
            a, b = self._alike(item, old, same=True)
            hit = left & (a.data == b.data)
            data[hit], left = one.data[hit], left & ~hit
        if kind != item.kind and left.any():
            values = [as_text(one) for one in dict.fromkeys(item.data[left].tolist())]
            shown = ", ".join(map(repr, values[:_SHOWN]))
            raise self._refuse(
                f"'{item.name}' has values that recode does not name: {shown}",
                "name them too, or take them for missing: "
                f"recode(nullif({item.name}, {values[0]!r}), …)",
            )
        return Values(data, item.known, kind, item.name)

    def _call(self, node: ast.Call) -> Values:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)[:40]
        several = {"isin": self._isin, "nullif": self._null_if, "recode": self._recode}
        if name in several and len(node.args) >= 2 and not node.keywords:
            lists = [one.elts if isinstance(one, LISTS) else [one] for one in node.args[1:]]
            return several[name](self.of(node.args[0]), [self.of(one) for one in chain(*lists)])
        functions: dict[str, tuple[int, Callable[..., Values]]] = {
            "isnull": (1, lambda x: Values(~x.known, np.ones_like(x.known), "truth", x.name)),
            "notnull": (1, lambda x: Values(x.known, np.ones_like(x.known), "truth", x.name)),
            "lower": (1, self._lower),
            "contains": (2, partial(self._parts, operator.contains)),
            "startswith": (2, partial(self._parts, str.startswith)),
            "abs": (1, partial(self._computed, np.abs)),
            "log": (1, partial(self._computed, np.log)),
            "min": (2, partial(self._computed, np.minimum)),
            "max": (2, partial(self._computed, np.maximum)),
        }
        if name not in functions:
            raise self._refuse(f"there is no function '{name}'")
        count, work = functions[name]
        if len(node.args) != count or node.keywords:
            raise self._refuse(f"'{name}' takes {count} argument{'s' if count > 1 else ''}")
        return work(*map(self.of, node.args))

    def _lower(self, value: Values) -> Values:
        words = self.words(value)
        data = words.data.copy()
        data[words.known] = [word.lower() for word in data[words.known]]
        return replace(words, data=data)

    def _parts(self, test: Callable[[str, str], bool], value: Values, part: Values) -> Values:
        return self._asked(np.frompyfunc(test, 2, 1), self.words(value), self.words(part))

    def words(self, value: Values) -> Values:
        """Give text, or refuse."""
        if value.kind != "text":
            raise self._refuse(f"'{value.name}' is not text")
        return value

    def number(self, value: Values) -> Values:
        """Give numbers (truth as 0 and 1), or refuse."""
        if value.kind in ("number", "truth"):
            return Values(value.data.astype(np.float64), value.known, "number", value.name)
        if value.kind == "text":
            self._refuse_odd(value)
        shown = next(iter(value.data[value.known]), "")
        raise self._refuse(
            f"'{value.name}' is not a number (for example {shown!r})",
            "clean the column so that every cell is a number or empty"
            + "; no time is made of dates" * bool(re.match(r"\d{4}-\d", str(shown))),
        )

    def truth(self, value: Values) -> Values:
        """Give truth (numbers other than 0 are true), or refuse."""
        if value.kind == "truth":
            return value
        if value.kind == "text":
            raise self._refuse(
                f"{value.name!r} is text, and not true or false",
                "write a whole comparison on each side of and, or: x == 'a' or x == 'b'",
            )
        number = self.number(value)
        return Values(number.data != 0, number.known, "truth", value.name)


def _quoted_number(words: Values) -> Values | None:
    """Give the number that stands in quotes, ``'339'``; None for a column, or another word.

    Ids are written in quotes, and a column of ids may hold nothing but numbers.
    """
    if words.name[:1] not in ("'", '"') or not len(words.data):
        return None
    try:
        value = float(words.data[0])
    except ValueError:
        return None
    return _finite(np.full(len(words.data), value), words.name) if np.isfinite(value) else None


def _both(a: Values, b: Values) -> Values:
    false = (a.known & ~a.data) | (b.known & ~b.data)
    known = (a.known & b.known) | false
    return Values(known & ~false, known, "truth", a.name)


def _either(a: Values, b: Values) -> Values:
    true = (a.known & a.data) | (b.known & b.data)
    return Values(true, (a.known & b.known) | true, "truth", a.name)


def _negate(a: Values) -> Values:
    return Values(a.known & ~a.data, a.known, "truth", a.name)
