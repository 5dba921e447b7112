"""Observed survival, or cumulative incidence, by predicted risk, with numbers at risk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS, TOO_FEW, few
from medmcl.evaluation.aspects.tasks.panels import (
    ABOUT,
    MOST_PANELS,
    about,
    grid,
    head,
    keys,
    panels_of,
    rest_of,
)
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.incidence_curve import IncidenceCurve
from medmcl.evaluation.metrics.survival.kaplan_meier import SurvivalCurve
from medmcl.evaluation.protocol.evidence import RiskGroup, TaskEvidence
from medmcl.evaluation.report.pictures import DASHES, SMALL, Picture, number, shorten
from medmcl.evaluation.report.words import span_name

KINDS = {
    "survival": "Kaplan-Meier curves",
    "incidence": "cumulative incidence (Aalen-Johansen)",
}
COMPETE = (
    " Where other events compete, curves rise: cumulative incidence by Aalen-Johansen, the risk "
    "in a world where the others happen too."
)
GRID = 200  # points of a drawn curve: the page holds no subject's own time
SHOWN = 5  # times of the table
GROUP_COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#000000", "#CC79A7")  # by risk, lowest first


Observed = SurvivalCurve | IncidenceCurve


@dataclass(frozen=True, kw_only=True)
class Gridded:
    """A curve at a few even times, without the times of single subjects.

    Attributes:
        times: Even grid, (G,).
        values: P(T > t), or the incidence by t where events compete; NaN where too few are
            followed: their steps say little, and of whom.
        low: Lower end of the interval.
        high: Upper end.
        at_risk: Rows followed to each time or longer.
    """

    times: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    at_risk: np.ndarray


def gridded(curve: Observed, times: np.ndarray) -> Gridded:
    """Read a curve at some times, (G,)."""
    own, at_first = np.array(curve.times), float(isinstance(curve, SurvivalCurve))
    steps = np.searchsorted(own, times, side="right") - 1
    later = np.searchsorted(own, times, side="left")
    at_risk = np.append(np.array(curve.at_risk), 0.0)[np.minimum(later, len(own))]
    known = at_risk >= FEWEST_SUBJECTS

    def read(values: Sequence[float]) -> np.ndarray:
        found = np.where(steps < 0, at_first, np.array(values)[np.maximum(steps, 0)])
        return np.where(known, found, np.nan)

    main = curve.survival if isinstance(curve, SurvivalCurve) else curve.incidence
    return Gridded(times=times, values=read(main), low=read(curve.low),
                   high=read(curve.high), at_risk=at_risk)  # fmt: skip


def quantity(groups: Sequence[RiskGroup]) -> str:
    """What the curves of groups show, in a word."""
    falls = not any(isinstance(group.curve, IncidenceCurve) for group in groups)
    return "survival" if falls else "incidence"


def curve_of(group: RiskGroup) -> Observed | NotEstimable:
    """The curve of a group as shown: none of too few subjects."""
    return group.curve if group.n >= FEWEST_SUBJECTS else NotEstimable(reason=TOO_FEW)


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
    if not panels:
        return None
    tallest = max(len(panel.first.risk_groups) for panel in panels)
    kinds = {quantity(panel.first.risk_groups) for panel in panels}
    names = [name for kind, name in KINDS.items() if kind in kinds]
    entries: list[tuple[Any, str]] = []
    with grid(panels, 2.6, 0.3 + 0.16 * tallest) as (figure, pairs):
        for (axes, strip), panel in zip(pairs, panels[:MOST_PANELS], strict=True):
            entries += _panel(axes, strip, panel.first, panel.title)
        keys(figure, entries, columns=3)
        return Picture.of(
            figure,
            title=f"{'Survival' if 'survival' in kinds else 'Incidence'} by predicted risk",
            aid="Curves that part in the order of risk show that the model ranks subjects well; "
            f"bands are 95 % intervals; they end where fewer than {FEWEST_SUBJECTS} are followed. "
            "Below: subjects still followed at that time."
            + (COMPETE if "incidence" in kinds else "")
            + rest_of(panels),
            lead=f"{' and '.join(names)} of groups by predicted risk",
            said=[_said(p.first, g) for p in panels[:MOST_PANELS] for g in p.first.risk_groups],
            header=(*ABOUT, "group", "n", "events", "time", "what", "observed", "95 % interval",
                    "at risk"),
            rows=[row for one in shown for row in _cells(one)],
            narrow=len(panels) == 1,
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


def _panel(axes: Any, strip: Any, one: TaskEvidence, title: str) -> list[tuple[Any, str]]:
    entries, end = [], last_time(one.risk_groups)
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
        (line,) = axes.step(times, curve.values, where="post", color=look, linestyle=dash)
        entries.append((line, group.name))
        lowest = min(lowest, float(np.nanmin(curve.low)))
        highest = max(highest, float(np.nanmax(curve.high)))
    bottom = 0.0 if lowest < 0.5 else max(0.0, lowest - 0.05)
    limits = (bottom, 1.005 + 0.01 * (1 - bottom))
    if what == "incidence":
        limits = (0.0, min(1.01, 1.05 * highest + 0.01))
    axes.set(xlim=(0, end), ylim=limits, ylabel=what)
    if one.horizon is not None and one.horizon < end:
        axes.axvline(one.horizon, color="#777777", linestyle=":", linewidth=0.9)
    axes.set_xlabel(f"time ({one.unit})" if one.unit else "time")
    axes.grid(axis="y")
    marks = [tick for tick in axes.get_xticks() if 0 <= tick <= end][:7]
    _numbers_at_risk(strip, one, np.array(marks), end)
    events = sum(group.events for group in one.risk_groups)
    total = sum(group.n for group in one.risk_groups)
    head(axes, title, f"{shorten(one.method, 26)} · {events:,} events of {total:,}")
    return entries


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


def _cells(one: TaskEvidence) -> list[tuple[object, ...]]:
    times = np.linspace(0, last_time(one.risk_groups), SHOWN)
    rows: list[tuple[object, ...]] = []
    for group in one.risk_groups:
        start = (*about(one), group.name, few(group.n), few(group.events))
        found = curve_of(group)
        if not isinstance(found, Observed):
            rows.append((*start, "-", "-", found.reason, "-", "-"))
            continue
        curve = gridded(found, times)
        for k, time in enumerate(times):
            value, low, high = (
                None if np.isnan(part[k]) else float(part[k])
                for part in (curve.values, curve.low, curve.high)
            )
            span = "-" if low is None else f"{number(low)} to {number(high)}"
            rows.append((*start, f"{time:,.4g}", quantity([group]), number(value), span,
                         few(curve.at_risk[k])))  # fmt: skip
    return rows
