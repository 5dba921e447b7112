"""Small multiples of the evidence: which tasks get a panel, how panels are laid out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.report.pictures import (
    COLUMN,
    DASHES,
    PAGE,
    SMALL,
    TALLEST,
    colour,
    distinct,
    drawing,
    mark,
    shorten,
    small_multiples,
)
from medmcl.evaluation.report.words import about_what, fraction_name, span_name

MOST_PANELS = 6
MOST_LINES = 5  # methods drawn in a panel; all are in the table
PANEL_COLUMNS = 2


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What is drawn for one task and target: the method of the report first.

    Attributes:
        title: Task, and target where it says more.
        lines: One a method, the highlighted one first.
    """

    title: str
    lines: tuple[TaskEvidence, ...]

    @property
    def first(self) -> TaskEvidence:
        """The method the panel is about."""
        return self.lines[0]


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


def by_when(one: TaskEvidence) -> str:
    """The horizon of a survival task as a panel's title says it; empty for others."""
    return "" if one.horizon is None else f", by {span_name(one.horizon, one.unit)}"


def rest_of(panels: Sequence[object], what: str = "others") -> str:
    """Say how many panels are in the table only; empty if none."""
    more = len(panels) - MOST_PANELS
    return f" The first {MOST_PANELS}; {more} {what} are in the table." if more > 0 else ""


def drawn_of(panels: Sequence[Panel]) -> str:
    """Say that some methods are in the table only; empty if none."""
    most = max(len(panel.lines) for panel in panels)
    return f" {MOST_LINES} of {most} methods are drawn." if most > MOST_LINES else ""


@contextmanager
def grid(
    panels: Sequence[object], height: float, strip: float = 0.0
) -> Iterator[tuple[Any, list[Any]]]:
    """Give a figure with a cell a panel, one column of print wide for one panel.

    Args:
        panels: What is drawn; the first `MOST_PANELS` of it.
        height: Inches of a panel; less where all would not fit a page.
        strip: Inches of a second, lower axis in each panel; 0 for none.

    Yields:
        The figure, and an axis (or a pair of them) for each panel.
    """
    count = min(len(panels), MOST_PANELS)
    columns = min(PANEL_COLUMNS, count)
    width = COLUMN if columns == 1 else PAGE
    if not strip:
        with small_multiples(count, height, PANEL_COLUMNS, width) as (figure, axes):
            yield figure, list(axes.flat[:count])
        return
    lines = -(-count // columns)
    height = min(height, TALLEST / lines - strip)
    ratios = {"height_ratios": [height, strip] * lines}
    whole = lines * (height + strip)
    with drawing(width, whole, 2 * lines, columns, gridspec_kw=ratios) as (figure, axes):
        pairs = list(zip(axes[::2].flat, axes[1::2].flat, strict=True))
        for spare in (one for pair in pairs[count:] for one in pair):
            spare.axis("off")
        yield figure, pairs[:count]


def head(axes: Any, title: str, second: str) -> None:
    """Write the title of a panel with a smaller second line, clear of what is drawn."""
    lines = second.count("\n") + 1
    axes.set_title(shorten(title, 36) + lines * "\n", fontsize=9)
    axes.text(0, 1.03, second, transform=axes.transAxes, fontsize=SMALL, color="#444444")


def keys(figure: Any, entries: Sequence[tuple[Any, str]], columns: int = 2) -> None:
    """Put one legend below all panels; the same name stands once."""
    once: dict[str, Any] = {}
    for handle, label in entries:
        once.setdefault(label, handle)
    if once:
        wide = figure.get_size_inches()[0] > COLUMN
        names = distinct(list(once), 38)
        figure.legend(
            list(once.values()), [names[name] for name in once], loc="outside lower left",
            fontsize=SMALL, ncols=columns if wide else 1, handlelength=2.2, columnspacing=1.4,
        )  # fmt: skip


def looks(methods: Sequence[str], method: str) -> dict[str, Any]:
    """Colour, dash and marker of a method: told apart without colour too."""
    place = methods.index(method)
    return {
        "color": colour(place),
        "linestyle": DASHES[place % len(DASHES)],
        "marker": mark(place),
    }


def methods_of(panels: Sequence[Panel]) -> list[str]:
    """Every method drawn, highlighted ones first."""
    firsts = [panel.first.method for panel in panels]
    return list(dict.fromkeys([*firsts, *(one.method for p in panels for one in p.lines)]))


def about(one: TaskEvidence) -> tuple[str, ...]:
    """First cells of a table row: which task, target, method, protocol and share of labels."""
    return (one.task, one.target, one.method, one.protocol.replace("_", " "),
            fraction_name(one.label_fraction))  # fmt: skip


ABOUT = ("task", "target", "method", "protocol", "labels")
