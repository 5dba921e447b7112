"""Codes in a cell, and maps that take codes to what they mean."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

from medmcl.core.errors import CohortError
from medmcl.core.limits import parse_json
from medmcl.data.tables.files import as_text

_SEPARATORS = re.compile(r"[;|,]")
_LONGEST_CELL = 100_000


def parse_codes(cell: str) -> frozenset[str]:
    """Give the codes in a cell: keys of a dict, items of a list (Python or JSON), or split text.

    Text is split at ``;``, ``|`` and ``,``.

    Raises:
        CohortError: A cell that starts like a dict or list and is none.
    """
    text = cell.strip()
    if text[:1] in ("{", "[", "("):
        value = _literal(text)
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            return frozenset(as_text(item) for item in value if item is not None)
        if text[0] != "(":
            raise CohortError(
                "a cell starts like a list or dict and is none",
                got=text[:80],
                expected="for example {'NORM': 100.0}, [\"NORM\"] or NORM;SR",
            )
    return frozenset(part for part in map(str.strip, _SEPARATORS.split(text)) if part)


def _literal(text: str) -> Any:
    """Read a Python literal or JSON, without evaluating anything; None if it is neither."""
    if len(text) > _LONGEST_CELL:
        raise CohortError("a cell is too long to hold codes", got=f"{len(text)} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        return None


@dataclass
class CodeMap:
    """A map from codes to values, read from a table of the cohort.

    Attributes:
        name: Its name in ``maps:``.
        values: Code to what it means; one code may mean several things.
    """

    name: str
    values: dict[str, frozenset[str]]
    _seen: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def of(self, cell: str) -> frozenset[str]:
        """Give the mapped values of all codes in a cell; codes not in the map mean nothing."""
        if cell not in self._seen:
            empty: frozenset[str] = frozenset()
            self._seen[cell] = empty.union(*(self.values.get(c, empty) for c in parse_codes(cell)))
        return self._seen[cell]
