"""Codes that are one but for how they are written: I509, i50.9 and I50.9."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

_SIGNS = re.compile(r"\W|_")


def spelt_otherwise(
    codes: Iterable[str], known: Iterable[str], *, prefixes: bool = True
) -> dict[str, str]:
    """Unknown code to the known one that differs in case, blanks, or in having signs at all.

    39.95 and 399.5 are two codes: signs of both stand at other places.

    Args:
        codes: Codes in the data.
        known: Codes that are meant.
        prefixes: Whether what stands before ``//`` has to agree, too.
    """
    right = set(known)
    spellings = _Spellings(prefixes)
    for code in sorted(right):
        spellings.add(code)
    found = {code: spellings.find(code) for code in codes if code not in right}
    return {code: meant for code, meant in found.items() if meant is not None}


def spelt_twice(codes: Iterable[str]) -> dict[str, str]:
    """Code to one before it in the list that differs as in `spelt_otherwise`."""
    spellings, found = _Spellings(prefixes=True), {}
    for code in codes:
        meant = spellings.find(code)
        if meant is None:
            spellings.add(code)
        else:
            found[code] = meant
    return found


class _Spellings:
    """Codes by their letters and digits."""

    def __init__(self, prefixes: bool) -> None:
        self.prefixes = prefixes
        self.codes: dict[str, list[str]] = defaultdict(list)

    def add(self, code: str) -> None:
        self.codes[self._letters(code)].append(code)

    def find(self, code: str) -> str | None:
        """The first code that was added and may be this one."""
        same = self.codes.get(self._letters(code), ())
        return next((one for one in same if _may_be(_own(code), _own(one))), None)

    def _letters(self, code: str) -> str:
        plain = _SIGNS.sub("", (code if self.prefixes else _own(code)).casefold())
        return plain or code


def _own(code: str) -> str:
    return code.partition("//")[2] or code


def _may_be(one: str, other: str) -> bool:
    one, other = ("".join(code.split()).casefold() for code in (one, other))
    return one == other or not (_SIGNS.search(one) and _SIGNS.search(other))


def told(pairs: Mapping[str, str], shown: int = 4) -> str:
    """Some of these pairs, as a question: 'I509' is 'I50.9'."""
    return ", ".join(f"{mine!r} is {theirs!r}" for mine, theirs in [*pairs.items()][:shown])
