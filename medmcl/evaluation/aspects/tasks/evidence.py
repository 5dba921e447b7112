"""What the figures of a task show: calibration, decision curves, histograms, risk groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.aspects.tasks.metrics import MANY_COLUMNS, event_codes
from medmcl.evaluation.metrics.calibration_curve import Calibration, calibration
from medmcl.evaluation.metrics.decision_curve import net_benefit, net_benefit_survival
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval, people_among
from medmcl.evaluation.metrics.survival.calibration import survival_calibration
from medmcl.evaluation.metrics.survival.competing_calibration import competing_calibration
from medmcl.evaluation.metrics.survival.d_calibration import (
    DCalibration,
    d_calibration,
    survival_at_own_time,
)
from medmcl.evaluation.models.knn import one_hot
from medmcl.evaluation.protocol.evidence import (
    TaskEvidence,
    risk_groups,
    risk_histogram,
    sensible_thresholds,
    too_few_for_curve,
)
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.protocol.setting import Setting

NO_D_CALIBRATION = (
    "D-calibration is not defined under competing risks: who has the other event first has no "
    "survival time of this one"
)
BANDS = "bands of risk groups take subjects as independent"
NO_CURVES = "the predictions are risks without survival curves"
SHOWN_ELSEWHERE = ("calibration_intercept", "calibration_slope", "ici")
"""Numbers of a calibration curve that are rows of the results, too."""
RAW = "ici_uncorrected"
PLUG_IN = "plug-in, as published (Austin & Steyerberg 2019): too large in small samples"


def task_evidence(setting: Setting, table: Predicted, draws: int) -> Iterator[TaskEvidence]:
    """Give the evidence of every column of a task (of the first `MANY_COLUMNS`, if many).

    Several seeds (or draws of a label subset) are shown by the first, and the note says so.
    Multiclass tasks are shown one class against the others; regression has none.

    Args:
        setting: The evaluation.
        table: Predictions.
        draws: Bootstrap draws of intervals and bands.
    """
    if setting.targets.kind == "regression" or table.pools_constants:
        return
    table = table.everyone_alike()
    if setting.targets.kind == "survival":
        yield _survival(setting, table, draws)
        return
    targets = setting.targets.take(setting.scored)
    values, known = one_hot(targets)
    for column, name in enumerate(targets.names[:MANY_COLUMNS]):
        rows = table.rows & known[:, column]
        yield _probabilities(
            setting, table, str(name), values[rows, column], table.arrays[0][rows, column],
            setting.scored[rows], draws,
        )  # fmt: skip


def _base(setting: Setting, table: Predicted, target: str) -> TaskEvidence:
    many = len(table.arrays)
    return TaskEvidence(
        target=target,
        kind=setting.targets.kind,
        protocol=table.protocol,
        split=table.split,
        **table.about(setting),
        note=f"the first of {many} seeds or draws" if many > 1 else "",
    )


def _probabilities(
    setting: Setting,
    table: Predicted,
    target: str,
    y: np.ndarray,
    p: np.ndarray,
    rows: np.ndarray,
    draws: int,
) -> TaskEvidence:
    base = _base(setting, table, target)
    if len(p) == 0 or (p < 0).any() or (p > 1).any():
        reason = "the predictions are scores, not probabilities" if len(p) else "no rows"
        missing = NotEstimable(reason)
        return replace(base, calibration=missing, decision=missing)
    thresholds, subjects = sensible_thresholds(float((y > 0).mean())), setting.subjects[rows]
    lacks = too_few_for_curve(*(people_among(subjects, (y > 0) == one) for one in (True, False)))
    if lacks:
        return replace(base, calibration=NotEstimable(lacks), decision=NotEstimable(lacks))
    how = replace(setting.resampling.take(rows), draws=draws)
    known = {
        metric: sampled.interval(how.level)
        for (column, metric), (_, sampled) in table.sampled.items()
        if column == target and metric in SHOWN_ELSEWHERE
    }
    return replace(
        base,
        calibration=calibration(y, p, how, fewest=FEWEST_SUBJECTS, known=known),
        decision=net_benefit(y, p, thresholds, how),
        histogram=risk_histogram(p),
    )


def _survival(setting: Setting, table: Predicted, draws: int) -> TaskEvidence:
    horizons = setting.horizons
    assert horizons is not None
    base = replace(_base(setting, table, setting.targets.name), unit=setting.targets.unit)
    rows = table.rows
    kinds, time = (part[rows] for part in event_codes(setting.targets, setting.scored))
    competes = setting.targets.competing is not None
    people = setting.subjects[setting.scored[rows]]
    how = replace(setting.resampling.take(setting.scored[rows]), draws=draws)
    if setting.resampling.kind == "site":
        base = replace(base, note="; ".join(part for part in (base.note, BANDS) if part))
    groups = risk_groups(
        kinds, time, table.arrays[0][rows, 0], people=people, level=how.level,
        has_competing=competes,
    )  # fmt: skip
    counts = (len(time), len(np.unique(people)), people_among(people, kinds == 1))
    rivals = people_among(people, kinds > 1) if competes else None
    base = replace(base, risk_groups=groups, followed=counts, competing=rivals)
    if not table.curves or len(time) == 0:
        missing = NotEstimable(NO_CURVES if len(time) else "no rows")
        lost = NotEstimable(NO_D_CALIBRATION) if competes and len(time) else missing
        return replace(base, calibration=missing, decision=missing, d_calibration=lost)
    followed = [at for at in horizons.times if at < time.max()]
    lacking = {at: _lacking(kinds, time, people, at) for at in followed or horizons.times[:1]}
    at = next((at for at in reversed(lacking) if not lacking[at]), [*lacking][-1])
    if table.own:
        own_time = table.own[0][rows]
    else:
        own_time = survival_at_own_time(table.curves[0][rows], horizons.fine, time)
    test = NotEstimable(NO_D_CALIBRATION) if competes else d_calibration(kinds == 1, time, own_time)
    base = replace(base, horizon=at, d_calibration=test)
    if lacking[at]:
        missing = NotEstimable(lacking[at])
        return replace(base, calibration=missing, decision=missing)
    here = table.survival_at(horizons, at)[0][rows]
    thresholds = sensible_thresholds(float(((kinds == 1) & (time <= at)).mean()))
    fewest = FEWEST_SUBJECTS
    return replace(
        base,
        decision=net_benefit_survival(kinds, time, 1 - here, at, thresholds, how),
        histogram=risk_histogram(1 - here),
        calibration=competing_calibration(kinds, time, 1 - here, at, how, fewest=fewest)
        if competes
        else survival_calibration(kinds == 1, time, here, at, how, fewest=fewest),
    )


def _lacking(kinds: np.ndarray, time: np.ndarray, people: np.ndarray, at: float) -> str:
    """Say that too few people decide a curve at a horizon; empty if enough do."""
    by_then, without = (kinds == 1) & (time <= at), time > at
    return too_few_for_curve(*(people_among(people, rows) for rows in (by_then, without)))


def evidence_rows(
    setting: Setting, table: Predicted, found: TaskEvidence, draws: int
) -> Iterator[Result]:
    """Rows of a survival task that its evidence holds: calibration at the horizon, D-calibration.

    The p value of D-calibration stands as it is, without an interval; a low one speaks against the
    model, a high one does not speak for it.
    """
    if setting.horizons is None:
        return
    times = setting.horizons.times
    name = setting.horizons.name(times.index(found.horizon) if found.horizon in times else 0)
    same = ("task", "target", "kind", "method", "protocol", "label_fraction", "split", "resampling")
    base = {one: getattr(found, one) for one in same}
    held, test = found.calibration, found.d_calibration
    for metric, direction in (("ici", "lower"), (RAW, "lower"), ("calibration_slope", "target")):
        about = {**base, "metric": f"{metric}_at_{name}", "direction": direction}
        if isinstance(held, Calibration) and metric == RAW:
            yield raw_ici(held.ici, held.ici_uncorrected, table.notes, **about)
        elif isinstance(held, Calibration):
            interval = held.ici if metric == "ici" else held.slope
            yield Result.of(interval, note="; ".join([f"{draws} draws", *table.notes]), **about)
        else:
            yield Result(note=_reason(held), **about)
    about = {**base, "metric": "d_calibration_p", "direction": "higher"}
    if isinstance(test, DCalibration):
        said = [f"p of the test, chi-square {test.statistic:.3g}: no interval", test.note]
        yield Result(
            value=test.p_value,
            n=int(table.rows.sum()),
            note="; ".join(part for part in said if part),
            **about,
        )
    else:
        yield Result(note=_reason(test), **about)


def raw_ici(beside: Interval, value: float | None, notes: Sequence[str], **about: Any) -> Result:
    """The row of the ICI as published, beside the corrected one.

    It has no interval: draws add their noise to that of the sample, so that percentiles would lie
    above the value.
    """
    note = "; ".join([PLUG_IN, *notes])
    if value is not None and not np.isfinite(value):  # a class that nobody has, and a mean over it
        value, note = None, "; ".join([beside.note or "not every class can be judged", *notes])
    return Result(value=value, n=beside.n, events=beside.events, subjects=beside.subjects,
                  non_events=beside.non_events, seeds=beside.seeds, note=note, **about)  # fmt: skip


def _reason(missing: object) -> str:
    return missing.reason if isinstance(missing, NotEstimable) else "not computed"
