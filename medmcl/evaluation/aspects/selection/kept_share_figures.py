"""Share kept of every group: bars with intervals, so that a group that is left out is seen."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.selection.kept_shares import EVERYONE, KeptShare
from medmcl.evaluation.report.columns import counted, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.pictures import Picture, shorten

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
        title=f"Share kept by group, {name}",
        aid="A bar is the share of a group's pairs that is kept, the line on it its 95 % interval, "
        "the dashed line the share kept of all. Orange: less than half of that, of at least 20 "
        "pairs. Intervals are as if pairs were kept by chance."
        + (f" {hidden} groups are in the table only." if hidden else "")
        + ("" if attributes else " The cohort names no classes and no subgroups."),
        lead="Bars of the share kept",
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
