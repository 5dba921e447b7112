"""What a selection kept: as a section of a report, in sentences, as rows, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.selection.evidence import ROWS, SelectionEvidence
from medmcl.evaluation.aspects.selection.figures import (
    score_distributions,
    score_rows,
    score_scatter,
)
from medmcl.evaluation.aspects.selection.kept_shares import (
    EVERYONE,
    KeptShare,
    kept_shares,
    share_warnings,
)
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.cards import Sheet
from medmcl.evaluation.report.columns import counted, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.pictures import Picture, shorten
from medmcl.evaluation.report.section import Said, Section


def sections(data: Evaluation) -> tuple[Section, ...]:
    """What each selection kept."""
    return selection_sections(data.shown.get("selection", ()), data.level)


def sentences(data: Evaluation) -> list[Said]:
    """How many pairs are kept, and of whom."""
    return [Said("Who", line) for line in selection_headline(data.shown.get("selection", ()))]


def files(data: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """Shares kept by group, and the scores."""
    found: list[SelectionEvidence] = data.shown.get("selection", [])
    return {
        "selection_groups": selection_rows(found, data.level),
        "selection_scores": [row for one in found for row in score_rows(one)],
    }


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


MOST_GROUPS = 24  # lines of an attribute, those with a warning first; all are in the table
OF_GROUP, LOW, ALL = 0, 1, 7  # how bars look


def kept_share_bars(shares: Sequence[KeptShare], name: str) -> Picture:
    """Draw the share kept of all pairs and of each group.

    Args:
        shares: All pairs first, then the groups of each attribute.
        name: Of the selection.
    """
    whole = shares[0]
    attributes = list(dict.fromkeys(one.attribute for one in shares[1:]))
    parts = {key: _drawn([one for one in shares if one.attribute == key]) for key in attributes}
    hidden = len(shares) - 1 - sum(map(len, parts.values()))
    lines = [_line(whole)]
    for key, part in parts.items():
        lines += [Line(label=shorten(key, 40), is_bold=True), *map(_line, part)]
    highest = max([one.high or 0.0 for one in shares] + [0.02])
    forest = Forest(
        lines=lines, xlabel="share kept", reference=whole.share, beside="kept of",
        span=(0, min(1.0, highest * 1.04)), size=5, are_bars=True, are_indented=True,
    )  # fmt: skip
    return Picture.of(
        planted(forest.parted()),
        caption(__file__, "kept", name=name, hidden=hidden, no_groups=not attributes),
        said=[_said(one) for one in shares],
        **written(shares, "by", "group", ("pairs", counted("n")), ("kept", counted("kept")),
                  ("share kept (95 % interval)", _share), ("note", _note)),
    )  # fmt: skip


def _share(one: KeptShare) -> str:
    return "-" if one.share is None else f"{one.share:.1%} ({one.low:.1%} to {one.high:.1%})"


def _note(one: KeptShare) -> str:
    low = "less than half of the overall share" if one.is_low else ""
    return one.note if one.share is None else low


def _drawn(part: Sequence[KeptShare]) -> list[KeptShare]:
    """The groups with a warning and the first others, in their order."""
    chosen = sorted(range(len(part)), key=lambda k: not part[k].is_low)[:MOST_GROUPS]
    return [part[k] for k in sorted(chosen)]


def _line(one: KeptShare) -> Line:
    """A bar with its counts; where there are too few people for it, why."""
    is_whole = one.attribute == EVERYONE
    look = LOW if one.is_low else ALL if is_whole else OF_GROUP
    return Line(
        label=EVERYONE if is_whole else f"   {shorten(one.group, 34)}",
        marks=[] if one.share is None else [(one, look)],
        instead=one.note if one.share is None else "",
        beside="-" if one.n is None else f"{one.kept:,} of {one.n:,}",
        is_bold=one.is_low or is_whole,
    )


def _said(line: KeptShare) -> str:
    group = EVERYONE if line.attribute == EVERYONE else f"{line.attribute} {line.group}"
    return f"{group}: " + (line.note if line.share is None else f"{line.share:.1%}")
