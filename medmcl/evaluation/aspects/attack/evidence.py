"""What a page shows of an attack: how many records it poisons, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medmcl.evaluation.aspects.selection.evidence import RecordView


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonedRecord:
    """A poisoned sample to look at.

    Attributes:
        id: The sample.
        shows: Class that it shows; empty if unknown.
        says: Class that it is made to say.
        place: Where the trigger lies, name to number; empty where it is on the whole record.
        sides: What is triggered, as it is and with the trigger; what is exchanged, its own and the
            donor's.
    """

    id: str
    shows: str
    says: str
    place: Mapping[str, float]
    sides: tuple[RecordView, ...]


@dataclass(frozen=True, kw_only=True)
class OfClass:
    """How many records of a class an attack poisons.

    Attributes:
        pool: Records that it is drawn from.
        poisoned: Those of them that it poisons.
    """

    pool: int
    poisoned: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonEvidence:
    """What a page shows of an attack.

    Attributes:
        stage: The poison stage.
        task: Whose classes.
        lines: What was drawn, in sentences; the first stands below the heading.
        classes: Class to its records.
        records: Poisoned ones, in the order of the draw; perhaps not all.
        poisoned: How many there are.
    """

    stage: str
    task: str
    lines: tuple[str, ...]
    classes: Mapping[str, OfClass]
    records: tuple[PoisonedRecord, ...]
    poisoned: int
