"""Every number of a report as CSV, one file a part."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.suppression import FEWEST_SUBJECTS, few, plain_few
from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows
from medmcl.evaluation.aspects.presence.counts import presence
from medmcl.evaluation.aspects.selection.figures import score_rows
from medmcl.evaluation.aspects.selection.lines import selection_rows
from medmcl.evaluation.aspects.tasks.calibration_figures import groups_shown
from medmcl.evaluation.aspects.tasks.survival_figures import curve_of, gridded, last_time, quantity
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.intervals import Interval
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.calibration import SurvivalCalibration
from medmcl.evaluation.metrics.survival.d_calibration import DCalibration
from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.report.data import ReportData
from medmcl.evaluation.report.training.embedding_figures import cosine_rows, map_rows
from medmcl.evaluation.report.training.geometry_lines import geometry_of
from medmcl.evaluation.report.tripod import checklist

Rows = list[dict[str, Any]]
CURVE_POINTS = 41


def report_rows(data: ReportData) -> dict[str, Rows]:
    """Give each part of a report as rows of plain values; empty parts are left out.

    Counts of few subjects are as shown on the page, and survival curves are on an even grid: no
    file tells more of single subjects than the page.
    """
    return {name: rows for name, rows in _parts(data).items() if rows}


def _parts(data: ReportData) -> dict[str, Rows]:
    tasks = data.evidence.tasks
    return {
        "table_one": _table_one(data),
        "calibration": [row for one in tasks for row in calibration_rows(one)],
        "calibration_curve": [row for one in tasks for row in _curve_rows(one)],
        "decision_curve": [row for one in tasks for row in decision_rows(one)],
        "risk_groups": [row for one in tasks for row in risk_rows(one)],
        "d_calibration": [row for one in tasks for row in _d_rows(one)],
        "subgroups": [asdict(row) for row in data.evidence.subgroups],
        "presence": [asdict(row) for row in data.evidence.presence],
        "fitted_on": [
            {**asdict(line), "splits": " ".join(line.splits)} for line in data.evidence.fitted
        ],
        "flow": [
            {"step": step, "subjects": plain_few(subjects), "samples": plain_few(samples)}
            for step, subjects, samples in data.flow
        ],
        "missingness": _missingness(data),
        "training": _training(data),
        "geometry": [dict(row) for row in data.geometry or geometry_of(data.curves)],
        "experts": expert_rows(data.curves),
        "expert_shares": share_rows(data.curves, data.kept_steps),
        "expert_words": [row for one in data.experts for row in one.word_rows()],
        "expert_pieces": [row for one in data.experts for row in one.piece_rows()],
        "confounders": [row for one in data.confounders for row in one.plain_rows()],
        "confounders_fitted_on": [row for one in data.confounders for row in one.plain_fits()],
        "selection_groups": selection_rows(data.selections, data.level),
        "selection_scores": [row for one in data.selections for row in score_rows(one)],
        "embedding_map": map_rows(data.embedding_map),
        "cosine_maps": [] if data.heat is None else cosine_rows(data.heat),
        "compared_runs": [{"run": name, **facts} for name, facts in data.compared.items()],
        "findings": [finding.as_dict() for finding in data.findings],
        "checklist": _checklist(data),
    }


def write_csv_files(folder: Path, data: ReportData) -> list[Path]:
    """Write ``table_one.csv``, ``calibration.csv`` and so on, each whole or not at all.

    The file of a part that is empty now is taken away: it would belong to an earlier report.
    """
    written = []
    for name, rows in _parts(data).items():
        path = folder / f"{name}.csv"
        if not rows:
            path.unlink(missing_ok=True)
            continue
        write_atomically(path, csv_text(rows))
        written.append(path)
    return written


def csv_text(rows: Rows) -> str:
    """Rows as CSV text; a missing value is an empty cell."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=header, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _about(one: TaskEvidence) -> dict[str, Any]:
    names = ("task", "target", "kind", "method", "protocol", "label_fraction", "split",
             "resampling", "horizon", "unit")  # fmt: skip
    return {name: getattr(one, name) for name in names}


def _table_one(data: ReportData) -> Rows:
    table = data.table_one
    if table is None:
        return []
    rows: Rows = []
    for row in table.rows:
        for column, (split, cell) in enumerate(zip(table.splits, row.cells, strict=True)):
            difference = row.differences[column] if row.differences else None
            line = {"variable": row.variable, "level": row.level, "statistic": row.statistic,
                    "split": split}  # fmt: skip
            rows.append({**line, **asdict(cell), "smd": difference})
    return rows


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
        interval = getattr(found, name, None)
        if isinstance(interval, Interval):
            ends = {"value": interval.value, "low": interval.low, "high": interval.high}
            rows.append({**base, "measure": name, **ends, "note": interval.note})
    for name in ("joint_intercept", "ici_uncorrected", "ici_if_perfect", "e50", "e90", "emax"):
        if isinstance(found, Calibration) or name not in ("joint_intercept", "ici_if_perfect"):
            rows.append({**base, "measure": name, "value": getattr(found, name)})
    return rows


def _curve_rows(one: TaskEvidence) -> Rows:
    found = one.calibration
    if not isinstance(found, Calibration | SurvivalCalibration):
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


def _missingness(data: ReportData) -> Rows:
    found = presence(data.missingness)
    return [] if found is None else [{**p.present, "samples": p.samples} for p in found.patterns]


def _training(data: ReportData) -> Rows:
    """Every line of the training record, nested terms as ``terms/name``."""
    rows: Rows = []
    for stage, lines in data.curves.items():
        for line in lines:
            flat: dict[str, Any] = {"stage": stage}
            for key, value in line.items():
                inner = value if isinstance(value, Mapping) else {}
                flat |= {f"{key}/{name}": _finite(part) for name, part in inner.items()}
                flat |= {} if isinstance(value, Mapping) else {key: _finite(value)}
            rows.append(flat)
    return rows


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _d_rows(one: TaskEvidence) -> Rows:
    found = one.d_calibration
    if found is None:
        return []
    if not isinstance(found, DCalibration):
        return [{**_about(one), "note": found.reason}]
    shares = {f"share_{k}": share for k, share in enumerate(found.shares)}
    return [{**_about(one), "statistic": found.statistic, "p_value": found.p_value, **shares,
             "note": found.note}]  # fmt: skip


def _checklist(data: ReportData) -> Rows:
    return [
        {
            "item": one.part.code, "section": one.part.section, "topic": one.part.topic,
            "asks": one.part.asks, "applies_to": one.part.applies,
            "filled": one.value is not None, "from_this_run": one.value or "",
            "remains": one.part.remains if one.value is not None else "all of it",
        }
        for one in checklist(data).cited
    ]  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
