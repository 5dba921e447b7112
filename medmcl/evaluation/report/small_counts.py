"""An evaluation as it may leave: counts of few people hidden in all that a report is made of.

What is found stays as it is in memory; a report, and all files beside it, are made of `as_shown`.
A count is few if 1 to 4 people are meant, and hidden too if few are left of a whole that is shown:
117 scored of 120. Numbers of which few people decide are withheld; those from which a hidden count
would follow are rounded to a step no finer than 1 / n.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from medmcl.core.suppression import (
    FEWEST_SUBJECTS,
    TOO_FEW,
    WITHHELD,
    Covered,
    Hidden,
    hide,
    read_count,
    shown_count,
    step_of,
    to_step,
)
from medmcl.evaluation.metrics.calibration_curve import (
    Calibration,
    CalibrationCurve,
    CalibrationGroup,
)
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import Interval
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.evidence import (
    FittedOn,
    RiskGroup,
    RiskHistogram,
    TaskEvidence,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import CROSS_VALIDATION, MAJORITY, Result
from medmcl.evaluation.protocol.scoring import CONSTANT
from medmcl.evaluation.protocol.subgroups import RANKED
from medmcl.evaluation.report.small_groups import hidden_groups, levels_of

NUMBERS = ("value", "low", "high", "seed_spread")
TWO_DIGITS = ("p_value",)
OF_DIFFERENCES = ("difference", "difference_low", "difference_high")
WHOLES = ("macro", "all classes")
"""Targets whose rows are means over the others."""
POINTS = 50  # of a smooth curve, at even steps
Counted = TypeVar("Counted")


def as_shown(data: Evaluation) -> Evaluation:
    """Give an evaluation with what would tell of few people hidden; ``data`` is left as it is."""
    wholes, levels = _wholes(data), levels_of(data.table_one, {row.split for row in data.results})
    results = hidden_rows(data.results, wholes)
    return replace(
        data,
        results=results,
        subgroups=hidden_groups(
            [_hidden(row, (*wholes, *levels.get(row.group, ())))[0] for row in data.subgroups],
            levels,
            partial(_rounded, called={}),
        ),
        presence=[_hidden(row, wholes)[0] for row in data.presence],
        evidence=[_evidence(one, wholes) for one in data.evidence],
        fitted=[_fitted(one, wholes) for one in data.fitted],
        strange=[line.shown if isinstance(line, Covered) else line for line in data.strange],
        shown={name: [_inside(one, wholes) for one in found] for name, found in data.shown.items()},
        embedding_map=data.embedding_map if _dots(data) >= FEWEST_SUBJECTS else {},
    )


def _fitted(one: FittedOn, wholes: Sequence[int]) -> FittedOn:
    wholes = () if one.use == "out_of_fold" else wholes
    counts = {name: None if (count := getattr(one, name)) is None else shown_count(count, *wholes)
              for name in ("subjects", "rows")}  # fmt: skip
    return replace(one, **counts)  # type: ignore[arg-type]  # each under its name


def _inside(found: Any, wholes: Sequence[int]) -> Any:
    """What an aspect found beside results, with rows and ledger lines in it as shown."""
    if not is_dataclass(found) or isinstance(found, type):
        return found
    changes: dict[str, Any] = {}
    for name, value in vars(found).items():
        if not isinstance(value, (list, tuple)) or not value:
            continue
        if all(isinstance(one, Result) for one in value):
            changes[name] = type(value)(hidden_rows(value, wholes))
        elif all(isinstance(one, FittedOn) for one in value):
            changes[name] = type(value)(_fitted(one, wholes) for one in value)
    return replace(found, **changes) if changes else found


def hidden_rows(
    rows: Iterable[Counted], wholes: Iterable[int] = (), names: Mapping[str, str] | None = None
) -> list[Counted]:
    """Give rows of results with small counts, and what would tell them, hidden.

    Args:
        rows: Results, or rows of another class with their fields.
        wholes: Counts of people that are shown elsewhere.
        names: What a field of `Result` is called in these rows, where that is another name.
    """
    known, called = tuple(wholes), names or {}
    pairs = [_hidden(row, known, called) for row in rows]
    tasks = {row.task for row, held in pairs if held}  # type: ignore[attr-defined]  # of any class
    return [
        _rounded(row, called) if _is_mean(row) and row.task in tasks else row  # type: ignore[attr-defined]  # as above
        for row, _ in pairs
    ]


def _wholes(data: Evaluation) -> tuple[int, ...]:
    """Counts of people that a report shows: steps of the flow, and those of Table 1."""
    found = {step: subjects for step, subjects, _ in data.flow}
    shown = {*found.values(), found.get("train", 0) + found.get("tuning", 0)}
    for row in data.table_one.rows if data.table_one is not None else ():
        if row.statistic == "subjects":
            shown |= {cell.count for cell in row.cells if cell.count is not None}
    return tuple(shown)


def _dots(data: Evaluation) -> int:
    return len(data.embedding_map.get("points", ()))


def _is_mean(row: Any) -> bool:
    return row.target in WHOLES


def _hidden(
    row: Counted, wholes: Sequence[int], called: Mapping[str, str] = {}
) -> tuple[Counted, bool]:
    """One row as shown, and whether its numbers are withheld."""

    def read(name: str) -> Any:
        return getattr(row, called.get(name, name), None)

    people = read("subjects") or read("n")
    if not people:
        return row, False
    events, without = read("events"), read("non_events")
    in_folds = read("split") == CROSS_VALIDATION  # whose fits are of other people each
    changes: dict[str, Any] = _of_training(read, () if in_folds else wholes)
    count = shown_count(people, *wholes)
    is_hidden, held = isinstance(count, Hidden), people < FEWEST_SUBJECTS
    if is_hidden:
        changes["subjects"] = count if read("subjects") else read("subjects")
        changes["n"] = Hidden(read("n"), str(count) if read("n") == people else WITHHELD)
    if events is not None:
        rest = people - events if without is None else without
        with_event, others = _within(events, count), _within(rest, count)
        if is_hidden and (events == people or read("kind") == "multiclass"):
            with_event = Hidden(events)  # the same number, or one of those that add up to it
        if is_hidden or isinstance(with_event, Hidden) or isinstance(others, Hidden):
            changes |= _sides(with_event, others, count, without is not None)
            is_hidden = True
        held |= 0 < events < FEWEST_SUBJECTS
        held |= 0 < rest < FEWEST_SUBJECTS and not (_is_mean(row) or read("kind") == "survival")
    held |= isinstance(count, Hidden) and events is not None and _tells_share(read)
    if held:
        note = "; ".join(text for text in (TOO_FEW, read("note")) if text)
        gone = dict.fromkeys((*NUMBERS, *OF_DIFFERENCES, "p_value"))
        return _replaced(row, called, {**changes, **gone, "note": note}), True
    done = _replaced(row, called, changes)
    return (_rounded(done, called) if is_hidden else done), False


def _tells_share(read: Any) -> bool:
    """Whether a number follows from the share with the event: predictions are the same for all."""
    constant = read("method") == MAJORITY or CONSTANT in (read("note") or "")
    return constant and not read("versus") and read("metric") not in RANKED


def _within(count: int, people: int) -> int:
    """Some of the people as shown; of hidden people no range, whose ends would tell them."""
    shown = shown_count(count, people)
    few = count < FEWEST_SUBJECTS
    return (
        Hidden(count)
        if isinstance(people, Hidden) and isinstance(shown, Hidden) and not few
        else shown
    )


def _sides(events: int, others: int, people: int, has_others: bool) -> dict[str, Any]:
    """Those with and without the event, neither of which may tell the other."""
    if isinstance(people, Hidden):
        if people < FEWEST_SUBJECTS:
            events, others = (Hidden(one, str(people)) for one in (events, others))
        elif not isinstance(others, Hidden):
            others = Hidden(others)
    elif isinstance(events, Hidden) and not isinstance(others, Hidden):
        others = Hidden(others)
    elif isinstance(others, Hidden) and not isinstance(events, Hidden):
        events = Hidden(events)
    return {"events": events, **({"non_events": others} if has_others else {})}


def _of_training(read: Any, wholes: Sequence[int]) -> dict[str, Any]:
    """Counts of whom a row was fitted on."""
    found = {
        name: shown_count(count, *wholes)
        for name in ("train_subjects", "tuning_subjects")
        if (count := read(name)) is not None
    }
    if (events := read("train_events")) is not None:
        people = found.get("train_subjects")
        found["train_events"] = shown_count(events) if people is None else _within(events, people)
    return found


def _rounded(row: Counted, called: Mapping[str, str]) -> Counted:
    """A row with its numbers at a step that tells no count."""
    people = getattr(row, called.get("subjects", "subjects"), 0)
    step = step_of(_least(people or getattr(row, called.get("n", "n")) or 1))
    numbers = {
        name: to_step(value, step)
        for name in (*NUMBERS, *OF_DIFFERENCES)
        if (value := getattr(row, name, None)) is not None
    }
    for name in TWO_DIGITS:
        if (value := getattr(row, name, None)) is not None:
            numbers[name] = float(f"{value:.2g}")
    return _replaced(row, called, numbers)


def _middle(people: int) -> float:
    """About how many people a count as shown is: the middle of its range, or of five."""
    if not isinstance(people, Hidden):
        return people
    least, _, most = str(people).replace(",", "").partition(" to ")
    return (int(least) + int(most)) / 2 if most else people - people % FEWEST_SUBJECTS + 2


def _least(people: int) -> int:
    """How many people a count as shown is at least; not finer than fives where no range is."""
    if not isinstance(people, Hidden):
        return people
    least = int(read_count(str(people)))
    return least or people - people % FEWEST_SUBJECTS or 1


def _replaced(row: Counted, called: Mapping[str, str], changes: Mapping[str, Any]) -> Counted:
    """A row with other values in those of the fields that it has."""
    own = {called.get(name, name): value for name, value in changes.items()}
    own = {name: value for name, value in own.items() if hasattr(row, name)}
    return replace(row, **own)  # type: ignore[type-var]  # rows are of several dataclasses


def _evidence(one: TaskEvidence, wholes: Sequence[int]) -> TaskEvidence:
    """What figures of a task show, without what tells of few people."""
    found, curve = one.calibration, one.decision
    n, subjects, events = one.followed
    groups = tuple(map(_risk_group, one.risk_groups))
    if subjects:
        followed = _counts(n, subjects, events, wholes)
        one = replace(one, followed=(followed["n"], followed["subjects"], followed["events"]))
        if isinstance(followed["subjects"], Hidden) and groups:  # which all groups would tell
            most = max(groups, key=lambda group: group.n)
            hidden = replace(most, n=Hidden(most.n), subjects=Hidden(most.subjects))
            groups = tuple(hidden if group is most else group for group in groups)
    if isinstance(found, Calibration):
        found = _calibration(found, wholes, one)
    if isinstance(curve, DecisionCurve):
        curve = _decision(curve, wholes, one)
    return replace(
        one,
        calibration=found,
        decision=curve,
        histogram=None if one.histogram is None else _histogram(one.histogram, wholes),
        risk_groups=groups,
    )


def _is_held(found: Calibration | DecisionCurve, people: int, one: TaskEvidence) -> bool:
    """Whether few people decide all numbers, or the share with the event gives them."""
    is_few = 0 < found.events < FEWEST_SUBJECTS
    is_few |= one.kind != "survival" and 0 < found.subjects - found.events < FEWEST_SUBJECTS
    bars = one.histogram
    is_constant = one.method == MAJORITY or (bars is not None and sum(map(bool, bars.counts)) < 2)
    return is_few or (isinstance(people, Hidden) and is_constant)


def _counts(n: int, subjects: int, events: int, wholes: Sequence[int]) -> dict[str, Any]:
    people = shown_count(subjects, *wholes)
    if isinstance(people, Hidden):
        n = Hidden(n, str(people) if n == subjects else WITHHELD)
    return {"n": n, "subjects": people, "events": _within(events, people)}


def _of_task(
    found: Calibration | DecisionCurve, wholes: Sequence[int], kind: str
) -> dict[str, Any]:
    """Its counts; where people are hidden, events of several classes are: they add up to them."""
    counts = _counts(found.n, found.subjects, found.events, wholes)
    if kind == "multiclass" and isinstance(counts["subjects"], Hidden):
        counts["events"] = Hidden(found.events)
    return counts


def _calibration(
    found: Calibration, wholes: Sequence[int], one: TaskEvidence
) -> Calibration | NotEstimable:
    counts = _of_task(found, wholes, one.kind)
    people, events = counts["subjects"], counts["events"]
    if _is_held(found, people, one):
        return NotEstimable(TOO_FEW)
    groups = _pooled(found.groups)
    if isinstance(people, Hidden) and groups:  # which all of them together would tell
        least = min(groups, key=lambda group: group.n)
        groups = tuple(_uncounted(group) if group is least else group for group in groups)
    curve = None if found.curve is None else _even(found.curve)
    rounded: dict[str, Any] = {}
    if isinstance(people, Hidden) or isinstance(events, Hidden):
        step = step_of(_least(people))
        for name in ("intercept", "slope", "observed_expected", "ici"):
            rounded[name] = _rounded_interval(getattr(found, name), step)
        for name in ("joint_intercept", "ici_uncorrected", "ici_if_perfect", "e50", "e90", "emax"):
            value = getattr(found, name)
            rounded[name] = None if value is None else to_step(value, step)
    return replace(found, curve=curve, groups=groups, **counts, **rounded)


def _rounded_interval(found: Interval | None, step: float) -> Any:
    if found is None:
        return None
    ends: dict[str, Any] = {
        name: to_step(number, step)
        for name in ("value", "low", "high")
        if (number := getattr(found, name)) is not None
    }
    return replace(found, **ends)


def _even(curve: CalibrationCurve) -> CalibrationCurve | None:
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


def _pooled(groups: Sequence[CalibrationGroup]) -> tuple[CalibrationGroup, ...]:
    """Neighbouring groups joined until none has few people with the event, or few without."""
    done: list[CalibrationGroup] = []
    for group in groups:
        if done and _has_few(done[-1]):
            group = _joined(done.pop(), group)
        done.append(group)
    while len(done) > 1 and _has_few(done[-1]):
        last = done.pop()
        done.append(_joined(done.pop(), last))
    return tuple(group for group in done if not _has_few(group))


def _uncounted(group: CalibrationGroup) -> CalibrationGroup:
    """A group that does not say how many it is; its share with the event would, so it has none."""
    gone = dict.fromkeys(("observed", "low", "high"), math.nan)
    return replace(group, n=Hidden(group.n), subjects=Hidden(group.subjects), **gone)


def _has_few(group: CalibrationGroup) -> bool:
    few = FEWEST_SUBJECTS - 1e-9
    return group.subjects < few or 0 < group.events < few or 0 < group.subjects - group.events < few


def _joined(a: CalibrationGroup, b: CalibrationGroup) -> CalibrationGroup:
    """Two groups as one: means by rows, ends by the squares of their halves."""
    n, shares = a.n + b.n, (a.n / (a.n + b.n), b.n / (a.n + b.n))
    observed = sum(share * one.observed for share, one in zip(shares, (a, b), strict=True))
    below, above = (
        float(np.hypot(*(share * abs(getattr(one, end) - one.observed)
                         for share, one in zip(shares, (a, b), strict=True))))
        for end in ("low", "high")
    )  # fmt: skip
    return CalibrationGroup(
        n=n,
        subjects=a.subjects + b.subjects,
        events=a.events + b.events,
        predicted=sum(share * one.predicted for share, one in zip(shares, (a, b), strict=True)),
        observed=observed,
        low=max(0.0, observed - below),
        high=min(1.0, observed + above),
    )


def _decision(
    curve: DecisionCurve, wholes: Sequence[int], one: TaskEvidence
) -> DecisionCurve | NotEstimable:
    """The curve without points at which few are treated, or few are not, in steps of the cohort.

    Treated shares are in steps of five people, so that a step holds no few; net benefit of one.
    Where people are hidden, all that follows from the share with the event (thresholds, treating
    all) is made of that share as it is shown: rounded at so many thresholds it would be told.
    """
    counts = _of_task(curve, wholes, one.kind)
    people, events = counts["subjects"], counts["events"]
    if _is_held(curve, people, one):
        return NotEstimable(TOO_FEW)
    least = _least(people)
    names = ("model", "low", "high", "standardised", "avoided", "treated")
    at = {name: np.array(getattr(curve, name), dtype=np.float64) for name in names}
    treated = at["treated"] * curve.n
    rest = curve.n - treated
    few = FEWEST_SUBJECTS - 1e-6
    hidden = ((treated > 1e-6) & (treated < few)) | ((rest > 1e-6) & (rest < few))
    at = {name: np.where(hidden, np.nan, column) for name, column in at.items()}
    if isinstance(people, Hidden) or isinstance(events, Hidden):
        share = to_step(min(1.0, curve.prevalence * curve.n / _middle(people)), step_of(least))
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
        "standardised": step_of(_least(events)), "avoided": 100 * step_of(least),
        "treated": step_of(least / FEWEST_SUBJECTS),
    }  # fmt: skip
    columns: dict[str, Any] = {
        name: tuple(
            None if np.isnan(value) else to_step(value, step) for value in at[name].tolist()
        )
        for name, step in steps.items()
    }
    return replace(curve, **columns, **counts)


def _histogram(bars: RiskHistogram, wholes: Sequence[int]) -> RiskHistogram:
    """Bars of few are of one height; where all of them would tell a count, the largest is too."""
    shown = hide(dict(enumerate(bars.counts)))
    if isinstance(shown_count(sum(bars.counts), *wholes), Hidden):
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
        **_counts(group.n, group.subjects, group.events, ()),
    )
