"""The page of an attack: how many records it poisons, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medmcl.evaluation.aspects.selection.contact_sheet import (
    SINGLE_PEOPLE,
    Card,
    Sheet,
    columns_for,
    faces_of,
    scales_said,
    scores_said,
)
from medmcl.evaluation.aspects.selection.evidence import RecordView
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.pictures import shorten
from medmcl.evaluation.report.section import Section, Shown


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


FOR_DEFENCE = (
    "For testing defences: these records are poisoned only where a stage is poisoned_by this "
    "manifest; the data themselves are as they were."
)


def poison_page(
    evidence: PoisonEvidence,
    *,
    title: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Give the page, HTML text that needs nothing outside itself.

    Args:
        evidence: What was drawn; its first line stands below the heading.
        title: Heading.
        provenance: Name to value, shown at the end.
    """
    return page_of(
        [_attack(evidence)],
        title or f"Records that stage {evidence.stage} poisons",
        evidence.lines[0],
        provenance,
    )


def _attack(evidence: PoisonEvidence) -> Section:
    return Section(
        key="poisoned",
        title=f"What stage {evidence.stage} poisons",
        pictures=(),
        tables=(_classes(evidence),),
        short="Attack",
        lines=evidence.lines[1:],
        warnings=(FOR_DEFENCE,),
        sheet=_sheet(evidence) if evidence.records else None,
    )


def _classes(evidence: PoisonEvidence) -> Shown:
    return Shown(
        title=f"Who is poisoned, by {evidence.task}",
        aid="Train records that the attack is drawn from, by the class that they show.",
        header=("class", "records", "poisoned"),
        rows=tuple(
            (name, f"{one.pool:,}", f"{one.poisoned:,}") for name, one in evidence.classes.items()
        ),
    )


def _sheet(evidence: PoisonEvidence) -> Sheet:
    contents = [side.content for one in evidence.records for side in one.sides]
    cards = tuple(map(_card, evidence.records))
    row = f"The first {len(cards):,} of {evidence.poisoned:,}"
    return Sheet(
        title="Poisoned records",
        aid="In the order of the draw: each as it is and with the trigger, and what it is made to "
        "go with. " + scales_said(contents) + SINGLE_PEOPLE,
        rows=((row, cards),),
        columns=columns_for(contents, len(cards)),
    )


def _card(one: PoisonedRecord) -> Card:
    return Card(
        title=shorten(one.id, 34),
        state=one.says if one.shows == one.says else f"{one.shows or '?'} → {one.says}",
        look="odd",
        scores=scores_said(one.place),
        faces=faces_of(one.sides),
    )
