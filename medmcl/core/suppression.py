"""What leaves a machine without: small counts, with what would tell them; and where files lie."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from typing_extensions import override

FEWEST_SUBJECTS = 5  # counts of fewer people are not shown; the usual rule of biobanks
WITHHELD = "withheld"
TOO_FEW = "too few subjects to show"
UNKNOWN = "unknown"
"""What stands where the site, or another attribute, of a subject is not known."""

Level = TypeVar("Level", bound=Hashable)


class Hidden(int):
    """A count that reads as ``<5``, or as the range it lies in, wherever it is written.

    It compares and adds as what it is, so that what is decided by it stays as it was.
    """

    text: str

    def __new__(cls, count: int, text: str = WITHHELD) -> Self:
        """Hide a count behind a text."""
        made = super().__new__(cls, count)
        made.text = text
        return made

    @override
    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    @override
    def __format__(self, spec: str) -> str:
        return self.text


class Covered(str):
    """A sentence with counts as they are, and what it reads as where it leaves.

    Attributes:
        shown: The sentence that tells no count of few people.
    """

    shown: str

    def __new__(cls, text: str, shown: str) -> Self:
        """Cover a sentence."""
        made = super().__new__(cls, text)
        made.shown = shown
        return made


def shown_part(count: int, whole: int) -> str:
    """Some of a whole that is not shown, in words: ``<5``, ``almost all``, ``60 % of the``."""
    if 0 < count < FEWEST_SUBJECTS:
        return few(count)
    if whole - count < FEWEST_SUBJECTS:
        return "almost all"
    return f"{100 * to_step(count / whole, step_of(whole)):g} % of the"


def few(count: float, fewest: int = FEWEST_SUBJECTS) -> str:
    """A count of subjects as shown: few of them are not counted out."""
    return f"<{fewest}" if 0 < count < fewest else f"{count:,.0f}"


def shown_count(count: int, *wholes: int, fewest: int = FEWEST_SUBJECTS) -> int:
    """A count as shown: few are hidden, and so are all but few of a whole that is shown."""
    if 0 < count < fewest:
        return Hidden(count, few(count, fewest))
    for whole in sorted(wholes):
        if 0 < whole - count < fewest:
            return Hidden(count, f"{max(0, whole - fewest + 1):,} to {whole - 1:,}")
    return count


def read_count(text: str) -> int:
    """Read a count as shown back; of one that was hidden, the bound that its text gives.

    Raises:
        ValueError: If it is no count.
    """
    number = re.fullmatch(r"(<?)([\d,]+)(?: to [\d,]+)?", text)
    if number is None or text.isdigit():
        return Hidden(0) if text == WITHHELD else int(text)
    return Hidden(int(number[2].replace(",", "")) - len(number[1]), text)


def step_of(people: float) -> float:
    """The step that a share of so many people is rounded to: 1, 2 or 5 of a decimal, over 1 / n.

    Whatever a share of n people reads as, some share of a few more or fewer reads the same.
    """
    least = 1 / max(people, 1)
    power = 10.0 ** math.floor(math.log10(least))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= least * (1 - 1e-9))


class Stepped(float):
    """A number on a grid, that is written with no more digits than its step has.

    It compares, adds, and stands in files as the number it is.
    """

    step: float
    bound: str

    def __new__(cls, value: float, step: float = 0.0, bound: str = "") -> Self:
        """Keep a number with its step; ``bound`` is what stands for zero, if not zero."""
        made = super().__new__(cls, value)
        made.step, made.bound = step, bound
        return made

    @override
    def __rsub__(self, other: float) -> Stepped:  # of differences that are turned around
        return Stepped(other - float(self), self.step)

    @override
    def __format__(self, spec: str) -> str:
        wanted = re.fullmatch(r"([^.]*)\.(\d+)([f%])", spec)
        if wanted is None or not self.step:
            return super().__format__(spec)
        if self.bound and not self and "+" not in spec:
            return self.bound
        finest = -math.floor(math.log10(self.step) + 1e-9) - 2 * (wanted[3] == "%")
        return super().__format__(f"{wanted[1]}.{max(0, min(int(wanted[2]), finest))}{wanted[3]}")


def to_step(value: float, step: float) -> Stepped:
    """A number on a grid of so wide a step."""
    return Stepped(round(round(value / step) * step, 12), step)


def to_steps(values: Mapping[str, float], step: float) -> dict[str, Stepped]:
    """Numbers that belong together on a grid; none of them negative, what is 0 is below a step."""
    found = {name: to_step(value, step) for name, value in values.items()}
    bound = "" if any(one < 0 for one in found.values()) else f"<{step:g}"
    return {name: Stepped(one, step, bound) for name, one in found.items()}


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


def hide(
    counts: Mapping[Level, int],
    fewest: int = FEWEST_SUBJECTS,
    keep: object = None,
    secret: Collection[object] = (),
) -> dict[Level, int | str]:
    """Replace small counts, and the next smallest until none follows from the total.

    Args:
        counts: Level to count.
        fewest: Smallest count shown; 1 shows all.
        keep: A level that is replaced for the total only where no other is left.
        secret: Levels that are replaced, however large.
    """
    masked: dict[Level, int | str] = {
        level: few(count, fewest) if 0 < count < fewest else WITHHELD if level in secret else count
        for level, count in counts.items()
    }
    while hidden := [level for level, value in masked.items() if isinstance(value, str)]:
        rest = [level for level, value in masked.items() if isinstance(value, int) and value > 0]
        whole = sum(counts[level] for level in hidden)
        most = min((counts[level] for level in rest if level != keep), default=whole)
        ends = [(fewest, max(most, counts[one])) if masked[one] == WITHHELD else (1, fewest - 1)
                for one in hidden]  # fmt: skip
        if not rest or (whole >= fewest and not leaves_one(ends, (whole, whole))):
            break
        masked[min(rest, key=lambda one: (one == keep, counts[one], str(one)))] = WITHHELD
    return masked


@dataclass(frozen=True)
class Hiding:
    """Counts as they are, without those of few people and what would tell them by a sum.

    Attributes:
        fewest: Smallest count shown; 1 shows all.
    """

    fewest: int = FEWEST_SUBJECTS
    rounds: ClassVar[bool] = False

    @property
    def first(self) -> int:
        """The smallest count that is shown."""
        return self.fewest

    def count(self, count: int) -> int:
        """A count that is not hidden."""
        return count

    def step(self, people: float) -> float:
        """The step that shares of so many people are rounded to."""
        return step_of(people)

    def parts(
        self, counts: Mapping[Level, int], keep: object = None, secret: Collection[object] = ()
    ) -> dict[Level, int | str]:
        """Counts that add up to one that is shown; see `hide`."""
        return hide(counts, self.fewest, keep, secret)


@dataclass(frozen=True)
class Rounding(Hiding):
    """All counts rounded, so that none need be known to be part of which.

    Attributes:
        fewest: Counts under it are not told, nor are others that round alike.
        to: Counts are multiples of it; 5 or more.
    """

    to: int = FEWEST_SUBJECTS
    rounds: ClassVar[bool] = True

    @property
    @override
    def first(self) -> int:
        """The smallest count that is told: it begins a step, so that a number has one meaning.

        It is over 5: a sum of counts that leaves one value of a hidden one leaves an end of what
        that can be, 0 or `first` - 1, and so none of 1 to 4.
        """
        least = max(self.fewest, FEWEST_SUBJECTS + 1) + self.to // 2
        return self.to * math.ceil(least / self.to) - self.to // 2

    @property
    def said(self) -> str:
        """What page one says of it."""
        return (
            f"Counts are rounded to {self.to}: those of people, records and events are multiples "
            f"of {self.to}, and those under {self.first}, 0 too, read <{self.first}. Shares and "
            f"curves are made of rounded counts, or stepped by {self.to} in as many people as they "
            "are of. What would tell exact counts is left out: scores of a prediction that is the "
            "same for all, groups of calibration, the map of embeddings, findings (they name "
            "records), models written out, groups and sentences of few."
        )

    @override
    def count(self, count: float) -> int:
        """A count as it leaves; whatever a hidden one was, it is worth a step."""
        if isinstance(count, Hidden):
            return count
        if count < self.first:
            return Hidden(self.to, f"<{self.first}")
        return (round(count) + self.to // 2) // self.to * self.to

    @override
    def step(self, people: float) -> float:
        return step_of(self.count(people) / self.to)

    @override
    def parts(
        self, counts: Mapping[Level, int], keep: object = None, secret: Collection[object] = ()
    ) -> dict[Level, int | str]:
        told = {level: self.count(count) for level, count in counts.items()}
        return {level: str(n) if isinstance(n, Hidden) else n for level, n in told.items()}


def leaves_one(ends: Sequence[tuple[float, float]], whole: tuple[float, float]) -> bool:
    """Whether the sum of counts leaves one value of any that is hidden, or of itself if it is.

    Args:
        ends: Fewest and most of each count; the same of one that is shown.
        whole: Fewest and most of their sum.
    """

    def others(side: int, but: int = -1) -> float:
        return sum(pair[side] for place, pair in enumerate(ends) if place != but)

    return (whole[0] < whole[1] and min(whole[1], others(1)) - max(whole[0], others(0)) < 1) or any(
        least < most
        and min(most, whole[1] - others(0, place)) - max(least, whole[0] - others(1, place)) < 1
        for place, (least, most) in enumerate(ends)
    )


_PLACE = re.compile(
    r"""(?<![\w./\u2026])(?!(?<=:)//)(?:file:|~(?=/))?(?:/+[^\s/"'`<>|,;()\[\]{}]+)+"""
)
_OF_WINDOWS = re.compile(r"""(?<!\w)(?:[A-Za-z]:\\|\\\\)(?:[^\s\\/:"'<>|]+\\)+""")
_ROOTS = re.compile(
    r"(?i)(?:home|users?|root|mnt|media|vol(?:ume)?s?|data(?:sets?)?|p?scratch|work(?:spaces?)?"
    r"|projects?|share[ds]?|storage|cluster|nfs|nas|gpfs|lustre|beegfs|ceph|afs|efs|dbfs|tmp|var"
    r"|opt|srv|usr|etc|private|archive|content|kaggle)\d*"
)
"""How folders are called that hold files on other machines: a text may have been written on one."""

_QUOTED = re.compile(r"""(["'])(~?/[^"'\n]+)\1""")


def placeless(value: Any, but: str = "") -> Any:
    """Plain values whose texts do not say where files lie on this machine, or whose it is.

    Counts that are hidden become the text they read as.

    Of a path that is written out from ``/`` the last name stays: ``…/cohort.yaml``. What begins as
    no folder of this machine does, nor as those of others are called (a class ``/a/b``), is no
    path, and stays.

    Args:
        value: Text, number, mapping or list.
        but: A key below which everything stays.
    """
    if isinstance(value, str):
        text = value
        if "/" not in text and "\\" not in text:
            return text
        if text.startswith("/") and "\n" not in text and os.path.lexists(text) and _is_place(text):
            return _named(text)  # its name may hold what no sentence tells from the words around it
        for folder in (str(Path.home()), str(Path.cwd())):
            if folder.count("/") > 1:
                text = text.replace(f"{folder}/", "\u2026/")
        text = _QUOTED.sub(
            lambda one: f"{one[1]}{_named(one[2])}{one[1]}" if _is_place(one[2]) else one[0], text
        )
        text = _OF_WINDOWS.sub("\u2026/", text)
        return _PLACE.sub(lambda found: _named(found[0]) if _is_place(found[0]) else found[0], text)
    if isinstance(value, Hidden):
        return str(value)
    if isinstance(value, Mapping):
        return {
            placeless(key): one if key == but else placeless(one, but) for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [placeless(one, but) for one in value]
    return value


def _named(path: str) -> str:
    return f"\u2026/{path.rstrip('/').rpartition('/')[2]}"


def _is_place(path: str) -> bool:
    first, _, rest = path.removeprefix("file:").lstrip("/").partition("/")
    is_root = _ROOTS.fullmatch(first) is not None or _is_there(f"/{first}")
    return path.startswith("~/") or (bool(rest) and is_root)


@lru_cache(maxsize=256)
def _is_there(path: str) -> bool:
    return os.path.lexists(path)
