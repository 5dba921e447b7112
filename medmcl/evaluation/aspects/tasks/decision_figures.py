"""Decision curves: from which threshold on a model does more good than treating all or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks.panels import (
    ABOUT,
    MOST_LINES,
    MOST_PANELS,
    Panel,
    about,
    drawn_of,
    evidence_picture,
    panels_of,
)
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.protocol.evidence import TaskEvidence, sensible_thresholds
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import Column, rounded, written
from medmcl.evaluation.report.pictures import Picture, head, number
from medmcl.evaluation.report.words import people_shown

SHOWN = 5  # thresholds of a curve in the table; all are in decision_curve.csv
COLUMNS: tuple[Column, ...] = (
    ("threshold", lambda row: "-" if row.threshold is None else f"{row.threshold:.3g}"),
    ("net benefit", lambda row: (
        "not estimable" if row.threshold is None else number(row.model, 4))),
    ("95 % interval", lambda row: (
        "-" if row.threshold is None else f"{number(row.low, 4)} to {number(row.high, 4)}")),
    ("treat all", rounded("treat_all", 4)),
    ("avoided per 100", rounded("avoided", 1)),
    ("treated", rounded("treated")),
    "note",
)  # fmt: skip


def decision_curves(found: Sequence[TaskEvidence], highlight: str) -> Picture | None:
    """Draw net benefit over risk thresholds around the prevalence."""
    panels = panels_of([one for one in found if isinstance(one.decision, DecisionCurve)], highlight)
    return evidence_picture(
        panels,
        _panel,
        _said,
        height=2.7,
        called=caption(
            __file__,
            "decisions",
            gaps=any(None in _of(one).model for one in _drawn(panels)),
            by_then=any(one.horizon is not None for one in _drawn(panels)),
            rest=drawn_of(panels),
        ),
        **written([row for one in found for row in _picked(one)], *ABOUT, *COLUMNS),
    )


def _panel(axes: Any, panel: Panel, look_of: Callable[[str], dict[str, Any]]) -> None:
    first = _of(panel.first)
    low, high = _range(first)
    best = [first.prevalence]
    for one in panel.lines[:MOST_LINES]:
        curve, look = _of(one), look_of(one.method) | {"marker": ""}
        x, y = np.array(curve.thresholds), _floats(curve.model)
        inside = (x >= low) & (x <= high)
        main = one is panel.first
        if main:
            band = np.stack([_floats(curve.low), _floats(curve.high)])
            axes.fill_between(x, *band, color=look["color"], alpha=0.18, linewidth=0)
        axes.plot(x, y, linewidth=1.8 if main else 1.1, label=one.method, **look)
        best += y[inside & np.isfinite(y)].tolist()
    x = np.array(first.thresholds)
    axes.plot(x, _floats(first.treat_all), color="#777777", lw=1.2, ls=(0, (4, 2)),
              label="treat all")  # fmt: skip
    axes.axhline(0, color="black", linewidth=1, label="treat none")
    top = max(*best, 0.01)
    axes.set(xlim=(low, high), ylim=(-0.18 * top, 1.12 * top), xlabel="risk threshold",
             ylabel="net benefit")  # fmt: skip
    axes.grid()
    share = "prevalence" if panel.first.horizon is None else "risk"
    said = f"{share} {first.prevalence:.1%} · {first.events:,} of "
    said += people_shown(first.n, first.subjects)
    if share == "prevalence" and first.subjects not in (None, first.n):  # it is one of records
        said = f"{first.events:,} of {first.subjects:,} people · {first.prevalence:.1%} of "
        said += f"{first.n:,} records"
    head(axes, panel.dated, said)


def _drawn(panels: Sequence[Panel]) -> list[TaskEvidence]:
    return [one for panel in panels[:MOST_PANELS] for one in panel.lines[:MOST_LINES]]


def _said(panel: Panel) -> list[str]:
    """Net benefit at the threshold nearest to the prevalence, in words."""
    curve = _of(panel.first)
    gaps = [abs(pt - curve.prevalence) for pt in curve.thresholds]
    k = gaps.index(min(gaps))
    return [
        f"{panel.title}: at {curve.thresholds[k]:.3g}, {panel.first.method} "
        f"{number(curve.model[k], 4)}, treat all {number(curve.treat_all[k], 4)}"
    ]


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


def _picked(one: TaskEvidence) -> Rows:
    """Rows of a few thresholds, evenly spaced, for the table."""
    rows, curve = decision_rows(one), one.decision
    if not isinstance(curve, DecisionCurve):
        return rows
    low, high = _range(curve)
    inside = [row for row in rows if low <= row["threshold"] <= high]
    places = {round(q * (len(inside) - 1)) for q in np.linspace(0, 1, SHOWN)} if inside else ()
    note = "; ".join(text for text in (curve.note, one.note) if text)
    return [{**inside[k], "note": note} for k in sorted(places)]


def decision_rows(one: TaskEvidence) -> Rows:
    """One row a threshold of the decision curve of a task."""
    curve = one.decision
    if curve is None:
        return []
    if not isinstance(curve, DecisionCurve):
        return [{**about(one), "note": curve.reason}]
    names = ("thresholds", "model", "low", "high", "treat_all", "treat_none", "standardised",
             "avoided", "treated")  # fmt: skip
    columns = [getattr(curve, name) for name in names]
    base = {"prevalence": curve.prevalence, "n": curve.n, "events": curve.events}
    return [
        {**about(one), **dict(zip(("threshold", *names[1:]), values, strict=True)), **base,
         "note": curve.note}
        for values in zip(*columns, strict=True)
    ]  # fmt: skip
