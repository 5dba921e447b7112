"""Forest plots over subgroups: with counts, and with the names of groups too small to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medmcl.evaluation.aspects.tasks.panels import head, rest_of
from medmcl.evaluation.protocol.evidence import SubgroupRow
from medmcl.evaluation.report.pictures import (
    COLOURS,
    PAGE,
    SMALL,
    Picture,
    drawing,
    encode,
    pages,
    shorten,
    whisker,
)
from medmcl.evaluation.report.words import (
    about_what,
    counts_shown,
    fraction_name,
    group_value,
    metric_name,
)

MOST_TASKS = 6
MOST_GROUPS = 40  # lines of a panel; all are in the table
LINE = 0.185  # inches a line
WIDTH = 5.4  # points a letter of a label, on average


def subgroup_forest(rows: Sequence[SubgroupRow], highlight: str) -> Picture | None:
    """Draw the first metric of each task in every subgroup, for the highlighted method."""
    panels = [_of_task(rows, task, highlight) for task in dict.fromkeys(row.task for row in rows)]
    panels = [panel for panel in panels if panel]
    if not panels:
        return None
    drawn = panels[:MOST_TASKS]
    layouts = [_layout(panel[:MOST_GROUPS]) for panel in drawn]
    heights = [LINE * len(layout) + 0.9 for layout in layouts]
    images = []
    for page in pages(heights):
        own = [heights[k] for k in page]
        ratios = {"height_ratios": own}
        with drawing(PAGE, sum(own), len(own), gridspec_kw=ratios) as (figure, axes):
            for (place,), k in zip(axes, page, strict=True):
                _panel(place, drawn[k], layouts[k])
            images.append(encode(figure))
    hidden = sum(max(0, len(panel) - MOST_GROUPS) for panel in drawn)
    return Picture.of(
        images,
        title="Subgroups",
        aid="Dot = value in that group, line = 95 % interval, dashed line = everyone. Wide "
        "intervals of small groups say little; a group that lies apart needs a look."
        + rest_of(panels)
        + (f" {hidden} groups are in the table only." if hidden else ""),
        lead="Forest plot over subgroups",
        said=[_said(r) for p in drawn for r in p],
        header=("task", "target", "method", "metric", "labels", "by", "group",
                "value (95 % interval)", "n", "events", "subjects", "note"),
        rows=[_cells(row) for row in rows],
    )  # fmt: skip


def _of_task(rows: Sequence[SubgroupRow], task: str, highlight: str) -> list[SubgroupRow]:
    """Rows of one target and metric, of the highlighted method if it has any."""
    own = [row for row in rows if row.task == task]
    own = [row for row in own if row.method == highlight] or [
        row for row in own if row.method == own[0].method
    ]
    most = max(row.label_fraction for row in own)
    first = own[0]
    return [
        row
        for row in own
        if (row.target, row.metric, row.label_fraction) == (first.target, first.metric, most)
    ]


def _layout(panel: Sequence[SubgroupRow]) -> list[tuple[str, SubgroupRow | None]]:
    """Lines: everyone, then a heading for each attribute with its groups."""
    lines: list[tuple[str, SubgroupRow | None]] = []
    for attribute in dict.fromkeys(row.attribute for row in panel):
        own = [row for row in panel if row.attribute == attribute]
        if attribute == "everyone":
            lines += [("everyone", row) for row in own]
            continue
        lines.append((shorten(attribute, 30), None))
        lines += [(f"   {shorten(row.group, 30)}", row) for row in own]
    return lines


def _panel(
    axes: Any, panel: Sequence[SubgroupRow], layout: Sequence[tuple[str, SubgroupRow | None]]
) -> None:
    for place, (_, row) in enumerate(layout):
        if row is None:
            continue
        if row.value is None:
            text = group_value(row)
            axes.text(0.02, place, text, transform=axes.get_yaxis_transform(), va="center_baseline",
                      fontsize=SMALL, color="#666666", style="italic")  # fmt: skip
        else:
            whole = row.attribute == "everyone"
            look, mark = (COLOURS[6], "D") if whole else (COLOURS[0], "o")
            whisker(axes, row, place, look, mark, size=5, wide=1.6)
        counts = _counts(row)
        axes.text(1.02, place, counts, transform=axes.get_yaxis_transform(), va="center_baseline",
                  fontsize=8)  # fmt: skip
    among = next((row.value for _, row in layout if row and row.attribute == "everyone"), None)
    if among is not None:
        axes.axvline(among, color="#777777", linestyle="--", linewidth=0.9)
    axes.set_yticks(range(len(layout)), [label for label, _ in layout], ha="left")
    axes.tick_params(axis="y", length=0, pad=WIDTH * max(len(label) for label, _ in layout) + 10)
    for label, (_, row) in zip(axes.get_yticklabels(), layout, strict=True):
        label.set_fontweight("normal" if row is not None else "bold")
    axes.set_ylim(len(layout) - 0.4, -0.7)
    axes.text(1.02, -0.9, "n (events)", transform=axes.get_yaxis_transform(), va="bottom",
              fontsize=8, color="#444444")  # fmt: skip
    first = panel[0]
    head(axes, about_what(first.task, first.target), shorten(first.method, 50))
    better = {"higher": "higher is better", "lower": "lower is better"}.get(first.direction, "")
    axes.set_xlabel(metric_name(first.metric) + (f" ({better})" if better else ""))
    axes.grid(axis="x")


def _said(row: SubgroupRow) -> str:
    group = "everyone" if row.attribute == "everyone" else f"{row.attribute} {row.group}"
    return f"{row.task}, {metric_name(row.metric)}, {group}: {group_value(row)}"


def _counts(row: SubgroupRow) -> str:
    if row.n is None:
        return "-"
    return counts_shown(row.n, row.events, row.target)


def _cells(row: SubgroupRow) -> tuple[object, ...]:
    counts = ("-" if one is None else f"{one:,}" for one in (row.n, row.events, row.subjects))
    return (
        row.task, row.target, row.method, metric_name(row.metric),
        fraction_name(row.label_fraction), row.attribute, row.group, group_value(row), *counts,
        row.note,
    )  # fmt: skip
