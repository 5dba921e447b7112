"""The page of an attack: how many records it poisons, and some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.cards import Card, Sheet
from medmcl.evaluation.report.columns import counted, written
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.section import Section, Shown


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonEvidence:
    """What a page shows of an attack.

    Attributes:
        stage: The poison stage.
        task: Whose classes.
        lines: What was drawn, in sentences; the first stands below the heading.
        classes: Class to how many train records of it the attack is drawn from (``pool``), and how
            many it poisons (``poisoned``).
        records: Poisoned ones, in the order of the draw; perhaps not all.
        poisoned: How many there are.
    """

    stage: str
    task: str
    lines: tuple[str, ...]
    classes: Mapping[str, Mapping[str, int]]
    records: tuple[Card, ...]
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
    cards = evidence.records
    sheet = Sheet(
        title="Poisoned records",
        order="In the order of the draw: each as it is and with the trigger, and what it is made "
        "to go with.",
        rows={f"The first {len(cards):,} of {evidence.poisoned:,}": cards},
    )
    rows = [{"class": name, **one} for name, one in evidence.classes.items()]
    classes = Shown.of(
        caption(__file__, "classes", task=evidence.task),
        written(rows, "class", ("records", counted("pool")), ("poisoned", counted("poisoned"))),
    )
    return Section.of(
        "poisoned",
        f"What stage {evidence.stage} poisons",
        tables=(classes,),
        short="Attack",
        lines=evidence.lines[1:],
        warnings=(FOR_DEFENCE,),
        sheet=sheet if cards else None,
    )
