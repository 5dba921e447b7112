"""Share kept of every group: bars with intervals, so that a group that is left out is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medmcl.evaluation.aspects.selection.kept_shares import EVERYONE, KeptShare
from medmcl.evaluation.report.pictures import (
    COLOURS,
    INK,
    PAGE,
    SMALL,
    Picture,
    drawing,
    encode,
    pages,
    shorten,
)

LINE = 0.2  # inches a line
MOST_GROUPS = 24  # lines of an attribute, those with a warning first; all are in the table
LETTER = 5.4  # points a letter of a label, on average
HEADED = 0.75  # inches of a figure beside its lines


def kept_share_bars(shares: Sequence[KeptShare], name: str) -> Picture:
    """Draw the share kept of all pairs and of each group.

    Args:
        shares: All pairs first, then the groups of each attribute.
        name: Of the selection.
    """
    whole = shares[0]
    attributes = list(dict.fromkeys(one.attribute for one in shares[1:]))
    parts = [_drawn([one for one in shares if one.attribute == key]) for key in attributes]
    hidden = len(shares) - 1 - sum(map(len, parts))
    blocks: list[list[KeptShare | str]] = [[whole]]
    for key, part in zip(attributes, parts, strict=True):
        blocks.append([key, *part])
    highest = max([one.high or 0.0 for one in shares] + [0.02])
    images = []
    for page in pages([LINE * len(block) for block in blocks]):
        lines = [line for k in page for line in blocks[k]]
        with drawing(PAGE, LINE * len(lines) + HEADED) as (figure, ((axes,),)):
            _bars(axes, lines, whole, min(1.0, highest * 1.04))
            images.append(encode(figure))
    return Picture.of(
        images,
        title=f"Share kept by group, {name}",
        aid="A bar is the share of a group's pairs that is kept, the line on it its 95 % interval, "
        "the dashed line the share kept of all. Orange: less than half of that, of at least 20 "
        "pairs. Intervals are as if pairs were kept by chance."
        + (f" {hidden} groups are in the table only." if hidden else "")
        + ("" if attributes else " The cohort names no classes and no subgroups."),
        lead="Bars of the share kept",
        said=[_said(one) for one in shares],
        header=("by", "group", "pairs", "kept", "share kept (95 % interval)", "note"),
        rows=[_cells(one) for one in shares],
    )


def _drawn(part: Sequence[KeptShare]) -> list[KeptShare]:
    """The groups with a warning and the first others, in their order."""
    chosen = sorted(range(len(part)), key=lambda k: not part[k].is_low)[:MOST_GROUPS]
    return [part[k] for k in sorted(chosen)]


def _bars(
    axes: Any, lines: Sequence[KeptShare | str], whole: KeptShare, highest: float
) -> None:  # fmt: skip
    assert whole.share is not None
    across = axes.get_yaxis_transform()
    for place, line in enumerate(lines):
        if isinstance(line, str):
            continue
        if line.share is None:
            look = COLOURS[1] if line.is_low else "#666666"
            axes.text(0.01, place, line.note, transform=across, va="center_baseline",
                      fontsize=SMALL, color=look, style="italic")  # fmt: skip
        else:
            _bar(axes, line, place)
        axes.text(1.02, place, _counts(line), transform=across, va="center_baseline", fontsize=8)
    axes.axvline(whole.share, color="#555555", linestyle="--", linewidth=0.9)
    labels = [shorten(x, 40) if isinstance(x, str) else _label(x) for x in lines]
    axes.set_yticks(range(len(lines)), labels, ha="left")
    axes.tick_params(axis="y", length=0, pad=LETTER * max(map(len, labels)) + 10)
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        bold = isinstance(line, str) or line.is_low or line.attribute == EVERYONE
        label.set_fontweight("bold" if bold else "normal")
    axes.set_ylim(len(lines) - 0.4, -0.7)
    axes.set_xlim(0, highest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("share kept")
    axes.grid(axis="x")
    axes.text(1.02, -0.85, "kept of", transform=across, va="bottom", fontsize=8, color="#444444")


def _bar(axes: Any, line: KeptShare, place: float) -> None:
    shade = COLOURS[1] if line.is_low else COLOURS[0]
    grey = "#8A8A8A" if line.attribute == EVERYONE else shade
    axes.barh(place, line.share, height=0.62, color=grey, alpha=0.75)
    axes.plot([line.low, line.high], [place, place], color=INK, linewidth=1.1)


def _label(line: KeptShare) -> str:
    return EVERYONE if line.attribute == EVERYONE else f"   {shorten(line.group, 34)}"


def _counts(line: KeptShare) -> str:
    return "-" if line.n is None else f"{line.kept:,} of {line.n:,}"


def _said(line: KeptShare) -> str:
    group = EVERYONE if line.attribute == EVERYONE else f"{line.attribute} {line.group}"
    return f"{group}: " + (line.note if line.share is None else f"{line.share:.1%}")


def _cells(line: KeptShare) -> tuple[object, ...]:
    if line.share is None or line.n is None or line.kept is None:
        return line.attribute, line.group, "-", "-", "-", line.note
    interval = f"{line.share:.1%} ({line.low:.1%} to {line.high:.1%})"
    note = "less than half of the overall share" if line.is_low else ""
    return line.attribute, line.group, f"{line.n:,}", f"{line.kept:,}", interval, note
