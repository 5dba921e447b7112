"""Small multiples of the evidence: which tasks get a panel, how panels are drawn and named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.report.captions import Caption
from medmcl.evaluation.report.columns import Column
from medmcl.evaluation.report.pictures import (
    COLUMN,
    DASHES,
    PAGE,
    SMALL,
    Picture,
    colour,
    legend_below,
    mark,
    small_multiples,
)
from medmcl.evaluation.report.words import about_what, span_name

MOST_PANELS = 6
MOST_LINES = 5  # methods drawn in a panel; all are in the table
PANEL_COLUMNS = 2
ABOUT: tuple[Column, ...] = ("task", "target", "method", "protocol", "labels")
"""First columns of a table of evidence."""
LABELLED = ("task", "target", "kind", "method", "protocol", "label_fraction", "split",
            "resampling", "horizon", "unit")  # fmt: skip


def about(one: TaskEvidence) -> dict[str, Any]:
    """First values of a row of a file: what it is evidence of."""
    return {name: getattr(one, name) for name in LABELLED}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is drawn for one task and target: the method of the report first.

    Attributes:
        title: Task, and target where it says more; of survival also the horizon.
        lines: One a method, the highlighted one first.
    """

    title: str
    lines: tuple[TaskEvidence, ...]

    @property
    def first(self) -> TaskEvidence:
        """The method the panel is about."""
        return self.lines[0]

    @property
    def dated(self) -> str:
        """The title, of a survival task with its horizon."""
        return f"{self.title}{by_when(self.first)}"


def by_when(one: TaskEvidence) -> str:
    """The horizon of a survival task as a panel's title says it; empty for others."""
    return "" if one.horizon is None else f", by {span_name(one.horizon, one.unit)}"


def panels_of(found: Sequence[TaskEvidence], highlight: str) -> list[Panel]:
    """Group by task, target and people scored, at the most labels, the highlighted method first.

    A panel without the highlighted method is about its first one.
    """
    panels = []
    for key in dict.fromkeys((one.task, one.target) for one in found):
        own = [one for one in found if (one.task, one.target) == key]
        most = max(one.label_fraction for one in own)
        own = [one for one in own if one.label_fraction == most]
        own.sort(key=lambda one: one.method != highlight)
        for people in dict.fromkeys(one.people for one in own):
            lines = tuple(one for one in own if one.people == people)
            panels.append(Panel(title=about_what(key[0], key[1]), lines=lines))
    return panels


def rest_of(panels: Sequence[object]) -> str:
    """Say how many panels are in the table only; empty if none."""
    more = len(panels) - MOST_PANELS
    return f"The first {MOST_PANELS}; {more} others are in the table." if more > 0 else ""


def evidence_picture(
    panels: Sequence[Panel],
    draw: Callable[[Any, Panel, Callable[[str], dict[str, Any]]], None],
    said: Callable[[Panel], Iterable[str]],
    *,
    called: Caption,
    height: float,
    strip: float = 0.0,
    columns: int = 2,
    **told: Any,
) -> Picture | None:
    """Draw the first panels, two beside one another, with one legend below; None of none.

    Args:
        panels: What is drawn.
        draw: Draws a panel on its axes (on a pair of them with a strip), told the look of a method
            by its name; what is labelled is in the legend.
        said: Main numbers of a panel, in words.
        called: Its caption.
        height: Inches of a panel; less where all would not fit a page.
        strip: Inches of a second, lower axis in each panel; 0 for none.
        columns: Of the legend.
        told: As of `Picture.of`.
    """
    drawn = panels[:MOST_PANELS]
    if not drawn:
        return None
    methods = [panel.first.method for panel in drawn]
    methods += [one.method for panel in drawn for one in panel.lines]
    known = looks(methods)
    width = COLUMN if len(drawn) == 1 else PAGE
    with small_multiples(len(drawn), height, PANEL_COLUMNS, width, strip) as (figure, places):
        for axes, panel in zip(places, drawn, strict=True):
            draw(axes, panel, known.__getitem__)
        legend_below(figure, columns, fontsize=SMALL, handlelength=2.2, columnspacing=1.4)
        return Picture.of(
            figure,
            called,
            said=[text for panel in drawn for text in said(panel)],
            narrow=len(panels) == 1,
            **told,
        )


def drawn_of(panels: Sequence[Panel]) -> str:
    """Say which panels, and which methods, are in the table only; empty if none."""
    most = max((len(panel.lines) for panel in panels), default=0)
    lines = f"{MOST_LINES} of {most} methods are drawn." if most > MOST_LINES else ""
    return " ".join(said for said in (rest_of(panels), lines) if said)


def looks(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dash and marker of each method: told apart without colour too."""
    return {
        method: {"color": colour(k), "linestyle": DASHES[k % len(DASHES)], "marker": mark(k)}
        for k, method in enumerate(dict.fromkeys(methods))
    }
