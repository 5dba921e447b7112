"""Figures of results: forest plot of tasks, forest plot of gains."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from medmcl.core.suppression import few
from medmcl.evaluation.metrics.predictions import SPECS
from medmcl.evaluation.protocol.results import (
    WHOLES,
    Result,
    difference_rows,
    flipped,
    headline_rows,
    people,
)
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import MEASURED, SHARE, VALUE, written
from medmcl.evaluation.report.forest import Forest, Line, planted
from medmcl.evaluation.report.labelled import share_of
from medmcl.evaluation.report.pictures import Picture, shorten
from medmcl.evaluation.report.words import fraction_name, measured

MOST_TASKS = 6  # with a panel of their own; every task is in the table
LABEL = 38  # letters of the name of a line


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
    rows = [row for own in panels.values() for row in own]
    return Picture.of(
        _images(panels, results),
        caption(__file__, "results", rest=_rest(panels)),
        said=[f"{row.task}, {_said(row)} {row.shown}" for row in rows],
        **written(rows, "task", MEASURED, "method", "protocol", SHARE, VALUE, "n", "events",
                  "spread over seeds", "note"),
    )  # fmt: skip


def by_people(rows: Sequence[Result]) -> dict[str, list[Result]]:
    """Rows of each panel: one task, one set of people; its title says both."""
    found: dict[tuple[object, ...], list[Result]] = {}
    for row in rows:
        found.setdefault((row.task, *people(row)), []).append(row)
    return {_title(own[0]): own for own in found.values()}


def _title(row: Result) -> str:
    """Task, people and events; the split where it is not held_out."""
    whole = row.target in WHOLES
    events = "" if row.events is None or whole else f", {few(row.events)} events"
    split = "" if row.split == "held_out" else f", {row.split.replace('_', ' ')}"
    return f"{row.task} ({few(row.subjects or row.n)} people{events}{split})"


def _rest(panels: Mapping[str, object]) -> str:
    more = len(panels) - MOST_TASKS
    return f"The first {MOST_TASKS} tasks; {more} more are in the table." if more > 0 else ""


def _images(panels: Mapping[str, Sequence[Result]], results: Sequence[Result]) -> list[str]:
    """A forest of every panel: names at its left, values at its right."""
    methods = list(dict.fromkeys(row.method for row in results if not row.versus))
    forests = []
    for title, rows in itertools.islice(panels.items(), MOST_TASKS):
        first = rows[0]
        spec, better = SPECS.get(first.metric), first.direction == "higher"
        name = measured(first.metric, first.target)
        if first.versus:
            name = f"difference in {name} ({'right' if better else 'left'} is better)"
        else:
            name = f"{name} ({'higher' if better else 'lower'} is better)"
        chance = None if spec is None else spec.chance
        forests.append(
            Forest(
                lines=_lines(rows, methods), title=title, xlabel=name,
                reference=0.0 if first.versus else chance, is_gain=bool(first.versus),
            )
        )  # fmt: skip
    return planted(forests)


def _lines(rows: Sequence[Result], methods: Sequence[str]) -> list[Line]:
    """Lines of a forest: a heading for each label fraction (most first), then its methods."""
    fractions = sorted({row.label_fraction for row in rows}, reverse=True)
    lines: list[Line] = []
    for fraction in fractions:
        group = [row for row in rows if row.label_fraction == fraction]
        group.sort(key=lambda row: methods.index(row.versus or row.method))
        if len(fractions) > 1:
            fitted = [row for row in group if row.train_subjects] or group
            lines.append(Line(label=share_of(fitted), is_bold=True))
        for row in group:
            marks = [(row, methods.index(row.versus or row.method))]
            beside = "" if row.value is None else row.shown
            lines.append(Line(label=_label(row, group), marks=marks, beside=beside))
    return lines


def _label(row: Result, group: Sequence[Result]) -> str:
    """The method's own name; with its protocol where one name was predicted from in two ways."""
    name = shorten(f"over {row.versus}" if row.versus else row.method, LABEL)
    alike = {one.protocol for one in group if (one.method, one.versus) == (row.method, row.versus)}
    if len(alike) < 2:
        return name
    return shorten(f"{name}, {row.protocol.replace('_', ' ')}", LABEL)


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
    panels = by_people(rows)
    return Picture.of(
        _images(panels, results),
        caption(__file__, "gains", name=shorten(highlight), doubted=_doubted(rows),
                  rest=_rest(panels)),
        said=[f"{row.task}, {_said(row)} {row.shown}" for row in rows],
        **written(rows, "task", MEASURED, "difference", "labels", VALUE, "n", "spread over seeds",
                  "note"),
    )  # fmt: skip


def _doubted(rows: Sequence[Result]) -> str:
    """Say of which lines that does not hold."""
    said = {row.untested.partition(" (")[0] for row in rows} - {""}
    return " or ".join(sorted(said))
