"""Sections of a radiology report: what stands under FINDINGS, IMPRESSION and their like.

Only headers that are known (`HEADERS`, and whatever is asked for) part a report, so that headings
within a section (``LUNGS:``) stay in it. A header is

- at the start of a line, in any case, with a colon: ``FINDINGS:``, ``Findings :``;
- alone on its line after a line without words: ``IMPRESSION``, ``FINAL REPORT``;
- within a line, with a colon: in capitals, or with a capital after the end of a sentence (tables
  lose line breaks); in a text without any capital, after the end of a sentence.

``FINDINGS AND IMPRESSION:`` and ``FINDINGS/IMPRESSION (PRELIMINARY):`` head one section that is
both. The rules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

HEADERS = (
    *("addendum", "clinical data", "clinical details", "clinical history", "clinical indication"),
    *("clinical information", "clinical question", "comparison", "conclusion", "contrast"),
    *("diagnosis", "exam", "examination", "final addendum", "final report", "finding", "history"),
    *("impression", "indication", "interpretation", "notification", "opinion", "procedure"),
    *("reason for exam", "reason for examination", "reason for study", "reason for this exam"),
    *("reason for this examination", "recommendation", "study", "summary", "technique"),
    *("type of exam", "type of examination", "view", "wet read"),
)
"""Headers that are known, singular: an ``s`` at the end makes no difference."""

_JOINED = r"[ \t]*(?:/|&|,|\band\b)[ \t]*"
_SENTENCE_END = ".!?:;)]_"


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Attributes:
        names: What its header names, as `plain_name` has them; () before the first header.
        text: What stands under it, without blanks around.
    """

    names: tuple[str, ...]
    text: str


class ReportText(str):
    """A text of which sections were asked for.

    Attributes:
        whole: Whether it has none of them, so that all of it was taken.
    """

    __slots__ = ("whole",)
    whole: bool

    def __new__(cls, text: str, whole: bool = False) -> ReportText:
        """Make one of a text."""
        made = super().__new__(cls, text)
        made.whole = whole
        return made


def plain_name(name: str) -> str:
    """Bring a header to one spelling: small letters, single blanks, singular.

    Example:
        >>> plain_name("FINDINGS"), plain_name("Wet  Read")
        ('finding', 'wet read')
    """
    return re.sub(r"\s+", " ", name.strip().casefold()).removesuffix("s")


def split_sections(text: str, names: Sequence[str] = ()) -> list[Section]:
    """Part a report at its headers; all of it is in one of the sections.

    Args:
        text: The report.
        names: Headers to know beside `HEADERS`.

    Returns:
        The sections in the order of the report. The first has no name: what is before any header.
    """
    pattern = _pattern(tuple(sorted({plain_name(name) for name in names})))
    has_capitals = text != text.lower()
    found = [one for one in pattern.finditer(text) if _is_header(one, has_capitals)]
    starts = [(0, ()), *((one.end(), _names(one["header"])) for one in found)]
    ends = [*(one.start("header") for one in found), len(text)]
    return [
        Section(named, text[start:end].strip())
        for (start, named), end in zip(starts, ends, strict=True)
    ]


def take_sections(text: str, names: Sequence[str]) -> ReportText:
    """Give the sections of a report that are asked for, or all of it if it has none of them.

    Args:
        text: The report.
        names: What to take, in the order in which it is given: ``["findings", "impression"]``.
            Sections under one name (an addendum repeats them) follow each other as in the report.

    Returns:
        Their texts, a line each, without headers. Sections without text do not count.
    """
    left = [one for one in split_sections(text, names) if one.text]
    taken: list[str] = []
    for name in map(plain_name, names):
        taken += [one.text for one in left if name in one.names]
        left = [one for one in left if name not in one.names]
    return ReportText("\n".join(taken)) if taken else ReportText(text, whole=True)


@cache
def _pattern(more: tuple[str, ...]) -> re.Pattern[str]:
    known = sorted({*map(plain_name, HEADERS), *more}, key=lambda name: (-len(name), name))
    one = "(?:" + "|".join(re.escape(n).replace(r"\ ", r"[ \t]+") + "s?" for n in known) + ")"
    header = rf"(?<!\w)(?P<header>{one}(?:{_JOINED}{one}){{0,2}})"
    return re.compile(
        rf"{header}(?:[ \t]*\([^()\n]{{0,40}}\))?(?:[ \t]*(?P<colon>:)|(?=[ \t\r]*(?:\n|\Z)))",
        re.IGNORECASE,
    )


def _is_header(found: re.Match[str], has_capitals: bool) -> bool:
    """Whether a name is a header where it stands; see the module."""
    text, start, name = found.string, found.start("header"), found["header"]
    line = text.rfind("\n", 0, start) + 1
    before = text[line:start].strip()
    if not found["colon"]:
        above = text[text.rfind("\n", 0, max(line - 1, 0)) + 1 : max(line - 1, 0)]
        return not before and name[0].isupper() and not re.search(r"[^\W_]", above)
    if not before or name == name.upper():
        return True
    return before[-1] in _SENTENCE_END and (name[0].isupper() or not has_capitals)


def _names(header: str) -> tuple[str, ...]:
    return tuple(plain_name(part) for part in re.split(_JOINED, header, flags=re.IGNORECASE))
