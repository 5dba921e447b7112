"""Forest plots over subgroups: with counts, and with the names of groups too small to show."""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.evaluation.aspects.tasks.panels import rest_of
from medmcl.evaluation.protocol.evidence import SubgroupRow
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import VALUE, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.pictures import Picture, shorten
from medmcl.evaluation.report.small_words import hides
from medmcl.evaluation.report.words import about_what, counts_shown, metric_name

MOST_TASKS = 6
MOST_GROUPS = 40  # lines of a panel; all are in the table
EVERYONE, OF_GROUP = 6, 0  # how dots look: of everyone, of a group


def subgroup_forest(rows: Sequence[SubgroupRow], highlight: str) -> Picture | None:
    """Draw the first metric of each task in every subgroup, for the highlighted method."""
    every = [_of_task(rows, task, highlight) for task in dict.fromkeys(row.task for row in rows)]
    panels = [panel for panel in every if any(row.value is not None for row in panel)]
    drawn = panels[:MOST_TASKS]
    if not drawn:
        return None
    hidden = sum(max(0, len(panel) - MOST_GROUPS) for panel in drawn)
    return Picture.of(
        planted([_forest(panel[:MOST_GROUPS]) for panel in drawn]),
        caption(__file__, "subgroups", hides=hides(drawn), rest=rest_of(panels), hidden=hidden),
        said=[_said(r) for p in drawn for r in p],
        **written(rows, "task", "target", "method", "metric", "labels", "by", "group", VALUE, "n",
                  "events", "subjects", "note"),
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


def _forest(panel: Sequence[SubgroupRow]) -> Forest:
    """Everyone, then a heading for each attribute with its groups."""
    lines: list[Line] = []
    for attribute in dict.fromkeys(row.attribute for row in panel):
        own = [row for row in panel if row.attribute == attribute]
        whole = attribute == "everyone"
        lines += [] if whole else [Line(label=shorten(attribute, 30), is_bold=True)]
        for row in own:
            lines.append(
                Line(
                    label="everyone" if whole else f"   {shorten(row.group, 30)}",
                    marks=[(row, EVERYONE if whole else OF_GROUP)] if row.value is not None else [],
                    instead="" if row.value is not None else row.shown,
                    beside="-"
                    if row.n is None
                    else counts_shown(row.n, row.events, row.target, row.subjects),
                )
            )
    first = panel[0]
    better = {"higher": "higher is better", "lower": "lower is better"}.get(first.direction, "")
    return Forest(
        lines=lines,
        xlabel=metric_name(first.metric) + (f" ({better})" if better else ""),
        title=about_what(first.task, first.target),
        second=shorten(first.method, 50),
        reference=next((row.value for row in panel if row.attribute == "everyone"), None),
        beside="n (events)",
        line=0.185,
        size=5,
        are_indented=True,
    )


def _said(row: SubgroupRow) -> str:
    group = "everyone" if row.attribute == "everyone" else f"{row.attribute} {row.group}"
    return f"{row.task}, {metric_name(row.metric)}, {group}: {row.shown}"
