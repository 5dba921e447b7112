"""What a selection kept, as a section of a report."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.selection.contact_sheet import contact_sheet
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.aspects.selection.figures import score_distributions, score_scatter
from medmcl.evaluation.aspects.selection.kept_share_figures import kept_share_bars
from medmcl.evaluation.aspects.selection.kept_shares import kept_shares, share_warnings
from medmcl.evaluation.aspects.selection.lines import copies_lines, selection_line
from medmcl.evaluation.report.section import Section

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
    drawn = (
        kept_share_bars(shares, evidence.name),
        score_distributions(evidence),
        score_scatter(evidence),
    )
    return Section(
        key="selection" if number == 0 else f"selection-{number + 1}",
        title=f"Selection of pairs, {evidence.name}",
        pictures=tuple(picture for picture in drawn if picture is not None),
        tables=(),
        short="Selection" if number == 0 else f"Selection {number + 1}",
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
