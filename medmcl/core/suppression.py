"""What leaves a machine without: small counts, with what would tell them; and where files lie."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

FEWEST_SUBJECTS = 5  # counts of fewer people are not shown; the usual rule of biobanks
WITHHELD = "withheld"
TOO_FEW = "too few subjects to show"
UNKNOWN = "unknown"
"""What stands where the site, or another attribute, of a subject is not known."""

Level = TypeVar("Level", bound=Hashable)


def few(count: float, fewest: int = FEWEST_SUBJECTS) -> str:
    """A count of subjects as shown: few of them are not counted out."""
    return f"<{fewest}" if 0 < count < fewest else f"{count:,.0f}"


def plain_few(count: int, fewest: int = FEWEST_SUBJECTS) -> int | str:
    """The same for a file: a number, or the text that stands for few."""
    return few(count, fewest) if 0 < count < fewest else count


def few_share(count: int, whole: int, fewest: int = FEWEST_SUBJECTS) -> str:
    """A share as shown: one that would tell a small count, or the small rest, is a word."""
    if 0 < count < fewest:
        return "few"
    if 0 < whole - count < fewest:
        return "almost all"
    return f"{count / max(1, whole):.1%}"


def hide(counts: Mapping[Level, int], fewest: int = FEWEST_SUBJECTS) -> dict[Level, int | str]:
    """Replace small counts, and the next smallest where they would follow from the total.

    Args:
        counts: Level to count.
        fewest: Smallest count shown; 1 shows all.
    """
    masked: dict[Level, int | str] = {
        level: few(count, fewest) if 0 < count < fewest else count
        for level, count in counts.items()
    }
    hidden = [counts[level] for level, value in masked.items() if isinstance(value, str)]
    whole = sum(hidden)
    told = len(hidden) == 1 or whole < fewest or whole == len(hidden) * (fewest - 1)
    rest = [level for level, value in masked.items() if isinstance(value, int) and value > 0]
    if hidden and told and rest:
        masked[min(rest, key=lambda level: counts[level])] = WITHHELD
    return masked


_PLACE = re.compile(r"""(?<![\w.:/\u2026])(?:~|(?=/))(?:/[^\s/"'`<>|,;()\[\]{}]+)+""")

_QUOTED = re.compile(r"""(["'])(~?/[^"'\n]+)\1""")


def placeless(value: Any, but: str = "") -> Any:
    """Plain values whose texts do not say where files lie on this machine, or whose it is.

    Of a path that is written out from ``/`` the last name stays: ``…/cohort.yaml``. What begins as
    no folder of this machine does (a class ``/a/b``) is no path, and stays.

    Args:
        value: Text, number, mapping or list.
        but: A key below which everything stays.
    """
    if isinstance(value, str):
        return _placeless(value)
    if isinstance(value, Mapping):
        return {
            placeless(key): one if key == but else placeless(one, but) for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [placeless(one, but) for one in value]
    return value


def _placeless(text: str) -> str:
    if "/" not in text:
        return text
    if text.startswith("/") and "\n" not in text and os.path.lexists(text) and _is_place(text):
        return _named(text)  # its name may hold what no sentence tells from the words around it
    for folder in (str(Path.home()), str(Path.cwd())):
        if folder.count("/") > 1:
            text = text.replace(f"{folder}/", "\u2026/")
    text = _QUOTED.sub(
        lambda one: f"{one[1]}{_named(one[2])}{one[1]}" if _is_place(one[2]) else one[0], text
    )
    return _PLACE.sub(lambda found: _named(found[0]) if _is_place(found[0]) else found[0], text)


def _named(path: str) -> str:
    return f"\u2026/{path.rstrip('/').rpartition('/')[2]}"


def _is_place(path: str) -> bool:
    first, _, rest = path.lstrip("/").partition("/")
    return path.startswith("~/") or (bool(rest) and _is_there(f"/{first}"))


@lru_cache(maxsize=256)
def _is_there(path: str) -> bool:
    return os.path.lexists(path)
