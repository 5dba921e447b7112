"""Figures of results: forest plot of tasks, forest plot of gains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.report.labelled import Labelled
from medmcl.evaluation.report.pictures import (
    PAGE,
    TALLEST,
    Picture,
    canvas,
    cells,
    colour,
    encode,
    mark,
    pages,
    shorten,
    spoken,
    style,
)
from medmcl.evaluation.report.words import fraction_name, measured
from medmcl.evaluation.results import Result, difference_rows, flipped, headline_rows

MOST_TASKS = 6  # with a panel of their own; every task is in the table
LABEL = 44  # letters of the name of a line
LINE, EDGE = 0.2, 0.85  # inches of a line of a forest, and of what is around its lines


def task_forest(results: Sequence[Result], labelled: Labelled | None = None) -> Picture | None:
    """Draw each task's main metric for every method and label fraction, with intervals.

    Args:
        results: All rows.
        labelled: Says how many people a label fraction is.
    """
    known = labelled or Labelled()
    panels = {
        task: headline_rows(results, task) for task in dict.fromkeys(row.task for row in results)
    }
    panels = {t: rows for t, rows in panels.items() if any(r.value is not None for r in rows)}
    if not panels:
        return None
    every, panels = panels, _first(panels)
    methods = list(dict.fromkeys(row.method for row in results if not row.versus))

    def finish(axes: Any, row: Result) -> None:
        better = "higher" if row.direction == "higher" else "lower"
        axes.set_xlabel(f"{measured(row.metric, row.target)} ({better} is better)")
        spec = SPECS.get(row.metric)
        if spec is not None and spec.chance is not None:
            axes.axvline(spec.chance, color="#777777", linestyle="--", linewidth=0.9)

    with style():
        images = _images(panels, methods, finish, known)
        return Picture(
            title="What can be predicted",
            aid="Dot = value on subjects it was not fitted on (held-out, or out of fold where the "
            "protocol says so), line = 95 % bootstrap interval over subjects; "
            "dashed = a prediction that knows nothing. Overlapping lines do not mean 'no "
            "difference': the paired gains below answer that." + _rest(every),
            src=images[0],
            further=images[1:],
            alt=spoken(
                "Forest plot of task results",
                [f"{r.task}, {_said(r)} {r.shown}" for rows in every.values() for r in rows],
            ),
            header=(
                "task", "metric", "method", "protocol", "labels", "value (95 % interval)",
                "n", "events", "spread over seeds", "note",
            ),
            rows=cells([_cells(row, known) for rows in every.values() for row in rows]),
        )  # fmt: skip


def _first(panels: Mapping[str, list[Result]]) -> dict[str, list[Result]]:
    """The tasks that get a panel."""
    return dict(itertools.islice(panels.items(), MOST_TASKS))


def _rest(panels: Mapping[str, object]) -> str:
    more = len(panels) - MOST_TASKS
    return f" The first {MOST_TASKS} tasks; {more} more are in the table." if more > 0 else ""


Finish = Callable[[Any, Result], None]
"""Draws what a kind of forest adds to a panel, told one of its rows."""


def _images(
    panels: Mapping[str, Sequence[Result]],
    methods: Sequence[str],
    finish: Finish,
    labelled: Labelled,
) -> tuple[str, ...]:
    """Forests of every task, as few images as fit a page each."""
    tasks = list(panels)
    layouts = {task: _layout(panels[task], methods, labelled) for task in tasks}
    same = len({tuple(label for label, _ in layout) for layout in layouts.values()}) == 1
    longest = max(len(label) for layout in layouts.values() for label, _ in layout)
    columns = min(2 if same or longest <= LABEL // 2 else 1, len(tasks))
    tallest = max(len(layout) for layout in layouts.values())
    height = min(LINE, (TALLEST - EDGE) / tallest) * tallest + EDGE
    lines = [tasks[k : k + columns] for k in range(0, len(tasks), columns)]
    images = []
    for page in pages([height] * len(lines)):
        figure, grid = canvas(PAGE, height * len(page), rows=len(page), columns=columns)
        shown = [task for k in page for task in lines[k]]
        for axes in grid.flat[len(shown) :]:
            axes.axis("off")
        for number, (axes, task) in enumerate(zip(grid.flat, shown, strict=False)):
            named = not same or number % columns == 0
            _panel(axes, layouts[task], methods, named=named)
            axes.set_title(shorten(task, 28 if columns > 1 else 60))
            finish(axes, panels[task][0])
        images.append(encode(figure))
    return tuple(images)


def _panel(
    axes: Any, layout: Sequence[tuple[str, Result | None]], methods: Sequence[str], *, named: bool
) -> None:
    """One forest; without the names of its lines where the panel at its left has them."""
    for place, (_, row) in enumerate(layout):
        if row is not None:
            position = methods.index(row.versus or row.method)
            whisker(axes, row, place, colour(position), mark(position))
    axes.set_yticks(range(len(layout)), [label if named else "" for label, _ in layout])
    for label, (_, row) in zip(axes.get_yticklabels(), layout, strict=True):
        label.set_fontweight("normal" if row is not None else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(layout) - 0.4, -0.6)
    axes.grid(axis="x")


def _layout(
    rows: Sequence[Result], methods: Sequence[str], labelled: Labelled
) -> list[tuple[str, Result | None]]:
    """Lines of a forest: a heading for each label fraction (most first), then its methods."""
    fractions = sorted({row.label_fraction for row in rows}, reverse=True)
    mixed = len({row.protocol for row in rows}) > 1
    lines: list[tuple[str, Result | None]] = []
    for fraction in fractions:
        if len(fractions) > 1:
            lines.append((labelled.share(rows[0].task, fraction), None))
        group = [row for row in rows if row.label_fraction == fraction]
        group.sort(key=lambda row: methods.index(row.versus or row.method))
        lines += [(_label(row, mixed), row) for row in group]
    return lines


def _label(row: Result, mixed: bool) -> str:
    """Name of a line; with its protocol where a figure mixes several."""
    name = shorten(f"over {row.versus}" if row.versus else row.method, 28)
    if not mixed or row.versus or row.protocol == row.method:
        return name
    protocol = row.protocol.replace("_", " ").partition(" by ")[0]
    return shorten(f"{name}, {protocol}", LABEL)


def _cells(row: Result, labelled: Labelled) -> tuple[object, ...]:
    return (
        row.task,
        measured(row.metric, row.target),
        row.method,
        row.protocol.replace("_", " "),
        labelled.share(row.task, row.label_fraction, row.method),
        row.shown,
        f"{row.n:,}",
        "-" if row.events is None else f"{row.events:,}",
        "-" if row.seed_spread is None else f"{row.seed_spread:.3f} ({row.seeds})",
        row.note,
    )


def _said(row: Result) -> str:
    """Metric and method in words."""
    over = f" minus {row.versus}" if row.versus else ""
    labels = f", {fraction_name(row.label_fraction)}"
    return f"{measured(row.metric, row.target)} of {row.method}{over}{labels}:"


def whisker(axes: Any, row: Result, place: float, look: str, mark: str) -> None:
    """Draw a value with its interval at a height of a forest, or say that there is none."""
    if row.value is None:
        axes.text(0.02, place, "not estimable", transform=axes.get_yaxis_transform(), fontsize=8)
        return
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=look, linewidth=2)
    axes.plot([row.value], [place], marker=mark, color=look, markersize=6, linestyle="")


def gain_forest(
    results: Sequence[Result], highlight: str, labelled: Labelled | None = None
) -> Picture | None:
    """Draw paired differences between the highlighted method and each other one.

    Args:
        results: All rows.
        highlight: The method the report is about; differences are turned to read "it minus other".
        labelled: Says how many people a label fraction is.
    """
    rows: list[Result] = []
    for task in dict.fromkeys(row.task for row in results):
        for row in difference_rows(results, task):
            turned = flipped(row) if row.versus == highlight else row
            if turned.value is not None and turned.method == highlight:
                rows.append(turned)
    if not rows:
        return None
    methods = list(dict.fromkeys(row.method for row in results if not row.versus))
    tasks = dict.fromkeys(row.task for row in rows)
    every = {task: [row for row in rows if row.task == task] for task in tasks}
    panels = _first(every)

    def finish(axes: Any, row: Result) -> None:
        better = "right" if row.direction == "higher" else "left"
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_xlabel(f"difference in {measured(row.metric, row.target)} ({better} is better)")

    with style():
        images = _images(panels, methods, finish, labelled or Labelled())
        return Picture(
            title=f"Gain of {shorten(highlight)} over each other method",
            aid="Paired over the same subjects: a line that does not cross 0 is a "
            "difference that the sample of subjects does not explain." + _rest(every),
            src=images[0],
            further=images[1:],
            alt=spoken(
                "Forest plot of paired differences",
                [f"{row.task}, {_said(row)} {row.shown}" for row in rows],
            ),
            header=(
                "task", "metric", "difference", "labels", "value (95 % interval)",
                "n", "spread over seeds", "note",
            ),
            rows=cells([_gain_cells(row) for row in rows]),
        )  # fmt: skip


def _gain_cells(row: Result) -> tuple[object, ...]:
    return (
        row.task,
        measured(row.metric, row.target),
        f"{row.method} minus {row.versus}",
        fraction_name(row.label_fraction),
        row.shown,
        f"{row.n:,}",
        "-" if row.seed_spread is None else f"{row.seed_spread:.3f} ({row.seeds})",
        row.note,
    )
