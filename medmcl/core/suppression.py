"""Small counts: what is shown of them, and what must go with them so that they stay unknown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

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
