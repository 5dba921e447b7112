"""Codes that are one but for how they are written: I509, i50.9 and I50.9."""

from __future__ import annotations

import re
from collections.abc import Iterable


def spelt_otherwise(
    codes: Iterable[str], known: Iterable[str], *, prefixes: bool = True
) -> dict[str, str]:
    """Unknown code to the known one that has the same letters and digits, whatever their case.

    Args:
        codes: Codes in the data.
        known: Codes that are meant.
        prefixes: Whether what stands before ``//`` has to agree, too.
    """
    right = set(known)
    forms = {_letters(code, prefixes): code for code in sorted(right)}
    return {
        code: forms[form]
        for code in codes
        if code not in right and (form := _letters(code, prefixes)) in forms
    }


def _letters(code: str, prefixes: bool) -> str:
    own = code if prefixes else code.partition("//")[2] or code
    return re.sub(r"\W|_", "", own.casefold()) or code


def told(pairs: dict[str, str], shown: int = 4) -> str:
    """Some of these pairs, as a question: 'I509' is 'I50.9'."""
    return ", ".join(f"{mine!r} is {theirs!r}" for mine, theirs in [*pairs.items()][:shown])
