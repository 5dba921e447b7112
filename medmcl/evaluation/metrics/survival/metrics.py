"""Metrics of survival predictions under censoring: discrimination, error and calibration.

Conventions: ``event`` True or 1 = the event was seen; ``time`` in any unit, not negative; ``risk``
higher = earlier event; ``survival`` = P(T > t). The censoring curve is that of the training split
(``censoring=(event, time)``) or of the scored rows. In the bootstrap a curve of the training split
is fixed; one of the scored rows is estimated anew in each draw. At equal times events come before
censoring. Times that follow-up does not reach are left out with a note.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.evaluation.metrics.metric import Estimate, NotEstimable, weights_of
from medmcl.evaluation.metrics.survival import kernels
from medmcl.evaluation.metrics.survival.censoring import grid_of, limit, reached, remark
from medmcl.evaluation.metrics.survival.metric import (
    SurvivalMetric,
    auc_metric,
    brier_metric,
    c_index_ipcw_metric,
    integrated_brier_metric,
)


@dataclass(frozen=True, kw_only=True)
class OverTime:
    """A metric at several times, and its mean over them.

    Attributes:
        times: Times asked for.
        values: The metric at each time; `NotEstimable` where it does not exist.
        mean: Over the times that exist: mean AUC, or integrated Brier score.
        note: Which times were left out of the mean and why; empty if none.
    """

    times: tuple[float, ...]
    values: tuple[Estimate, ...]
    mean: Estimate
    note: str


def c_index_ipcw(
    event: Any,
    time: Any,
    risk: Any,
    *,
    censoring: tuple[Any, Any] | None = None,
    tau: float | None = None,
    weights: Any = None,
) -> Estimate:
    """Give Uno's concordance index; higher is better, 0.5 is chance.

    Pairs, ties in time and ties in risk are those of `c_index`; the pairs of an event at T count
    1 / G(T)**2, with G the censoring curve, so that the result does not depend on how censoring
    falls (if it is independent of risk). Events at or after ``tau`` do not open a pair; events
    where G is zero, or beyond the last row of ``censoring``, do not either.

    Args:
        event: True or 1 = the event was seen, False or 0 = censored. (N,)
        time: Follow-up in any unit, not negative. (N,)
        risk: Predicted risk, higher = earlier event expected. (N,)
        censoring: Event and time of the rows that give G, as the training split; default the
            scored rows.
        tau: Truncation time; default none. Advised where few are followed to the end.
        weights: How often each row counts; default once. (N,)

    Raises:
        ValueError: For malformed arrays or settings.
    Source:
        Uno et al. 2011, Stat Med 30:1105-1117. Equals scikit-survival's
        ``concordance_index_ipcw``. Differs: where G is zero or unknown that raises an error.
    """
    return c_index_ipcw_metric(censoring=censoring, tau=tau)(event, time, risk, weights=weights)


def time_dependent_auc(
    event: Any,
    time: Any,
    risk: Any,
    times: Any,
    *,
    censoring: tuple[Any, Any] | None = None,
    weights: Any = None,
) -> OverTime:
    """Give the cumulative/dynamic AUC at each time and its mean; higher is better, 0.5 is chance.

    At t, cases had the event by t (T <= t), each weighing 1 / G(T); controls are followed beyond
    it (T > t); rows censored by t are neither. It is the probability that a case has a higher risk
    than a control; risks within 1e-8 of the next count one half. Rows censored exactly at t are no
    controls: under administrative censoring choose a time just before it. The mean weights each
    time by the fall of the scored rows' Kaplan-Meier curve since the time before.

    Args:
        event: True or 1 = the event was seen. (N,)
        time: Follow-up, not negative. (N,)
        risk: Higher = earlier event expected. (N,), or one column a time (N, T), as 1 - S(t).
        times: Ascending; or one number. (T,)
        censoring: Event and time of the rows that give G; default the scored rows.
        weights: How often each row counts; default once. (N,)

    Raises:
        ValueError: For malformed arrays or settings.
    Source:
        Uno et al. 2007, JASA 102:527-537; Hung & Chiang 2010; mean: Lambert & Chevret 2016, Stat
        Methods Med Res 25:2088-2102. Equals scikit-survival's ``cumulative_dynamic_auc``.
        Differs: times beyond the follow-up, and times without case, are not estimable and left out
        of the mean.
    """
    spec = auc_metric(times, censoring=censoring)
    return _values(spec, kernels.dynamic_auc, (event, time, risk), weights)


def brier_at(
    event: Any,
    time: Any,
    survival: Any,
    times: Any,
    *,
    censoring: tuple[Any, Any] | None = None,
    weights: Any = None,
) -> OverTime:
    """Give the Brier score at each time, and its integral; lower is better.

    At t, an event with T <= t adds S(t)**2 / G(T); a row with T > t adds (1 - S(t))**2 / G(t); a
    row censored by t adds nothing; the sum is divided by N, the number of all rows. For
    reading: 0.5 for all rows gives 0.25, the true S(t) of the population S(t) * (1 - S(t)). Without
    an event by the last time nothing is estimable: a forecast of no event would be perfect.

    Args:
        event: True or 1 = the event was seen. (N,)
        time: Follow-up, not negative. (N,)
        survival: Predicted P(T > t), one column a time. (N, T), or (N,) for one time.
        times: Ascending; or one number. (T,)
        censoring: Event and time of the rows that give G; default the scored rows.
        weights: How often each row counts; default once. (N,)

    Returns:
        Values, and as ``mean`` the integrated score (`integrated_brier`; of one time its value).

    Raises:
        ValueError: For malformed arrays or settings; if survival is no probability.
    Source:
        Graf et al. 1999, Stat Med 18:2529-2545. Equals scikit-survival's ``brier_score``. Differs:
        times beyond the follow-up, or where G is zero, and samples without an event are not
        estimable.
    """
    grid = grid_of(times)
    spec = (
        integrated_brier_metric(grid, censoring=censoring)
        if len(grid) > 1
        else brier_metric(float(grid[0]), censoring=censoring)
    )
    return _values(spec, kernels.brier_over_times, (event, time, survival), weights)


def integrated_brier(
    event: Any,
    time: Any,
    survival: Any,
    times: Any,
    *,
    censoring: tuple[Any, Any] | None = None,
    weights: Any = None,
) -> Estimate:
    """Give the Brier score averaged over time; lower is better.

    Trapezoids over the times within follow-up, divided by the range from the first to the last of
    them; a warning says which times that leaves out, as does the ``note`` of `brier_at` and of
    ``bootstrap(integrated_brier_metric(times), ...)``. Needs an event by the last time.

    Args:
        event: True or 1 = the event was seen. (N,)
        time: Follow-up, not negative. (N,)
        survival: Predicted P(T > t), one column a time. (N, T)
        times: Ascending, at least two. (T,)
        censoring: Event and time of the rows that give the censoring curve; default the scored.
        weights: How often each row counts; default once. (N,)

    Raises:
        ValueError: For malformed arrays or settings; if survival is no probability.
    Source:
        Graf et al. 1999, Stat Med 18:2529-2545. Equals scikit-survival's
        ``integrated_brier_score``. Differs: times beyond the follow-up are left out.
    """
    spec = integrated_brier_metric(times, censoring=censoring)
    found = spec(event, time, survival, weights=weights)
    if not isinstance(found, NotEstimable):
        followed, column = np.asarray(time), weights_of(weights, len(time), spec.name)[:, 0] > 0
        note = spec.remark(np.asarray(event)[column], followed[column])
        if note:
            warnings.warn(f"integrated_brier: {note}", UserWarning, stacklevel=2)
    return found


def _values(
    spec: SurvivalMetric,
    kernel: Callable[..., np.ndarray],
    arrays: tuple[Any, Any, Any],
    weights: Any,
) -> OverTime:
    mean = spec(*arrays, weights=weights)
    event, time, predicted = spec.check(arrays)
    column = weights_of(weights, len(time), spec.name)
    grid = np.array(spec.times)
    found = kernel(event, time, predicted, column, times=grid, censoring=spec.censoring)[:, 0]
    drawn = column[:, 0] > 0
    event, time = event[drawn], time[drawn]
    kept = reached(grid, event, time, spec.censoring)

    def reason(position: int) -> str:
        if not kept[position]:
            return limit(time, grid[position], spec.censoring)
        by = grid[position] if spec.name == "time_dependent_auc" else grid[-1]
        return f"no event by {by:g}"

    values = tuple(
        NotEstimable(reason(position)) if np.isnan(value) else float(value)
        for position, value in enumerate(found)
    )
    return OverTime(
        times=spec.times,
        values=values,
        mean=mean,
        note=remark(grid, kept, time, spec.censoring),
    )
