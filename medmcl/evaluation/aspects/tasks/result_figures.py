"""Figures of results: forest plot of tasks, forest plot of gains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medmcl.core.suppression import few
from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.protocol.results import (
    Result,
    difference_rows,
    flipped,
    headline_rows,
    people,
)
from medmcl.evaluation.report.labelled import share_of
from medmcl.evaluation.report.pictures import (
    PAGE,
    SMALL,
    TALLEST,
    Picture,
    colour,
    drawing,
    encode,
    mark,
    pages,
    shorten,
    whisker,
)
from medmcl.evaluation.report.words import fraction_name, measured

MOST_TASKS = 6  # with a panel of their own; every task is in the table
LABEL = 38  # letters of the name of a line
LINE, EDGE = 0.2, 0.85  # inches of a line of a forest, and of what is around its lines


def task_forest(results: Sequence[Result]) -> Picture | None:
    """Draw each task's main metric for every method and label fraction, with intervals.

    Rows that were scored on different people have panels of their own.

    Args:
        results: All rows.
    """
    panels = by_people(
        [row for task in dict.fromkeys(r.task for r in results)
         for row in headline_rows(results, task)]
    )  # fmt: skip
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

    return Picture.of(
        _images(panels, methods, finish),
        title="What can be predicted",
        aid="Dot = value on subjects it was not fitted on, line = 95 % bootstrap interval over "
        "subjects; dashed = a prediction that knows nothing. Overlapping lines do not mean 'no "
        "difference': the paired differences below answer that." + _rest(every),
        lead="Forest plot of task results",
        said=[f"{r.task}, {_said(r)} {r.shown}" for rows in every.values() for r in rows],
        header=(
            "task", "metric", "method", "protocol", "labels", "value (95 % interval)",
            "n", "events", "spread over seeds", "note",
        ),
        rows=[_cells(row) for rows in every.values() for row in rows],
    )  # fmt: skip


def by_people(rows: Sequence[Result]) -> dict[str, list[Result]]:
    """Rows of each panel: one task, one set of people; its title says both."""
    found: dict[tuple[object, ...], list[Result]] = {}
    for row in rows:
        found.setdefault((row.task, *people(row)), []).append(row)
    return {_title(own[0]): own for own in found.values()}


def _title(row: Result) -> str:
    """Task, people and events; the split where it is not held_out."""
    whole = row.target in ("macro", "all classes")
    events = "" if row.events is None or whole else f", {few(row.events)} events"
    split = "" if row.split == "held_out" else f", {row.split.replace('_', ' ')}"
    return f"{row.task} ({few(row.subjects or row.n)} people{events}{split})"


def _first(panels: Mapping[str, list[Result]]) -> dict[str, list[Result]]:
    """The tasks that get a panel."""
    return dict(itertools.islice(panels.items(), MOST_TASKS))


def _rest(panels: Mapping[str, object]) -> str:
    more = len(panels) - MOST_TASKS
    return f" The first {MOST_TASKS} tasks; {more} more are in the table." if more > 0 else ""


Finish = Callable[[Any, Result], None]
"""Draws what a kind of forest adds to a panel, told one of its rows."""


def _images(
    panels: Mapping[str, Sequence[Result]], methods: Sequence[str], finish: Finish
) -> list[str]:
    """Forests of every panel under one another, as few images as fit a page each."""
    layouts = {title: _layout(rows, methods) for title, rows in panels.items()}
    heights = [
        min(LINE, (TALLEST - EDGE) / len(layout)) * len(layout) + EDGE
        for layout in layouts.values()
    ]
    titles, images = list(panels), []
    for page in pages(heights):
        own = [heights[k] for k in page]
        ratios = {"height_ratios": own}
        with drawing(PAGE, sum(own), len(own), gridspec_kw=ratios) as (figure, grid):
            for (axes,), k in zip(grid, page, strict=True):
                _panel(axes, layouts[titles[k]], methods)
                axes.set_title(shorten(titles[k], 70))
                finish(axes, panels[titles[k]][0])
            images.append(encode(figure))
    return images


def _panel(axes: Any, layout: Sequence[tuple[str, Result | None]], methods: Sequence[str]) -> None:
    """One forest: names at its left, values at its right."""
    for place, (_, row) in enumerate(layout):
        if row is not None:
            position = methods.index(row.versus or row.method)
            whisker(axes, row, place, colour(position), mark(position))
            if row.value is not None:
                axes.text(1.02, place, row.shown, transform=axes.get_yaxis_transform(),
                          va="center_baseline", fontsize=SMALL)  # fmt: skip
    axes.set_yticks(range(len(layout)), [label for label, _ in layout])
    for label, (_, row) in zip(axes.get_yticklabels(), layout, strict=True):
        label.set_fontweight("normal" if row is not None else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(layout) - 0.4, -0.6)
    axes.grid(axis="x")


def _layout(rows: Sequence[Result], methods: Sequence[str]) -> list[tuple[str, Result | None]]:
    """Lines of a forest: a heading for each label fraction (most first), then its methods."""
    fractions = sorted({row.label_fraction for row in rows}, reverse=True)
    lines: list[tuple[str, Result | None]] = []
    for fraction in fractions:
        group = [row for row in rows if row.label_fraction == fraction]
        group.sort(key=lambda row: methods.index(row.versus or row.method))
        if len(fractions) > 1:
            fitted = [row for row in group if row.train_subjects] or group
            lines.append((share_of(fitted), None))
        lines += [(_label(row, group), row) for row in group]
    return lines


def _label(row: Result, group: Sequence[Result]) -> str:
    """The method's own name; with its protocol where one name was predicted from in two ways."""
    name = shorten(f"over {row.versus}" if row.versus else row.method, LABEL)
    alike = {one.protocol for one in group if (one.method, one.versus) == (row.method, row.versus)}
    if len(alike) < 2:
        return name
    return shorten(f"{name}, {row.protocol.replace('_', ' ')}", LABEL)


def _cells(row: Result) -> tuple[object, ...]:
    return (
        row.task,
        measured(row.metric, row.target),
        row.method,
        row.protocol.replace("_", " "),
        share_of([row]),
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


def gain_forest(results: Sequence[Result], highlight: str) -> Picture | None:
    """Draw paired differences between the highlighted method and each other one.

    Args:
        results: All rows.
        highlight: The method the report is about; differences are turned to read "it minus other".
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
    every = by_people(rows)
    panels = _first(every)

    def finish(axes: Any, row: Result) -> None:
        better = "right" if row.direction == "higher" else "left"
        axes.axvline(0, color="black", linewidth=0.9)
        axes.set_xlabel(f"difference in {measured(row.metric, row.target)} ({better} is better)")

    return Picture.of(
        _images(panels, methods, finish),
        title=f"Gain of {shorten(highlight)} over each other method",
        aid="Paired over the same subjects: a line that does not cross 0 is a difference that the "
        "sample of subjects does not explain." + _doubted(rows) + _rest(every),
        lead="Forest plot of paired differences",
        said=[f"{row.task}, {_said(row)} {row.shown}" for row in rows],
        header=(
            "task", "metric", "difference", "labels", "value (95 % interval)",
            "n", "spread over seeds", "note",
        ),
        rows=[_gain_cells(row) for row in rows],
    )  # fmt: skip


def _doubted(rows: Sequence[Result]) -> str:
    """Say of which lines that does not hold."""
    said = {row.untested.partition(" (")[0] for row in rows} - {""}
    return f" Not where the note says: {' or '.join(sorted(said))}." if said else ""


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
