"""Which metrics a task's table holds, and what each of them reads of a prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from medmcl.core.targets import Targets
from medmcl.data.cohort.spec import UNITS_PER_YEAR
from medmcl.evaluation.metrics.decision_curve import incidence_at, net_benefit_metric
from medmcl.evaluation.metrics.metric import Direction, Metric
from medmcl.evaluation.metrics.multiclass import BRIER_CLASSES
from medmcl.evaluation.metrics.predictions import METRICS, SPECS
from medmcl.evaluation.metrics.survival.censoring import clamp_times
from medmcl.evaluation.metrics.survival.metric import (
    SurvivalMetric,
    auc_metric,
    brier_metric,
    c_index_ipcw_metric,
    integrated_brier_metric,
    survival_probabilities,
)

Reads = Literal["values", "risk", "survival", "curves"]

FEW_DRAWS = 200
"""Bootstrap draws where one draw is dear: curves smoothed anew, Kaplan-Meier risks inside groups,
and tasks of many columns."""
MANY_COLUMNS = 8
GRID = 40  # times of the integrated Brier score
FINE = 200  # times at which predicted curves are kept
MORE_BINARY = (
    "sensitivity_at_specificity",
    "tpr_at_top",
    "calibration_intercept",
    "calibration_slope",
    "ici",
)
_RANKING = (
    "auroc",
    "auprc",
    "accuracy",
    "balanced_accuracy",
    "pearson",
    "c_index",
    "c_index_ipcw",
    "sensitivity_at_specificity",
    "tpr_at_top",
    "calibration_slope",
    "ici",
)
CENSORED = "competing events count as censored"
_SEEN = "; competing events are seen, not censored"
_CALIBRATION = ("calibration_intercept", "calibration_slope", "ici")
_ORDER_ONLY = ("auroc", "auprc", "sensitivity_at_specificity", "tpr_at_top")
_NOTES = {"sensitivity_at_specificity": "at specificity 0.9", "tpr_at_top": "top 5 %"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric of a table.

    Attributes:
        metric: Its name in the table.
        spec: How it is computed.
        reads: What it is given: ``values`` as predicted, the ``risk`` of the event by ``at`` or
            the ``survival`` at it, or survival ``curves`` over ``at``.
        at: A time, or the times of a grid.
        note: What a reader must know of it.
        dear: Whether a draw costs so much that fewer must do.
        is_order: Whether only the order of risks counts. Out of fold, that is the order of
            predictions (of survival: log hazards) standardised in each fold: risks hold each
            fold's own baseline, which is low where its test rows have many events, and would rank
            subjects by fold.
        is_whole: Whether it reads all classes at once, not one against the rest.
    """

    metric: str
    spec: Metric
    reads: Reads = "values"
    at: tuple[float, ...] = ()
    note: str = ""
    dear: bool = False
    is_order: bool = False
    is_whole: bool = False

    @property
    def horizon(self) -> float | None:
        """The one time that it judges risks by: events after it do not decide it."""
        return self.at[0] if len(self.at) == 1 else None

    @property
    def compares(self) -> bool:
        """Whether a difference of two methods has a direction: not where a target is aimed at."""
        return self.spec.direction != "target"

    @property
    def ranks(self) -> bool:
        """Whether it orders or parts subjects by their predictions, or smooths over them."""
        return self.metric in _RANKING or self.metric.startswith(("auc_at_", "net_benefit"))


@dataclass(frozen=True, kw_only=True)
class Horizons:
    """Times of a survival task, in its unit.

    Attributes:
        years: Horizons as named, in years or, without any, in the unit of the task.
        times: The same in the unit of the task.
        grid: Times of the integrated Brier score, within follow-up.
        fine: Times at which curves are predicted, up to the last follow-up; `asked` among them.
        censoring: Event and time of the rows that give the censoring weights; None = the scored.
        censoring_of_any: The same where an event of any kind is no censoring.
        has_competing: Whether other events compete.
        notes: Where all of that comes from.
        suffix: What stands behind a horizon in a metric's name.
        unit: Of times; empty where the task names none.
    """

    years: tuple[float, ...]
    times: tuple[float, ...]
    grid: np.ndarray
    fine: np.ndarray
    censoring: tuple[np.ndarray, np.ndarray] | None
    censoring_of_any: tuple[np.ndarray, np.ndarray] | None
    has_competing: bool
    notes: tuple[str, ...]
    suffix: str
    unit: str

    @property
    def asked(self) -> np.ndarray:
        """Times at which metrics read curves, ascending."""
        return np.unique(np.concatenate([self.grid, self.times]))

    def name(self, number: int) -> str:
        """A horizon as it stands in a metric's name, as ``5y``."""
        return f"{self.years[number]:g}{self.suffix}"


@dataclass(frozen=True)
class Thresholds:
    """Risks at which net benefit is judged: those that train rows had, where they are known.

    Attributes:
        risks: Column, or horizon as ``5y``, to a risk inside (0, 1).
        source: Where they come from, as ``guideline``, or whose risks they are.
        splits: Splits whose outcomes they were learned on, where medmcl learned them; empty =
            they are the caller's.
    """

    risks: Mapping[str, float]
    source: str
    splits: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether `thresholds_of` learned them from train rows of this task."""
        return self.source == "train" and self.splits == ("train",)

    @property
    def whose(self) -> str:
        """Where they come from, in words."""
        return f"kept: {self.source}" if self.splits else f"given by the caller: {self.source}"

    def at(self, risk: float, what: str) -> str:
        """Say at which risk a net benefit is judged, and ``what`` of whom it is."""
        origin = f"the {what} in {self.source}" if self.splits else self.whose
        return f"at a risk threshold of {risk:g}, {origin}"


def thresholds_of(targets: Targets, train: np.ndarray, horizons: Horizons | None) -> Thresholds:
    """Learn the thresholds of a task from train rows (indices).

    Raises:
        LeakageError: A row is of `held_out`, where the targets know it.
    """
    targets.refuse_leak("the threshold of net benefit", train)
    if horizons is not None:
        event, time = event_codes(targets, train)
        each = [_risk_by(event, time, at) for at in horizons.times]
        named = {horizons.name(k): risk for k, risk in enumerate(each)}
        return _of_train({name: risk for name, risk in named.items() if risk is not None})
    risks = {}
    for column, name in enumerate(targets.columns):
        known = train[targets.known[train, column]]
        share = float((targets.values[known, column] > 0).mean()) if len(known) else 0.0
        if 0 < share < 1:
            risks[name] = min(0.99, max(0.001, float(f"{share:.2g}")))
    return _of_train(risks if targets.kind in ("binary", "multilabel") else {})


def _of_train(risks: Mapping[str, float]) -> Thresholds:
    return Thresholds(risks, "train", ("train",))


def event_codes(targets: Targets, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give 0 = censored, 1 = the event, 2 = a competing event, and the time of some rows."""
    event, time = targets.event[rows], targets.time[rows]
    codes = event.astype(np.float64)
    if targets.competing is not None:
        codes[targets.competing[rows]] = 2
    return codes, time


def horizons_of(targets: Targets, scored: np.ndarray, train: np.ndarray) -> Horizons:
    """Choose the times of a survival task; the scored outcomes give their reach and no more.

    Args:
        targets: The task.
        scored: Rows to score (indices).
        train: Rows that give censoring weights and, if the task names none, the horizon (indices);
            without an event among them the scored rows weigh themselves.
    """
    time = targets.time[scored]
    seen, when = targets.event[train], targets.time[train]
    leaves, left = event_codes(targets, scored)[0] > 0, event_codes(targets, train)[0] > 0
    is_own = not seen.any()
    notes = [f"censoring weights from {'the scored rows' if is_own else 'train'}"]
    years, per_year, suffix = tuple(targets.horizons_years), UNITS_PER_YEAR.get(targets.unit), "y"
    if not years or per_year is None:
        base = time if is_own else when
        middle = float(np.median(base)) if len(base) and np.median(base) > 0 else 1.0
        years, per_year, suffix = (float(f"{middle:.3g}"),), 1.0, f"_{targets.unit or 'time'}"
        notes.append(f"no horizon is stated: the median follow-up, {years[0]:g}, is taken")
    times = tuple(year * per_year for year in years)
    censoring = None if is_own else (seen, when)
    last = max(float(time.max(initial=0.0)), 1e-9)
    wanted = np.linspace(0, min(max(times), last), GRID + 1)[1:]
    anyone = None if is_own else (left, when)
    grid = clamp_times(wanted, leaves, time, anyone)[0] if len(time) else wanted[:0]
    fine = np.unique(np.concatenate([np.linspace(0, last, FINE + 1)[1:], grid, times]))
    return Horizons(
        years=years,
        times=times,
        grid=grid,
        fine=fine,
        censoring=censoring,
        censoring_of_any=anyone,
        has_competing=targets.competing is not None,
        notes=tuple(notes),
        suffix=suffix,
        unit=targets.unit or "",
    )


def _risk_by(event: np.ndarray, time: np.ndarray, at: float) -> float | None:
    """Observed risk of event 1 by a time, rounded, inside (0, 1); None if it is not reached."""
    if not (event == 1).any():
        return None
    risk = float(incidence_at(event.astype(float), time, np.ones((len(time), 1)), at)[0])
    return None if np.isnan(risk) or not 0.001 < risk < 0.999 else float(f"{risk:.2g}")


def lines_of(
    targets: Targets, thresholds: Thresholds, horizons: Horizons | None = None, column: int = 0
) -> list[Line]:
    """Give every metric of a task (or of one of its columns), the headline first.

    Args:
        targets: The task.
        thresholds: Where net benefit is judged.
        horizons: Of a survival task.
        column: Column of a binary, multilabel or regression task.
    """
    if horizons is not None:
        return _survival_lines(horizons, thresholds)
    if targets.kind == "regression":
        return [_line(name) for name in METRICS["regression"]]
    is_classes = targets.kind == "multiclass"
    count = len(targets.names)
    many = count > MANY_COLUMNS
    names = _CALIBRATION if is_classes else MORE_BINARY
    more = [_line(name, dear=many or name == "ici") for name in names]
    if many:  # its curve would be smoothed anew in each draw of each column
        reason = f"not computed: more than {MANY_COLUMNS} {'classes' if is_classes else 'columns'}"
        at = names.index("ici")
        more[at] = replace(more[at], spec=nothing(SPECS["ici"], reason))
    if is_classes:
        return [*(_of_classes(name) for name in METRICS["multiclass"]), *more, _no_benefit()]
    basic = [_line(name) for name in METRICS[targets.kind]]
    at = METRICS[targets.kind].index("brier")
    basic[at] = replace(basic[at], spec=_needs_event(basic[at].spec))
    return [*basic, *more, _benefit(targets.columns[column], thresholds, many)]


def _line(name: str, **about: Any) -> Line:
    """The line of a metric of one column."""
    note, is_order = _NOTES.get(name, ""), name in _ORDER_ONLY
    return Line(metric=name, spec=SPECS[name], note=note, is_order=is_order, **about)


def _of_classes(name: str) -> Line:
    """The line of a metric of a multiclass task: of one class against the rest, or of all."""
    if name == "auroc":
        return _line(name)
    if name == "brier":
        note = "summed over classes, from 0 to 2"
        return Line(metric=name, spec=BRIER_CLASSES, note=note, is_whole=True)
    return replace(_line(name), is_whole=True)


def basic_lines(lines: Sequence[Line], kind: str) -> list[Line]:
    """Those that are computed at every label fraction."""
    return [line for line in lines if line.metric in METRICS[kind]]


def nothing(spec: Metric, reason: str) -> Metric:
    """The same metric, that does not exist, for a reason."""
    return Metric(
        spec.name, spec.direction, _no_draws, reason, spec.chance, spec.counts_events, _as_it_is
    )


def _no_draws(*arrays: np.ndarray) -> np.ndarray:
    return np.full(arrays[-1].shape[1], np.nan)


def _as_it_is(predictions: np.ndarray) -> np.ndarray:
    return np.zeros(len(predictions))


def _benefit(column: str, thresholds: Thresholds, dear: bool) -> Line:
    threshold = thresholds.risks.get(column)
    if threshold is None:
        reason = f"no threshold: {thresholds.source} has one class, or no row"
        if not thresholds.splits:
            reason = f"no threshold: the caller gave none for {column}"
        return Line(metric="net_benefit", spec=nothing(net_benefit_metric(0.5), reason))
    note = thresholds.at(threshold, "share of positives")
    spec = _needs_event(net_benefit_metric(threshold))
    return Line(metric="net_benefit", spec=spec, note=note, dear=dear)


def _no_benefit() -> Line:
    """The line of several classes: it says where the curves are."""
    reason = (
        "not defined for several classes: a decision needs one event; the figure has the curves of "
        "one class against the rest"
    )
    return Line(metric="net_benefit", spec=nothing(net_benefit_metric(0.5), reason), is_whole=True)


def _needs_event(spec: Metric) -> Metric:
    """The same metric, not estimable without a positive: a low risk for all would look perfect."""
    return replace(spec, draws=partial(_with_event, spec.draws), missing="no event")


def _with_event(
    draws: Callable[..., np.ndarray], targets: np.ndarray, risk: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The same metric, NaN in draws without a positive."""
    found = draws(targets, risk, weights)
    return np.where((targets > 0).astype(float) @ weights > 0, found, np.nan)


def _survival_lines(times: Horizons, thresholds: Thresholds) -> list[Line]:
    weights, where = times.censoring, "; ".join(times.notes)
    rank = CENSORED if times.has_competing else ""
    where_ranked = "; ".join(part for part in (where, rank) if part)
    tau = float(times.grid[-1]) if len(times.grid) else None
    said = "not truncated" if tau is None else f"events before {tau:.4g}"
    ipcw = c_index_ipcw_metric(censoring=weights, tau=tau)
    lines = [
        Line(metric="c_index", spec=SPECS["c_index"], note=rank),
        Line(metric="c_index_ipcw", spec=ipcw, note=f"{said}; {where_ranked}"),
    ]
    for number, at in enumerate(times.times):
        lines += _horizon_lines(times, thresholds, number, at, (where, where_ranked))
    if len(times.grid) < 2:
        reason = "follow-up is too short for a time grid"
        spec = nothing(integrated_brier_metric([1.0, 2.0]), reason)
        return [*lines, Line(metric="integrated_brier", spec=spec)]
    spec = integrated_brier_metric(times.grid, censoring=times.censoring_of_any)
    spec = replace(spec, has_causes=times.has_competing)
    where += _SEEN if times.has_competing else ""
    unit = f" {times.unit}" if times.unit else ""
    note = f"over {times.grid[0]:.4g} to {times.grid[-1]:.4g}{unit}; {where}"
    grid = tuple(times.grid.tolist())
    return [
        *lines,
        Line(metric="integrated_brier", spec=spec, reads="curves", at=grid, note=note),
    ]


def _horizon_lines(
    times: Horizons, thresholds: Thresholds, number: int, at: float, said_of: tuple[str, str]
) -> list[Line]:
    where, where_ranked = said_of
    weights, name, source = times.censoring, times.name(number), thresholds.source
    threshold = thresholds.risks.get(name)
    ratio = _by_horizon(_observed_expected, at, "target", 1.0, times)
    brier = brier_metric(at, censoring=times.censoring_of_any)
    seen = _SEEN if times.has_competing else ""
    observed = "Aalen-Johansen" if times.has_competing else "Kaplan-Meier"
    if threshold is None:
        reason = f"no threshold: {source} is not followed to the horizon, or has no risk by then"
        if not thresholds.splits:
            reason = f"no threshold: the caller gave none for {name}"
        benefit = nothing(_by_horizon(_net_benefit, at, "higher", None, times), reason)
        said = ""
    else:
        kernel = partial(_net_benefit, threshold=threshold)
        benefit = _by_horizon(kernel, at, "higher", None, times)
        said = thresholds.at(threshold, "risk by then")
    return [
        Line(
            metric=f"auc_at_{name}",
            spec=auc_metric(at, censoring=weights),
            reads="risk",
            at=(at,),
            note=where_ranked,
            is_order=True,
        ),
        Line(
            metric=f"brier_at_{name}",
            spec=replace(brier, has_causes=times.has_competing),
            reads="survival",
            at=(at,),
            note=where + seen,
        ),
        Line(
            metric=f"observed_expected_at_{name}",
            spec=ratio,
            reads="risk",
            at=(at,),
            note=f"{observed} risk over the mean predicted one{seen}",
            dear=True,
        ),
        Line(
            metric=f"net_benefit_at_{name}",
            spec=benefit,
            reads="risk",
            at=(at,),
            note=said + (seen if said else ""),
            dear=True,
        ),
    ]


def _by_horizon(
    kernel: Callable[..., np.ndarray],
    at: float,
    direction: Direction,
    ideal: float | None,
    times: Horizons,
) -> SurvivalMetric:
    return SurvivalMetric(
        "risk_by_horizon",
        direction,
        partial(kernel, horizon=at),
        "no event by the horizon, or nobody is followed to it",
        None,
        True,
        survival_probabilities,
        ideal=ideal,
        has_causes=times.has_competing,
    )


def _observed_expected(
    event: np.ndarray, time: np.ndarray, risk: np.ndarray, weights: np.ndarray, horizon: float
) -> np.ndarray:
    """Observed risk of event 1 by the horizon over the mean predicted one, (W,); NaN: no event."""
    total = weights.sum(axis=0)
    mean = np.divide(risk @ weights, total, out=np.zeros_like(total), where=total > 0)
    seen = incidence_at(event.astype(float), time, weights, horizon)
    seen = np.where(_happens(event, time, weights, horizon), seen, np.nan)
    return np.divide(seen, mean, out=np.full_like(total, np.nan), where=mean > 0)


def _happens(
    event: np.ndarray, time: np.ndarray, weights: np.ndarray, horizon: float
) -> np.ndarray:
    """Whether a draw has event 1 by the horizon, (W,): without one, no number judges a risk."""
    return np.asarray(((event == 1) & (time <= horizon)).astype(float) @ weights > 0)


def _net_benefit(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    horizon: float,
    threshold: float,
) -> np.ndarray:
    """Net benefit by the horizon of treating risks of at least the threshold, (W,); NaN: no event.

    The event must come by the horizon, in somebody treated or not.
    """
    inside = risk >= threshold
    happens = _happens(event, time, weights, horizon)
    if not inside.any():
        return np.where(happens, 0.0, np.nan)
    own = weights[inside]
    size = own.sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-300)
    seen = incidence_at(event[inside].astype(float), time[inside], own, horizon)
    odds = threshold / (1 - threshold)
    found = np.where(size > 0, size * (seen - (1 - seen) * odds), 0.0)
    return np.where(happens, found, np.nan)


def without_curves(line: Line) -> Line:
    """The same line for predictions that are risks without survival curves."""
    reason = "the predictions are risks without survival curves"
    return replace(line, spec=nothing(line.spec, reason), reads="values")
