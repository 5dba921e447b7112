"""What a selection kept: as a section of a report, in sentences, as rows, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.selection.evidence import ROWS, SelectionEvidence
from medmcl.evaluation.aspects.selection.figures import score_distributions, score_scatter
from medmcl.evaluation.aspects.selection.kept_share_figures import kept_share_bars
from medmcl.evaluation.aspects.selection.kept_shares import kept_shares, share_warnings
from medmcl.evaluation.report.cards import Sheet
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.pictures import shorten
from medmcl.evaluation.report.section import Section


def selection_page(
    evidence: SelectionEvidence,
    *,
    title: str = "",
    subtitle: str = "",
    provenance: Mapping[str, Any] | None = None,
    level: float = 0.95,
) -> str:
    """Give the section of a selection as a page, HTML text that needs nothing outside itself.

    Args:
        evidence: What was selected.
        title: Heading; default says whose selection it is.
        subtitle: One line below it.
        provenance: Name to value, shown at the end.
        level: Coverage that intervals aim at.
    """
    sections = [one.telling(level) for one in selection_sections([evidence], level)]
    title = title or f"Selection of pairs, {evidence.name}"
    return page_of(sections, title, subtitle, provenance)


def selection_line(evidence: SelectionEvidence) -> str:
    """Say how many pairs are kept."""
    kept, n = int(evidence.kept.sum()), len(evidence)
    return f"{kept:,} of {n:,} pairs are kept ({kept / n:.1%})."


def selection_headline(found: Sequence[SelectionEvidence]) -> list[str]:
    """Say for the first lines of a report what was kept, and how many warnings there are."""
    lines = []
    for one in found:
        count = len(one.warnings) + len(share_warnings(kept_shares(one)))
        more = f" {count} warnings are under Selection." if count else ""
        more = " A warning is under Selection." if count == 1 else more
        lines.append(f"Selection {shorten(one.name, 60)}: {selection_line(one)}{more}")
    return lines


def copies_lines(evidence: SelectionEvidence) -> list[str]:
    """Say how many pairs are duplicates of an earlier one, by kind."""
    lines = []
    for kind, first in evidence.copies.items():
        again = first != np.arange(len(first))
        kept = int((again & evidence.kept).sum())
        lines.append(f"Duplicates ({kind}): {int(again.sum()):,} pairs repeat an earlier one; "
                     f"{kept:,} of them are kept.")  # fmt: skip
    return lines


def selection_rows(found: Sequence[SelectionEvidence], level: float) -> list[dict[str, Any]]:
    """What is kept of all and of each group, as plain values."""
    names = ("attribute", "group", "n", "kept", "share", "low", "high", "is_low", "note")
    return [
        {"selection": one.name, **{name: getattr(share, name) for name in names}}
        for one in found
        for share in kept_shares(one, level)
    ]


def contact_sheet(evidence: SelectionEvidence) -> Sheet | None:
    """Lay out the pairs; None if there are none."""
    if not any(evidence.pairs.values()):
        return None
    by = f"score {evidence.sheet_by}" if evidence.sheet_by else "score"
    return Sheet(
        title=f"Pairs to look at, {evidence.name}",
        order=f"By the {by}: the highest; those nearest to the place where as many pairs as are "
        "kept end, from either side; the lowest. One a person in each row.",
        rows={row.capitalize(): evidence.pairs.get(row, ()) for row in ROWS},
    )


NO_SHEET = "No pairs are shown: none were asked for, or none can be ranked."


def selection_sections(found: Sequence[SelectionEvidence], level: float) -> tuple[Section, ...]:
    """Make a section of each selection; none of none.

    Args:
        found: The selections.
        level: Coverage that intervals aim at.
    """
    return tuple(_section(one, number, level) for number, one in enumerate(found))


def _section(evidence: SelectionEvidence, number: int, level: float) -> Section:
    shares = kept_shares(evidence, level)
    sheet = contact_sheet(evidence)
    return Section.of(
        "selection" if number == 0 else f"selection-{number + 1}",
        f"Selection of pairs, {evidence.name}",
        kept_share_bars(shares, evidence.name),
        score_distributions(evidence),
        score_scatter(evidence),
        short="Selection" if number == 0 else f"Selection {number + 1}",
        part="Who",
        lines=(
            selection_line(evidence),
            f"Rule: {evidence.rule or 'not stated'}",
            *copies_lines(evidence),
            *evidence.notes,
            *([] if evidence.scores else ["No score is known: there is nothing to rank by."]),
            *([] if sheet else [NO_SHEET]),
        ),
        warnings=(*evidence.warnings, *share_warnings(shares)),
        sheet=sheet,
    )
