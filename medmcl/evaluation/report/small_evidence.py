"""What figures of a task show, as it may leave: without what tells of few people."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medmcl.core.suppression import (
    FEWEST_SUBJECTS,
    TOO_FEW,
    WITHHELD,
    Hidden,
    hide,
    shown_count,
    step_of,
    to_step,
    to_steps,
)
from medmcl.evaluation.metrics.calibration_curve import (
    Calibration,
    CalibrationCurve,
)
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.metrics.survival.d_calibration import DCalibration
from medmcl.evaluation.protocol.evidence import (
    RiskGroup,
    RiskHistogram,
    TaskEvidence,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import MAJORITY
from medmcl.evaluation.report.small_rows import Known, least_of, middle, within

POINTS = 50  # of a smooth curve, at even steps
TOLD = f"{WITHHELD}, so that few people cannot be told by subtraction"


def shown_evidence(one: TaskEvidence, known: Known) -> TaskEvidence:
    """What figures of a task show; of survival, groups of hidden people would tell them."""
    found, curve, test = one.calibration, one.decision, one.d_calibration
    known = known.of_task(one.task)
    n, subjects, events = one.followed
    groups = tuple(map(_risk_group, one.risk_groups))
    if subjects:
        followed = _counts(n, subjects, events, known)
        one = replace(one, followed=(followed["n"], followed["subjects"], followed["events"]))
        if one.competing is not None:
            one = replace(one, competing=_beside(one.competing, subjects - events, one.followed[1]))
        if isinstance(followed["subjects"], Hidden):
            groups = tuple(map(_withheld, groups))
            if isinstance(test, DCalibration):
                p_value = float(f"{test.p_value:.2g}")
                test = replace(test, statistic=None, p_value=p_value, shares=())
    if isinstance(found, Calibration):
        found = _calibration(found, known, one)
    if isinstance(curve, DecisionCurve):
        curve = _decision(curve, known, one)
    return replace(
        one,
        calibration=found,
        decision=curve,
        d_calibration=test,
        histogram=None if one.histogram is None else _histogram(one.histogram, known),
        risk_groups=groups,
    )


def _beside(competing: int, without: int, people: int) -> int:
    """People with the competing event as shown: with those without any, few of whom it may tell."""
    shown = within(competing, people)
    is_rest = 0 < without - competing < FEWEST_SUBJECTS
    return Hidden(competing) if is_rest and not isinstance(shown, Hidden) else shown


def _held(found: Calibration | DecisionCurve, people: int, events: int, one: TaskEvidence) -> str:
    """Why nothing is shown: few people decide all, or all tells them; empty if it is."""
    is_few = 0 < found.events < FEWEST_SUBJECTS
    is_few |= one.kind != "survival" and 0 < found.subjects - found.events < FEWEST_SUBJECTS
    if is_few or (isinstance(people, Hidden) and is_constant(one)):
        return TOO_FEW
    alone = isinstance(events, Hidden) and not isinstance(people, Hidden)
    return TOLD if alone else ""


def is_constant(one: TaskEvidence) -> bool:
    """Whether the prediction is the same for all, so that numbers follow from who has the event."""
    bars = one.histogram
    return one.method == MAJORITY or (bars is not None and sum(map(bool, bars.counts)) < 2)


def _tells_later(found: Calibration | DecisionCurve, one: TaskEvidence) -> bool:
    """Whether events by a horizon, less those of all follow-up, tell of few after it."""
    return one.kind == "survival" and 0 < one.followed[2] - found.events < FEWEST_SUBJECTS


def _counts(n: int, subjects: int, events: int, known: Known) -> dict[str, Any]:
    people = shown_count(subjects, *known.wholes)
    if isinstance(people, Hidden):
        n = Hidden(n, str(people) if n == subjects else WITHHELD)
    return {"n": n, "subjects": people, "events": within(events, people)}


def _of_task(found: Calibration | DecisionCurve, known: Known, one: TaskEvidence) -> dict[str, Any]:
    """Its counts; those of several classes add up to hidden people, and tell a rare one."""
    counts = _counts(found.n, found.subjects, found.events, known)
    many = one.kind == "multiclass" and isinstance(counts["subjects"], Hidden)
    if many or known.hides(one, "events"):
        counts["events"] = Hidden(found.events)
    return counts


def _calibration(found: Calibration, known: Known, one: TaskEvidence) -> Calibration | NotEstimable:
    counts = _of_task(found, known, one)
    people, events = counts["subjects"], counts["events"]
    if why := _held(found, people, events, one):
        return NotEstimable(why)
    few = any(group.has_few(FEWEST_SUBJECTS) for group in found.groups)
    if _tells_later(found, one):
        few, events = True, Hidden(found.events)
        counts["events"] = events
    groups = () if few or isinstance(people, Hidden) else found.groups  # sizes would tell them
    curve = None if found.curve is None else even_curve(found.curve)
    rounded: dict[str, Any] = {}
    if isinstance(people, Hidden) or isinstance(events, Hidden):
        step = step_of(least_of(people))
        for name in ("intercept", "slope", "observed_expected", "ici"):
            rounded[name] = _rounded_interval(getattr(found, name), step)
        for name in ("joint_intercept", "ici_uncorrected", "ici_if_perfect", "e50", "e90", "emax"):
            value = getattr(found, name)
            rounded[name] = None if value is None else to_steps({name: value}, step)[name]
    return replace(found, curve=curve, groups=groups, **counts, **rounded)


def _rounded_interval(found: Interval | None, step: float) -> Any:
    if found is None:
        return None
    ends = {name: getattr(found, name) for name in ("value", "low", "high")}
    told: dict[str, Any] = {name: one for name, one in ends.items() if one is not None}
    return replace(found, **to_steps(told, step))  # type: ignore[arg-type]  # each under its name


def even_curve(curve: CalibrationCurve) -> CalibrationCurve | None:
    """The curve at even steps, and at no person's own risk; nothing where no risk is near."""
    x = np.array(curve.predicted)
    step = step_of(POINTS / max(float(np.ptp(x)), 1e-9))
    places = np.arange(np.ceil(x[0] / step), np.floor(x[-1] / step) + 1) * step
    near = [np.abs(x - place).min() <= step for place in places]
    at = np.round(places[np.array(near, dtype=bool)], 12)
    if len(at) < 2:
        return None
    read = {name: np.interp(at, x, y).tolist() if (y := getattr(curve, name)) else []
            for name in ("observed", "low", "high")}  # fmt: skip
    return CalibrationCurve(predicted=tuple(at.tolist()),
                            **{name: tuple(y) for name, y in read.items()})  # fmt: skip


def _decision(
    curve: DecisionCurve, known: Known, one: TaskEvidence
) -> DecisionCurve | NotEstimable:
    """The curve without points at which few are treated, or few are not, in steps of the cohort.

    Treated shares are in steps of five people, so that a step holds no few; net benefit of one.
    Where people are hidden, all that follows from the share with the event (thresholds, treating
    all) is made of that share as it is shown: rounded at so many thresholds it would be told.
    """
    counts = _of_task(curve, known, one)
    people, events = counts["subjects"], counts["events"]
    if why := _held(curve, people, events, one):
        return NotEstimable(why)
    if _tells_later(curve, one):
        events = counts["events"] = Hidden(curve.events)
    least = least_of(people)
    names = ("model", "low", "high", "standardised", "avoided", "treated")
    at = {name: np.array(getattr(curve, name), dtype=np.float64) for name in names}
    treated = at["treated"] * curve.n
    rest = curve.n - treated
    few = FEWEST_SUBJECTS - 1e-6
    hidden = ((treated > 1e-6) & (treated < few)) | ((rest > 1e-6) & (rest < few))
    at = {name: np.where(hidden, np.nan, column) for name, column in at.items()}
    if isinstance(people, Hidden) or isinstance(events, Hidden):
        share = to_step(min(1.0, curve.prevalence * curve.n / middle(people)), step_of(least))
        thresholds = sensible_thresholds(share)
        grid = np.array(thresholds)
        at = {name: np.interp(grid, curve.thresholds, column) for name, column in at.items()}
        every = share - (1 - share) * grid / (1 - grid)
        alike = at["treated"] > 1 - 1e-9
        told = {"model": every, "low": np.nan, "high": np.nan, "avoided": 0.0,
                "standardised": every / share if share else np.nan}  # fmt: skip
        at |= {name: np.where(alike, column, at[name]) for name, column in told.items()}
        every = tuple(to_step(value, step_of(least)) for value in every.tolist())
        curve = replace(curve, thresholds=thresholds, prevalence=share, treat_all=every,
                        treat_none=(0.0,) * len(grid))  # fmt: skip
    steps = {
        "model": step_of(least), "low": step_of(least), "high": step_of(least),
        "standardised": step_of(least_of(events)), "avoided": 100 * step_of(least),
        "treated": step_of(least / FEWEST_SUBJECTS),
    }  # fmt: skip
    columns: dict[str, Any] = {
        name: tuple(
            None if np.isnan(value) else to_step(value, step) for value in at[name].tolist()
        )
        for name, step in steps.items()
    }
    return replace(curve, **columns, **counts)


def _histogram(bars: RiskHistogram, known: Known) -> RiskHistogram:
    """Bars of few are of one height; where all of them would tell a count, the largest is too."""
    shown = hide(dict(enumerate(bars.counts)))
    if isinstance(shown_count(sum(bars.counts), *known.wholes), Hidden):
        shown[int(np.argmax(bars.counts))] = WITHHELD
    heights = {WITHHELD: FEWEST_SUBJECTS}
    return replace(
        bars,
        counts=tuple(
            Hidden(heights.get(text, FEWEST_SUBJECTS // 2), text) if isinstance(text, str) else text
            for text in shown.values()
        ),
    )


def _risk_group(group: RiskGroup) -> RiskGroup:
    """Ends of a group are single people's risks: two figures of them."""
    return replace(
        group,
        low=float(f"{group.low:.2g}"),
        high=float(f"{group.high:.2g}"),
        **_counts(group.n, group.subjects, group.events, Known()),
    )


def _withheld(group: RiskGroup) -> RiskGroup:
    """A group without its curve and numbers at risk, which begin with how many it is."""
    counts = {name: Hidden(getattr(group, name)) for name in ("n", "subjects", "events")}
    return replace(group, **counts, curve=NotEstimable(TOLD))  # type: ignore[arg-type]  # each under its name
