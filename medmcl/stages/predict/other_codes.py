"""Codes of a cohort that training did not have: I509 for I50.9, or another classification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from medmcl.core.findings import counted
from medmcl.core.suppression import shown_part
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.events.spelling import spelt_otherwise, told

TOO_MUCH = 0.5
"""Share of the events beyond which codes that are spelt otherwise are refused."""
PARTLY = 0.25
"""Share of the events with unknown codes from which on it is said: rare codes are a few of all."""
SPELT = 0.05
"""And of the events whose code is one of training but for its spelling."""
FEW_EVENTS = 20
"""Fewer events of unknown codes say nothing of how codes are written, but for their spelling."""
SHOWN = 4
"""Codes that are named."""


@dataclass(frozen=True, kw_only=True)
class OtherCodes:
    """Events whose code the run does not know, which it reads as one and the same unknown code.

    Attributes:
        modality: The codes.
        events: How many the cohort has, those after the index date apart.
        unknown: Of them, those with a code that training had not, or too rarely.
        spelt: Of these, those whose code training had but for case, dots, blanks or a prefix.
        found: Unknown codes, the most frequent first.
        meant: Unknown code to the code of training that it may be.
        whole: How many people have events.
        strange: Subject to how many events they have, of which none has a code of training.
    """

    modality: str
    events: int
    unknown: int
    spelt: int
    found: tuple[str, ...]
    meant: dict[str, str]
    whole: int
    strange: Mapping[str, int]
    code: ClassVar[str] = "codes.other_coding"
    column: ClassVar[str] = "codes"

    @property
    def is_recoded(self) -> bool:
        """Whether there is no code that training had, in more than a few events or as it spells."""
        tells = self.events >= FEW_EVENTS or self._is_spelt(TOO_MUCH)
        return self.unknown == self.events and tells

    @property
    def is_too_much(self) -> bool:
        """Whether that is so, or half of the codes are spelt otherwise: no score means much."""
        return self.is_recoded or self._is_spelt(TOO_MUCH)

    @property
    def is_said(self) -> bool:
        """Whether unknown codes are more than a few rare ones."""
        many = self.events >= FEW_EVENTS and self.unknown > PARTLY * self.events
        return many or self._is_spelt(SPELT)

    def _is_spelt(self, share: float) -> bool:
        return self.spelt > share * self.events

    def __str__(self) -> str:
        return f"{self.modality}: {self.what}"

    @property
    def what(self) -> str:
        """How many events have what, and how many people nothing else."""
        named = ", ".join(map(repr, self.found[:SHOWN]))
        return (
            f"{self.unknown:,} of {counted(self.events, 'event')} have a code that training had "
            f"not, or too rarely: {named}{' …' if len(self.found) > SHOWN else ''}; "
            f"{len(self.strange):,} of {counted(self.whole, 'person', 'people')} have no other"
        ) + (f"; {self.spelt:,} of these events look spelt otherwise" if self.spelt else "")

    @property
    def shown(self) -> str:
        """The same where it leaves: without codes, or how many people there are."""
        part = shown_part(self.unknown, self.events)
        return f"{self.modality}: {part} events have a code that training had not, or too rarely"

    def said_of(self, subject: str) -> str:
        """What is odd about somebody without a code of training; empty of others."""
        count = self.strange.get(subject)
        return "" if count is None else (
            f"{self.modality}: training had none of the codes of {counted(count, 'event')}"
        )  # fmt: skip

    @property
    def fix(self) -> str:
        """How to write the codes as the run knows them."""
        return "write codes as training had them, dots and prefix included, and of the same " + (
            f"classification; perhaps {told(self.meant)}" if self.meant else "classification"
        )


def other_codes(cohort: Cohort, modality: str, read: Mapping[str, Any]) -> OtherCodes | None:
    """Compare the codes of a cohort with the vocabulary of a run; None if all are known.

    Args:
        cohort: The cohort.
        modality: Its codes.
        read: How the run reads them: settings and state of its adapter.
    """
    if "codes" not in read["state"]:  # events of another package
        return None
    known = frozenset(read["state"]["codes"])
    unknown: Counter[str] = Counter()
    strange: dict[str, int] = {}
    events = 0
    people: set[str] = set()
    for place in cohort.records[modality]["place"]:
        codes = [str(code) for code in place.values["codes"]]
        others = [code for code in codes if code not in known]
        events += len(codes)
        people.add(place.subject)
        unknown.update(others)
        if len(others) == len(codes):
            strange[place.subject] = len(codes)
    if not unknown:
        return None
    found = tuple(code for code, _ in unknown.most_common())
    meant = spelt_otherwise(found, known, prefixes=False)
    return OtherCodes(
        modality=modality,
        events=events,
        unknown=unknown.total(),
        spelt=sum(unknown[code] for code in meant),
        found=found,
        meant=meant,
        whole=len(people),
        strange=strange,
    )
