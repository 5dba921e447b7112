"""Decision curves: from which threshold on a model does more good than treating all or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evidence import TaskEvidence, sensible_thresholds
from medmcl.evaluation.report.pictures import Picture, number

SHOWN = 5  # thresholds of a curve in the table; all are in decision_curve.csv


def decision_curves(found: Sequence[TaskEvidence], highlight: str) -> Picture | None:
    """Draw net benefit over risk thresholds around the prevalence."""
    shown = [one for one in found if one.decision is not None]
    panels = panels_of([one for one in shown if isinstance(one.decision, DecisionCurve)], highlight)
    if not panels:
        return None
    drawn = panels[:MOST_PANELS]
    methods = methods_of(drawn)
    entries: list[tuple[Any, str]] = []
    with grid(panels, 2.7) as (figure, places):
        for axes, panel in zip(places, drawn, strict=True):
            entries += _panel(axes, panel, methods)
        keys(figure, entries)
        return Picture.of(
            figure,
            title="Decision curves",
            aid="At the risk from which one would treat, the highest line does most good: net "
            "benefit counts true positives, less false positives weighed by that risk."
            + rest_of(panels)
            + drawn_of(panels),
            lead="Net benefit over risk thresholds",
            said=[_said(panel) for panel in drawn],
            header=(*ABOUT, "threshold", "net benefit", "95 % interval", "treat all",
                    "avoided per 100", "treated", "note"),
            rows=[row for one in shown for row in _cells(one)],
            narrow=len(panels) == 1,
        )  # fmt: skip


def _panel(axes: Any, panel: Panel, methods: list[str]) -> list[tuple[Any, str]]:
    entries = []
    first = _of(panel.first)
    low, high = _range(first)
    best = [first.prevalence]
    for one in panel.lines[:MOST_LINES]:
        curve, look = _of(one), looks(methods, one.method)
        x, y = np.array(curve.thresholds), _floats(curve.model)
        inside = (x >= low) & (x <= high)
        main = one is panel.first
        if main:
            band = np.stack([_floats(curve.low), _floats(curve.high)])
            axes.fill_between(x, *band, color=look["color"], alpha=0.18, linewidth=0)
        (line,) = axes.plot(x, y, color=look["color"], linestyle=look["linestyle"],
                            linewidth=1.8 if main else 1.1)  # fmt: skip
        entries.append((line, one.method))
        best += y[inside & np.isfinite(y)].tolist()
    x = np.array(first.thresholds)
    (all_,) = axes.plot(x, _floats(first.treat_all), color="#777777", lw=1.2, ls=(0, (4, 2)))
    none = axes.axhline(0, color="black", linewidth=1)
    entries += [(all_, "treat all"), (none, "treat none")]
    top = max(*best, 0.01)
    axes.set(xlim=(low, high), ylim=(-0.18 * top, 1.12 * top), xlabel="risk threshold",
             ylabel="net benefit")  # fmt: skip
    axes.grid()
    head(axes, f"{panel.title}{by_when(panel.first)}",
         f"prevalence {first.prevalence:.1%} · {first.events:,} of {first.n:,}")  # fmt: skip
    return entries


def _said(panel: Panel) -> str:
    """Net benefit at the threshold nearest to the prevalence, in words."""
    curve = _of(panel.first)
    gaps = [abs(pt - curve.prevalence) for pt in curve.thresholds]
    k = gaps.index(min(gaps))
    return (
        f"{panel.title}: at {curve.thresholds[k]:.3g}, {panel.first.method} "
        f"{number(curve.model[k], 4)}, treat all {number(curve.treat_all[k], 4)}"
    )


def _of(one: TaskEvidence) -> DecisionCurve:
    assert isinstance(one.decision, DecisionCurve)  # panels are made of these
    return one.decision


def _range(curve: DecisionCurve) -> tuple[float, float]:
    """The sensible range for the prevalence, inside what was computed."""
    wanted = sensible_thresholds(curve.prevalence)
    low, high = max(wanted[0], curve.thresholds[0]), min(wanted[-1], curve.thresholds[-1])
    return (low, high) if low < high else (0.0, 1.0)


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _cells(one: TaskEvidence) -> list[tuple[object, ...]]:
    curve = one.decision
    if isinstance(curve, NotEstimable) or curve is None:
        reason = "" if curve is None else curve.reason
        return [(*about(one), "-", "not estimable", "-", "-", "-", "-", reason)]
    low, high = _range(curve)
    inside = [k for k, pt in enumerate(curve.thresholds) if low <= pt <= high]
    picked = dict.fromkeys(inside[round(q * (len(inside) - 1))] for q in np.linspace(0, 1, SHOWN))
    return [
        (
            *about(one), f"{curve.thresholds[k]:.3g}", number(curve.model[k], 4),
            f"{number(curve.low[k], 4)} to {number(curve.high[k], 4)}",
            number(curve.treat_all[k], 4), number(curve.avoided[k], 1), number(curve.treated[k]),
            "; ".join(text for text in (curve.note, one.note) if text),
        )
        for k in picked
    ] if inside else []  # fmt: skip
