"""How to count: window, pairing, which blocks.

A window says which tokens of a patient meet:

| name | tokens meet if they are of one patient and | a unit is |
|---|---|---|
| ``record`` | (always) | a patient |
| ``month`` | their dates are in the same calendar month | a patient's month |
| ``visit`` | they carry the same visit id | a visit |
| ``days:N`` | their dates are at most N days apart, in either order | a patient |

``month`` loses pairs across the end of a month; ``days:N`` loses none, but one token then meets
others in many overlapping windows, so its unit is the patient. Time of day is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Literal

from pydantic import AfterValidator

from medmcl.cooccurrence.count.counts import Pair, Vocabulary
from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError

Kind = Literal["record", "month", "visit", "days"]
PAIRINGS = ("product", "distinct")
_LONGEST_DAYS = 1_000_000


@dataclass(frozen=True)
class Window:
    """A window by its kind; ``days`` is the reach of a sliding one."""

    kind: Kind
    days: int = 0

    def __str__(self) -> str:
        return f"days:{self.days}" if self.sliding else self.kind

    @property
    def sliding(self) -> bool:
        """Whether each token has a window of its own."""
        return self.kind == "days"

    @property
    def needs_time(self) -> bool:
        """Whether an event without a date has to be left out."""
        return self.kind in ("days", "month")


def parse_window(name: str) -> Window:
    """Read a window by name.

    Raises:
        ConfigError: No such window.
    """
    if name in ("record", "month", "visit"):
        return Window(name)  # type: ignore[arg-type]  # one of `Kind`, as was asked
    days = re.fullmatch(r"days:(\d{1,7})", name)
    if days is not None and int(days[1]) <= _LONGEST_DAYS:
        return Window("days", int(days[1]))
    raise ConfigError(
        f"unknown window '{name}'{nearest(name, ('record', 'month', 'visit', 'days:30'))}",
        expected="record, month, visit, or days:N with N from 0 to 1000000",
    )


def _known(name: str) -> str:
    try:
        parse_window(name)
    except ConfigError as error:
        raise ValueError(f"{error.what}, expected {error.expected}") from None
    return name


WindowName = Annotated[str, AfterValidator(_known)]
"""Name of a window in a file: checked when it is read."""


@dataclass(frozen=True)
class Rules:
    """How to count.

    Attributes:
        window: ``record``, ``month``, ``visit`` or ``days:N``; see `windows`.
        pairing: ``product``: every pair of tokens; ``distinct``: each pair of codes once a unit.
        pairs: Blocks to count; all pairs of different modalities if not given.
        within: Also count the block of each modality with itself.
        patients: Also count the patients of each cell, which a release needs.
        drop_duplicates: Count events that equal another in patient, time, visit and code once.
    """

    window: str = "record"
    pairing: str = "product"
    pairs: tuple[Pair, ...] | None = None
    within: bool = False
    patients: bool = True
    drop_duplicates: bool = False

    def blocks(self, modalities: Sequence[str]) -> tuple[Pair, ...]:
        """Give the blocks to count.

        Raises:
            ConfigError: A pair names no modality, or stands in both orders.
        """
        for pair in self.pairs or ():
            if unknown := set(pair) - set(modalities):
                raise ConfigError(
                    f"there is no modality '{min(unknown)}'", expected=", ".join(modalities)
                )
        turned = [(a, b) for a, b in self.pairs or () if a < b and (b, a) in (self.pairs or ())]
        if turned:
            raise ConfigError(
                "a pair of modalities stands in both orders, and would be counted twice",
                got=", ".join(f"{a} x {b} and {b} x {a}" for a, b in turned),
                expected="each pair in one order",
            )
        across = self.pairs if self.pairs is not None else tuple(combinations(modalities, 2))
        own = tuple((name, name) for name in modalities) if self.within else ()
        return tuple(dict.fromkeys((*across, *own)))


def notes_of(rules: Rules) -> tuple[str, ...]:
    """Say what a reader of the counts must know."""
    window = parse_window(rules.window)
    found = [
        "events that equal another in patient, time, visit and code count "
        + ("once" if rules.drop_duplicates else "as often as they stand there")
    ]
    if window.sliding:
        found.append(
            f"days:{window.days}: dates at most {window.days} days apart, time of day ignored; the "
            "unit is the patient; margins count the pairs of a code within its own modality "
            "inside the window"
        )
    return tuple(found)


def nested_modalities(
    parents: Mapping[str, Sequence[str]] | None, vocabularies: Mapping[str, Vocabulary]
) -> tuple[str, ...]:
    """Modalities in which a roll-up counts one event for more than one code, sorted.

    With the leaves of P1 and P2 rolled up to both their group and G, G - P1 is P2: cells are then
    sums of others, and one that is left out may be their difference. Codes of two modalities that
    share an event are nested too. What the source itself wrote twice cannot be seen here.

    Args:
        parents: Code to the codes that are counted in its place; None if nothing is rolled up.
        vocabularies: Codes that are counted; a parent outside them counts nothing.
    """
    homes: dict[str, set[str]] = {}
    for name, words in vocabularies.items():
        for token in words.tokens:
            homes.setdefault(token, set()).add(name)
    found: set[str] = set()
    for targets in (parents or {}).values():
        kept = {target for target in targets if target in homes}
        if len(kept) > 1:
            found = found.union(*(homes[target] for target in kept))
    return tuple(sorted(found))
