"""Numbers of tasks as rows of plain values: calibration, decision curves, risk groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS, few, plain_few
from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.aspects.tasks.calibration_figures import groups_shown
from medmcl.evaluation.aspects.tasks.survival_figures import curve_of, gridded, last_time, quantity
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.metrics.survival.d_calibration import DCalibration
from medmcl.evaluation.protocol.evidence import TaskEvidence

CURVE_POINTS = 41


def _about(one: TaskEvidence) -> dict[str, Any]:
    names = ("task", "target", "kind", "method", "protocol", "label_fraction", "split",
             "resampling", "horizon", "unit")  # fmt: skip
    return {name: getattr(one, name) for name in names}


def calibration_rows(one: TaskEvidence) -> Rows:
    """One row a number of the calibration of a task."""
    found = one.calibration
    if found is None:
        return []
    if isinstance(found, NotEstimable):
        return [{**_about(one), "measure": "calibration", "note": found.reason}]
    rows: Rows = []
    base = {**_about(one), "n": found.n, "events": found.events}
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
    found = one.calibration
    if not isinstance(found, Calibration):
        return []
    rows: Rows = []
    curve = found.curve
    if curve is not None:
        ends = [
            curve.low or [None] * len(curve.predicted),
            curve.high or [None] * len(curve.predicted),
        ]
        for x, y, low, high in zip(curve.predicted, curve.observed, *ends, strict=True):
            rows.append({**_about(one), "part": "smooth", "predicted": x, "observed": y,
                         "low": low, "high": high})  # fmt: skip
    for group in groups_shown(found):
        rows.append({**_about(one), "part": "group", **asdict(group)})
    if one.histogram is not None:
        edges = one.histogram.edges
        for low, high, count in zip(edges[:-1], edges[1:], one.histogram.counts, strict=True):
            rows.append({**_about(one), "part": "histogram", "low": low, "high": high,
                         "n": few(count)})  # fmt: skip
    return rows


def decision_rows(one: TaskEvidence) -> Rows:
    """One row a threshold of the decision curve of a task."""
    curve = one.decision
    if curve is None:
        return []
    if not isinstance(curve, DecisionCurve):
        return [{**_about(one), "note": curve.reason}]
    names = ("thresholds", "model", "low", "high", "treat_all", "treat_none", "standardised",
             "avoided", "treated")  # fmt: skip
    columns = [getattr(curve, name) for name in names]
    base = {"prevalence": curve.prevalence, "n": curve.n, "events": curve.events}
    return [
        {**_about(one), **dict(zip(("threshold", *names[1:]), values, strict=True)), **base,
         "note": curve.note}
        for values in zip(*columns, strict=True)
    ]  # fmt: skip


def risk_rows(one: TaskEvidence) -> Rows:
    """Survival (or incidence, where events compete) of each risk group on an even grid."""
    rows: Rows = []
    times = np.linspace(0, last_time(one.risk_groups), CURVE_POINTS)
    for group in one.risk_groups:
        found, shown = curve_of(group), group.n >= FEWEST_SUBJECTS
        base = {
            **_about(one),
            "group": group.name,
            "lowest_risk": group.low if shown else None,
            "highest_risk": group.high if shown else None,
            "n": plain_few(group.n),
            "events": plain_few(group.events) if shown else None,
        }
        if isinstance(found, NotEstimable):
            rows.append({**base, "note": found.reason})
            continue
        curve = gridded(found, times)
        for k, time in enumerate(times.tolist()):
            value, low, high = (_number(part[k]) for part in (curve.values, curve.low, curve.high))
            rows.append({**base, "time": time, quantity([group]): value, "low": low, "high": high,
                         "at_risk": few(curve.at_risk[k])})  # fmt: skip
    return rows


def d_rows(one: TaskEvidence) -> Rows:
    """One row for the D-calibration of a task."""
    found = one.d_calibration
    if found is None:
        return []
    if not isinstance(found, DCalibration):
        return [{**_about(one), "note": found.reason}]
    shares = {f"share_{k}": share for k, share in enumerate(found.shares)}
    return [{**_about(one), "statistic": found.statistic, "p_value": found.p_value, **shares,
             "note": found.note}]  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
