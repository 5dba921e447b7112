"""Calibration: whether a risk of 20 % means that 20 in 100 have the outcome, drawn and as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS, few
from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks.panels import (
    ABOUT,
    MOST_LINES,
    Panel,
    about,
    drawn_of,
    evidence_picture,
    panels_of,
)
from medmcl.evaluation.metrics.calibration_curve import Calibration, CalibrationGroup
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import written
from medmcl.evaluation.report.pictures import INK, Picture, head, number
from medmcl.evaluation.report.words import people_shown

WIDE = 42  # letters of a line below a panel's title


def calibration_plot(found: Sequence[TaskEvidence], highlight: str) -> Picture | None:
    """Draw observed over predicted risk: smooth curve, groups of like risk, spread of risks."""
    shown = [one for one in found if one.calibration is not None]
    panels = panels_of(
        [one for one in shown if isinstance(one.calibration, Calibration)], highlight
    )
    return evidence_picture(
        panels,
        _panel,
        lambda panel: [f"{panel.dated}: {_second(_of(panel.first))}".replace("\n", ", ")],
        height=3.1,
        strip=0.65,
        called=caption(__file__, "calibration", rest=drawn_of(panels)),
        **written(
            shown, *ABOUT, ("slope (1)", _interval("slope")),
            ("in the large (0)", _interval("intercept")),
            ("observed / expected (1)", _interval("observed_expected")),
            ("ICI (corrected, 0)", _interval("ici")), ("ICI (raw, 0)", _plain("ici_uncorrected")),
            ("E50", _plain("e50")), ("E90", _plain("e90")), ("n", _plain("n", ",")),
            ("events", _plain("events", ",")), ("note", _note),
        ),
    )  # fmt: skip


def _panel(pair: Any, panel: Panel, look_of: Callable[[str], dict[str, Any]]) -> None:
    (axes, strip), first = pair, _of(panel.first)
    top = _top(panel)
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.9, linestyle=":", label="perfect")
    for one in panel.lines[:MOST_LINES]:
        curve, look = _of(one).curve, look_of(one.method) | {"marker": ""}
        if curve is None:
            continue
        main = one is panel.first
        if main and curve.low:
            axes.fill_between(
                curve.predicted, curve.low, curve.high, color=look["color"], alpha=0.18, linewidth=0
            )
        axes.plot(curve.predicted, curve.observed, linewidth=1.7 if main else 1.1,
                  label=one.method, **look)  # fmt: skip
    shade = look_of(panel.first.method)["color"]
    for group in groups_shown(first):
        axes.plot([group.predicted] * 2, [group.low, group.high], color=shade, lw=1)
    points = np.array([(g.predicted, g.observed) for g in groups_shown(first)]).reshape(-1, 2)
    axes.plot(*points.T, linestyle="", marker="o", markersize=4, color=shade,
              markeredgecolor="white", markeredgewidth=0.5)  # fmt: skip
    axes.set(xlim=(0, top), ylim=(0, top), ylabel="observed")
    axes.tick_params(labelbottom=False)
    axes.grid()
    if panel.first.histogram is not None:
        edges = np.array(panel.first.histogram.edges)
        strip.bar(edges[:-1], panel.first.histogram.counts, width=np.diff(edges), align="edge",
                  color=shade, alpha=0.6, linewidth=0)  # fmt: skip
    strip.set(xlim=(0, top), yticks=[], xlabel="predicted risk")
    strip.spines["left"].set_visible(False)
    strip.set_ylabel("n", color=INK, fontsize=8)
    head(axes, panel.dated, _second(first))


def groups_shown(found: Calibration) -> list[CalibrationGroup]:
    """Tenths of enough subjects to show."""
    return [group for group in found.groups if group.subjects >= FEWEST_SUBJECTS]


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


def _second(found: Calibration) -> str:
    counts = f"{found.events:,} events of {people_shown(found.n, found.subjects)}"
    raw = f", raw {number(found.ici_uncorrected)}" if found.ici_uncorrected is not None else ""
    slope = f"slope {_short(found.slope)}"
    apart = ", " if len(slope) + len(counts) < WIDE else "\n"
    return f"{slope}{apart}{counts}\nICI {_short(found.ici)}{raw}"


def _short(one: Interval) -> str:
    """As in every table; without the reason, which stands in the note."""
    return "not estimable" if one.value is None else str(one)


def _interval(name: str) -> Callable[[TaskEvidence], str]:
    """Write a number of a calibration that has an interval."""

    def write(one: TaskEvidence) -> str:
        if isinstance(one.calibration, NotEstimable):
            return "not estimable"
        found = getattr(one.calibration, name)
        return "-" if found is None else _short(found)

    return write


def _plain(name: str, form: str = ".3f") -> Callable[[TaskEvidence], str]:
    """Write a number of a calibration that has none."""

    def write(one: TaskEvidence) -> str:
        found = getattr(one.calibration, name, None)
        return "-" if found is None else f"{found:{form}}"

    return write


def _note(one: TaskEvidence) -> str:
    found = one.calibration
    said = found.reason if isinstance(found, NotEstimable) else found and found.note
    return "; ".join(text for text in (said, one.note) if text)


def calibration_rows(one: TaskEvidence) -> Rows:
    """One row a number of the calibration of a task."""
    found = one.calibration
    if found is None:
        return []
    if isinstance(found, NotEstimable):
        return [{**about(one), "measure": "calibration", "note": found.reason}]
    rows: Rows = []
    base = {**about(one), "n": found.n, "events": found.events}
    for name in ("intercept", "slope", "observed_expected", "ici"):
        interval: Interval | None = getattr(found, name)
        if interval is not None:
            ends = {"value": interval.value, "low": interval.low, "high": interval.high}
            rows.append({**base, "measure": name, **ends, "note": interval.note})
    for name in ("joint_intercept", "ici_uncorrected", "ici_if_perfect", "e50", "e90", "emax"):
        if found.horizon is None or name not in ("joint_intercept", "ici_if_perfect"):
            rows.append({**base, "measure": name, "value": getattr(found, name)})
    return rows


def curve_rows(one: TaskEvidence) -> Rows:
    """One row a point of the calibration curve of a task, group of risk, or bar."""
    found, parts = one.calibration, list[dict[str, Any]]()
    if not isinstance(found, Calibration):
        return []
    if (curve := found.curve) is not None:
        nothing = [None] * len(curve.predicted)
        columns = (curve.predicted, curve.observed, curve.low or nothing, curve.high or nothing)
        names = ("predicted", "observed", "low", "high")
        parts += [{"part": "smooth", **dict(zip(names, point, strict=True))}
                  for point in zip(*columns, strict=True)]  # fmt: skip
    parts += [
        {"part": "group", **asdict(group), "note": found.note} for group in groups_shown(found)
    ]
    if (bars := one.histogram) is not None:
        parts += [{"part": "histogram", "low": low, "high": high, "n": few(count)}
                  for low, high, count in zip(bars.edges[:-1], bars.edges[1:], bars.counts,
                                              strict=True)]  # fmt: skip
    return [{**about(one), **part} for part in parts]
