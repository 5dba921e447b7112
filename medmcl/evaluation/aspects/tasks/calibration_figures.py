"""Calibration plots: whether a risk of 20 % means that 20 in 100 have the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.aspects.tasks.panels import (
    ABOUT,
    MOST_LINES,
    MOST_PANELS,
    Panel,
    about,
    by_when,
    drawn_of,
    grid,
    head,
    keys,
    looks,
    methods_of,
    panels_of,
    rest_of,
)
from medmcl.evaluation.metrics.calibration_curve import Calibration, CalibrationGroup
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.report.pictures import INK, Picture, number


def calibration_plot(found: Sequence[TaskEvidence], highlight: str) -> Picture | None:
    """Draw observed over predicted risk: smooth curve, tenths of subjects, spread of risks."""
    shown = [one for one in found if one.calibration is not None]
    panels = panels_of(
        [one for one in shown if isinstance(one.calibration, Calibration)], highlight
    )
    if not panels:
        return None
    drawn = panels[:MOST_PANELS]
    methods = methods_of(drawn)
    entries: list[tuple[Any, str]] = []
    with grid(panels, 3.1, 0.65) as (figure, pairs):
        for (axes, strip), panel in zip(pairs, drawn, strict=True):
            entries += _panel(axes, strip, panel, methods)
        keys(figure, entries)
        return Picture.of(
            figure,
            title="Calibration",
            aid="On the diagonal, predicted risk is what was observed; above it risks are too "
            "low, below too high. Points are tenths of the subjects with 95 % intervals, bars "
            "below the spread of risks. ICI = mean distance from the diagonal; raw as published "
            "(Austin & Steyerberg 2019), else with the noise that bootstrap draws show taken off "
            "(our own correction)." + rest_of(panels) + drawn_of(panels),
            lead="Observed over predicted risk",
            said=[_said(panel) for panel in drawn],
            header=(*ABOUT, "slope (1)", "in the large (0)", "observed / expected (1)",
                    "ICI (corrected, 0)", "ICI (raw, 0)", "E50", "E90", "n", "events", "note"),
            rows=[_cells(one) for one in shown],
            narrow=len(panels) == 1,
        )  # fmt: skip


def _panel(axes: Any, strip: Any, panel: Panel, methods: list[str]) -> list[tuple[Any, str]]:
    entries = []
    first = _of(panel.first)
    top = _top(panel)
    (line,) = axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.9, linestyle=":")
    entries.append((line, "perfect"))
    for one in panel.lines[:MOST_LINES]:
        curve, look = _of(one).curve, looks(methods, one.method)
        if curve is None:
            continue
        main = one is panel.first
        if main and curve.low:
            axes.fill_between(
                curve.predicted, curve.low, curve.high, color=look["color"], alpha=0.18, linewidth=0
            )
        (line,) = axes.plot(
            curve.predicted, curve.observed, color=look["color"], linestyle=look["linestyle"],
            linewidth=1.7 if main else 1.1,
        )  # fmt: skip
        entries.append((line, one.method))
    look = looks(methods, panel.first.method)
    for group in groups_shown(first):
        axes.plot([group.predicted] * 2, [group.low, group.high], color=look["color"], lw=1)
    points = np.array([(g.predicted, g.observed) for g in groups_shown(first)]).reshape(-1, 2)
    axes.plot(*points.T, linestyle="", marker="o", markersize=4, color=look["color"],
              markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    axes.set(xlim=(0, top), ylim=(0, top), ylabel="observed")
    axes.tick_params(labelbottom=False)
    axes.grid()
    _histogram(strip, panel.first, top, look["color"])
    head(axes, f"{panel.title}{by_when(panel.first)}", _second(first))
    return entries


def groups_shown(found: Calibration) -> list[CalibrationGroup]:
    """Tenths of enough subjects to show."""
    return [group for group in found.groups if group.n >= FEWEST_SUBJECTS]


def _said(panel: Panel) -> str:
    return f"{panel.title}{by_when(panel.first)}: {_second(_of(panel.first))}".replace("\n", ", ")


def _of(one: TaskEvidence) -> Calibration:
    assert isinstance(one.calibration, Calibration)  # panels are made of these
    return one.calibration


def _top(panel: Panel) -> float:
    """Where axes end: above predictions and points; a curve's noisy tail may leave the panel."""
    highest = [0.05]
    for group in groups_shown(_of(panel.first)):
        highest += [group.predicted, group.observed, min(group.high, 2 * group.observed + 0.05)]
    for one in panel.lines[:MOST_LINES]:
        curve = _of(one).curve
        highest += [max(curve.predicted)] if curve is not None else []
    return min(1.02, 1.05 * max(highest))


def _histogram(axes: Any, one: TaskEvidence, top: float, look: str) -> None:
    bars = one.histogram
    if bars is not None:
        edges = np.array(bars.edges)
        axes.bar(edges[:-1], bars.counts, width=np.diff(edges), align="edge", color=look,
                 alpha=0.6, linewidth=0)  # fmt: skip
    axes.set(xlim=(0, top), yticks=[], xlabel="predicted risk")
    axes.spines["left"].set_visible(False)
    axes.set_ylabel("n", color=INK, fontsize=8)


def _second(found: Calibration) -> str:
    counts = f"{found.events:,} events of {found.n:,}"
    raw = f", raw {number(found.ici_uncorrected)}" if found.ici_uncorrected is not None else ""
    return f"slope {_short(found.slope)}, {counts}\nICI {_short(found.ici)}{raw}"


def _short(one: Interval) -> str:
    """As in every table; without the reason, which stands in the note."""
    return "not estimable" if one.value is None else str(one)


def _cells(one: TaskEvidence) -> tuple[object, ...]:
    found = one.calibration
    if isinstance(found, NotEstimable) or found is None:
        reason = found.reason if found is not None else ""
        return (
            *about(one),
            *["not estimable"] * 4,
            *["-"] * 5,
            f"{reason}; {one.note}".strip("; "),
        )
    large = "-" if found.intercept is None else _short(found.intercept)
    return (
        *about(one), _short(found.slope), large, _short(found.observed_expected),
        _short(found.ici), number(found.ici_uncorrected), number(found.e50), number(found.e90),
        f"{found.n:,}", f"{found.events:,}", "; ".join(t for t in (found.note, one.note) if t),
    )  # fmt: skip
