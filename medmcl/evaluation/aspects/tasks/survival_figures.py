"""Observed survival, or cumulative incidence, by predicted risk, with numbers at risk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS, TOO_FEW, few, plain_few
from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks.panels import (
    ABOUT,
    Panel,
    about,
    evidence_picture,
    panels_of,
    rest_of,
)
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.gridded import CURVE_POINTS, Observed, gridded
from medmcl.evaluation.metrics.survival.incidence_curve import IncidenceCurve
from medmcl.evaluation.protocol.evidence import RiskGroup, TaskEvidence
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import Column, written
from medmcl.evaluation.report.pictures import DASHES, SMALL, Picture, head, number, shorten
from medmcl.evaluation.report.words import people_shown, span_name

KINDS = {
    "survival": "Kaplan-Meier curves",
    "incidence": "cumulative incidence (Aalen-Johansen)",
}
WIDE = 36  # letters of a line below a panel's title
GRID = 200  # points of a drawn curve: the page holds no subject's own time
SHOWN = 5  # of them in the table
GROUP_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#000000", "#CC79A7")  # by risk, lowest first


def quantity(groups: Sequence[RiskGroup]) -> str:
    """What the curves of groups show, in a word."""
    falls = not any(isinstance(group.curve, IncidenceCurve) for group in groups)
    return "survival" if falls else "incidence"


def curve_of(group: RiskGroup) -> Observed | NotEstimable:
    """The curve of a group as shown: none of too few subjects."""
    return group.curve if group.subjects >= FEWEST_SUBJECTS else NotEstimable(reason=TOO_FEW)


def last_time(groups: Sequence[RiskGroup]) -> float:
    """End of the longest follow-up."""
    curves = [curve_of(group) for group in groups]
    ends = [curve.times[-1] for curve in curves if isinstance(curve, Observed)]
    return max(ends, default=0.0)


def risk_group_curves(found: Sequence[TaskEvidence], highlight: str) -> Picture | None:
    """Draw the curves of the risk groups of the highlighted method.

    Kaplan-Meier; of a task with competing events, cumulative incidence by Aalen-Johansen.
    """
    shown = [one for one in found if last_time(one.risk_groups) > 0]
    panels = panels_of(shown, highlight)
    tallest = max((len(panel.first.risk_groups) for panel in panels), default=0)
    kinds = {quantity(panel.first.risk_groups) for panel in panels}
    names = [name for kind, name in KINDS.items() if kind in kinds]
    each = [one.followed for one in shown]
    return evidence_picture(
        panels,
        _panel,
        lambda panel: [_said(panel.first, group) for group in panel.first.risk_groups],
        height=2.6,
        strip=0.4 + 0.28 * tallest,
        columns=3,
        called=caption(
            __file__, "risk_groups", what="Survival" if "survival" in kinds else "Incidence",
            curves=" and ".join(names), fewest=FEWEST_SUBJECTS, compete="incidence" in kinds,
            records=any(n != subjects for n, subjects, _ in each), rest=rest_of(panels),
        ),
        **written(
            [row for one in shown for row in risk_rows(one, SHOWN)], *ABOUT, "group",
            ("n", _rows), ("events", _whole("events")), *COLUMNS,
        ),
    )  # fmt: skip


def _said(one: TaskEvidence, group: RiskGroup) -> str:
    """Survival of a group at the horizon, or at half of the follow-up, in words."""
    curve = curve_of(group)
    if not isinstance(curve, Observed):
        return f"{one.task}, {group.name}: {curve.reason}"
    end = last_time(one.risk_groups)
    time = one.horizon if one.horizon is not None and one.horizon < end else end / 2
    value = float(gridded(curve, np.array([time])).values[0])
    there = "unknown (few are followed)" if np.isnan(value) else f"{value:.3f}"
    what = quantity([group])
    return f"{one.task}, {group.name}: {what} {there} at {span_name(time, one.unit)}"


def _panel(pair: Any, panel: Panel, _: object) -> None:
    (axes, strip), one = pair, panel.first
    end = last_time(one.risk_groups)
    times = np.linspace(0, end, GRID)
    what, lowest, highest = quantity(one.risk_groups), 1.0, 0.0
    for place, group in enumerate(one.risk_groups):
        found = curve_of(group)
        if not isinstance(found, Observed):
            continue
        curve = gridded(found, times)
        look, dash = GROUP_COLOURS[place % 5], DASHES[place % 5]
        axes.fill_between(times, curve.low, curve.high, step="post", color=look, alpha=0.15,
                          linewidth=0)  # fmt: skip
        axes.step(times, curve.values, where="post", color=look, linestyle=dash, label=group.name)
        lowest = min(lowest, float(np.nanmin(curve.low)))
        highest = max(highest, float(np.nanmax(curve.high)))
    bottom = 0.0 if lowest < 0.5 else max(0.0, lowest - 0.05)
    limits = (bottom, 1.005 + 0.01 * (1 - bottom))
    if what == "incidence":
        limits = (0.0, min(1.01, 1.05 * highest + 0.01))
    axes.set(xlim=(0, end), ylim=limits, ylabel=what)
    if one.horizon is not None and one.horizon < end:
        axes.axvline(one.horizon, color="#777777", linestyle=":", linewidth=0.9,
                     label="horizon of the scores")  # fmt: skip
    axes.set_xlabel(f"time ({one.unit})" if one.unit else "time")
    axes.grid(axis="y")
    marks = [tick for tick in axes.get_xticks() if 0 <= tick <= end][:7]
    _numbers_at_risk(strip, one, np.array(marks), end)
    n, subjects, events = one.followed
    parts = (shorten(one.method, 26), f"{events:,} events of {people_shown(n, subjects)}")
    apart = " · " if sum(map(len, parts)) < WIDE else "\n"
    head(axes, panel.title, apart.join(parts))


def _numbers_at_risk(axes: Any, one: TaskEvidence, marks: np.ndarray, end: float) -> None:
    groups = one.risk_groups
    axes.set(xlim=(0, end), ylim=(len(groups) - 0.4, -0.9), xticks=[])
    for place, group in enumerate(groups):
        curve = curve_of(group)
        if not isinstance(curve, Observed):
            axes.text(0, place, curve.reason, va="center_baseline", fontsize=SMALL)
            continue
        counts = gridded(curve, marks).at_risk
        for mark, count in zip(marks, counts, strict=True):
            axes.text(mark, place, few(count), ha="center", va="center_baseline",
                      fontsize=SMALL)  # fmt: skip
    axes.text(0, 1.0, "at risk", transform=axes.transAxes, fontsize=SMALL, color="#444444",
              va="bottom")  # fmt: skip
    axes.set_yticks(range(len(groups)), [_brief(group.name) for group in groups], fontsize=SMALL)
    for label, place in zip(axes.get_yticklabels(), range(len(groups)), strict=True):
        label.set_color(GROUP_COLOURS[place % 5])
        label.set_fontweight("bold")
    axes.tick_params(length=0, pad=14)
    for side in axes.spines.values():
        side.set_visible(False)


def _brief(name: str) -> str:
    return shorten(name.replace(" third of risk", "").replace(" risk", ""), 10)


def _whole(name: str) -> Callable[[Any], str]:
    """Write a count as shown: a number, or the text that stands for few."""

    def write(row: Any) -> str:
        found = getattr(row, name)
        return f"{found:,}" if isinstance(found, int) else found or "-"

    return write


def _rows(row: Any) -> str:
    """Write a count of rows, called records where their subjects are fewer."""
    return _whole("n")(row) + ("" if row.n == row.subjects else " records")


def _what(row: Any) -> str:
    return "-" if row.time is None else "incidence" if "incidence" in vars(row) else "survival"


def _observed(row: Any) -> str:
    return row.note or number(row.survival if row.incidence is None else row.incidence)


COLUMNS: tuple[Column, ...] = (
    ("time", lambda row: "-" if row.time is None else f"{row.time:,.4g}"),
    ("what", _what),
    ("observed", _observed),
    ("95 % interval", lambda row: (
        "-" if row.low is None else f"{number(row.low)} to {number(row.high)}")),
    ("at risk", lambda row: row.at_risk or "-"),
)  # fmt: skip


def risk_rows(one: TaskEvidence, points: int = CURVE_POINTS) -> Rows:
    """Survival (or incidence, where events compete) of each risk group on an even grid."""
    rows: Rows = []
    times = np.linspace(0, last_time(one.risk_groups), points)
    for group in one.risk_groups:
        found, shown = curve_of(group), group.subjects >= FEWEST_SUBJECTS
        base = {
            **about(one),
            "group": group.name,
            "lowest_risk": group.low if shown else None,
            "highest_risk": group.high if shown else None,
            "n": plain_few(group.n),
            "subjects": plain_few(group.subjects),
            "events": plain_few(group.events) if shown else None,
        }
        if isinstance(found, NotEstimable):
            rows.append({**base, "note": found.reason})
            continue
        curve = gridded(found, times)
        columns = (curve.values, curve.low, curve.high)
        for k, time in enumerate(times.tolist()):
            value, low, high = (float(x[k]) if np.isfinite(x[k]) else None for x in columns)
            rows.append({**base, "time": time, quantity([group]): value, "low": low, "high": high,
                         "at_risk": few(curve.at_risk[k])})  # fmt: skip
    return rows
