"""Survival metrics under many weightings at once, with weights for what censoring hides.

Kernels take ``event`` (N,) bool, ``time`` (N,), predictions and ``weights`` (N, W) with one column
a draw; NaN where a metric does not exist in a draw. A weight of k means the same as the row
standing k times. The censoring curve is that of other rows (``censoring``, fixed over the draws)
or, by default, that of the scored rows, estimated anew in each draw, as in a new sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from medmcl.evaluation.metrics.survival.censoring import Outcome, censoring_survival, estimable_at
from medmcl.evaluation.metrics.survival.kaplan_meier import (
    ENTRIES_AT_ONCE,
    RiskSets,
    by_draws,
    kaplan_meier_at,
)
from medmcl.evaluation.metrics.weighted import _ratio

PAIRS_AT_ONCE = 2_000_000  # entries of one block of the concordance matrix (memory bound)
EXACT = 2**22  # single precision adds whole and half numbers exactly up to twice this
TIED = 1e-8  # risks at most this far apart are tied


def c_index(
    event: np.ndarray, time: np.ndarray, risk: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Harrell's concordance over all comparable pairs, (W,)."""
    return _over_pairs(event, time, risk, weights)


def c_index_ipcw(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    *,
    censoring: Outcome | None = None,
    tau: float | None = None,
) -> np.ndarray:
    """Uno's concordance over all comparable pairs whose earlier event is before ``tau``, (W,)."""

    def counted(when: np.ndarray) -> np.ndarray:
        curve = censoring_survival(event, time, weights, when, censoring)
        return np.divide(1.0, curve**2, out=np.zeros_like(curve), where=curve > 0)

    return _over_pairs(event, time, risk, weights, np.inf if tau is None else tau, counted)


def _over_pairs(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    tau: float = np.inf,
    counted: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Share of comparable pairs that are concordant; pairs of an event at t count ``counted(t)``.

    The numerator is the quadratic form of the concordance matrix, in blocks of events; the
    denominator comes from the risk sets. Single precision is used only where it is exact.
    """
    order = np.argsort(time, kind="stable")
    event, time, risk = event[order], time[order], risk[order]
    events = np.flatnonzero(event & (time < tau))
    if len(events) == 0:
        return np.full(weights.shape[1], np.nan)
    share = weights[order[events]]
    if counted is not None:
        share = counted(time[events]) * share
    later = _later(event, time, weights, order, time[events])
    comparable = np.einsum("ew,ew->w", share, later)
    exact = float(weights.sum(axis=0).max(initial=0)) < EXACT and _are_whole(weights)
    dtype: type[np.floating] = np.float32 if exact else np.float64
    draws = np.empty(weights.shape, dtype)
    for part in _parts(weights):
        draws[part] = weights[order[part]]
    concordant = np.zeros(weights.shape[1])
    place, first = np.empty(max(PAIRS_AT_ONCE, len(time)), dtype), 0
    while first < len(events):
        start = int(np.searchsorted(time, time[events[first]], side="left"))
        block = slice(first, first + max(1, PAIRS_AT_ONCE // (len(time) - start)))
        rows = events[block]
        pairs = place[: len(rows) * (len(time) - start)].reshape(len(rows), -1)
        _concordance(risk[rows], risk[start:], pairs)
        ends = (np.searchsorted(time, time[rows], side=side) - start for side in ("left", "right"))
        for row, tied, after in zip(pairs, *ends, strict=True):
            row[:tied] = 0
            row[tied:after] *= ~event[start + tied : start + after]
        concordant += np.einsum("ew,ew->w", share[block], pairs @ draws[start:])
        first = block.stop
    return _ratio(concordant, comparable)


def _parts(weights: np.ndarray) -> list[slice]:
    """Parts of the rows of weights (N, W) that are worked on at once."""
    few = max(1, ENTRIES_AT_ONCE // max(1, weights.shape[1]))
    return [slice(first, first + few) for first in range(0, len(weights), few)]


def _are_whole(weights: np.ndarray) -> bool:
    return all((weights[part] == np.rint(weights[part])).all() for part in _parts(weights))


@by_draws
def _later(
    event: np.ndarray, time: np.ndarray, weights: np.ndarray, order: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Weight of who is followed longer than each event, or as long without one, (E, W)."""
    sets = RiskSets.of(time, weights[order], event)
    return np.asarray((sets.at_risk - sets.leaving[0])[sets.steps(at)])


def _concordance(earlier: np.ndarray, later: np.ndarray, won: np.ndarray) -> None:
    """Write one where the earlier event has the higher risk, one half where the risks are tied."""
    half, few = won.dtype.type(0.5), max(1, 2**15 // max(1, len(later)))
    for first in range(0, len(earlier), few):
        part, gap = won[first : first + few], earlier[first : first + few, None] - later
        part[:] = gap > TIED
        np.add(part, half, out=part, where=np.abs(gap, out=gap) <= TIED)


@partial(by_draws, place=3)
def dynamic_auc(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    *,
    times: np.ndarray,
    censoring: Outcome | None = None,
) -> np.ndarray:
    """Cumulative/dynamic AUC at each time, (T, W); risk is (N,) or (N, T)."""
    found = np.full((len(times), weights.shape[1]), np.nan)
    if len(time) == 0:
        return found
    valid, _ = estimable_at(event, time, weights, times, censoring)
    curve = censoring_survival(event, time, weights, time[event], censoring)
    inverse = np.divide(1.0, curve, out=np.zeros_like(curve), where=curve > 0)
    case_weights = np.zeros_like(weights)
    case_weights[event] = weights[event] * inverse
    sort: _Sorted | None = None
    for column, t in enumerate(times):
        if sort is None or risk.ndim == 2:
            sort = _Sorted(risk if risk.ndim == 1 else risk[:, column], weights, case_weights)
        found[column] = sort.auc((event & (time <= t)), time > t)
    return np.where(valid, found, np.nan)


class _Sorted:
    """Rows in ascending order of risk, with the number of their group of ties."""

    def __init__(self, risk: np.ndarray, weights: np.ndarray, case_weights: np.ndarray) -> None:
        self.order = np.argsort(risk, kind="stable")
        jumps = np.diff(risk[self.order]) > TIED
        self.tie = np.concatenate([[0], np.cumsum(jumps)])
        self.weights = weights[self.order]
        self.case_weights = case_weights[self.order]

    def auc(self, cases: np.ndarray, controls: np.ndarray) -> np.ndarray:
        """Share of pairs won by the case, ties one half; NaN without cases or controls."""
        rows = np.flatnonzero(cases[self.order])
        others = np.flatnonzero(controls[self.order])
        below = np.zeros((len(others) + 1, self.weights.shape[1]))
        np.cumsum(self.weights[others], axis=0, out=below[1:])
        lower = np.searchsorted(self.tie[others], self.tie[rows], side="left")
        upper = np.searchsorted(self.tie[others], self.tie[rows], side="right")
        beaten = below[lower]
        if (upper > lower).any():
            beaten = 0.5 * (beaten + below[upper])
        share = self.case_weights[rows]
        won = np.einsum("ew,ew->w", share, beaten)
        return _ratio(won, share.sum(axis=0) * below[-1])


def mean_dynamic_auc(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    *,
    times: np.ndarray,
    censoring: Outcome | None = None,
) -> np.ndarray:
    """Mean of the AUC over the times that are reached, each weighted by the events up to it, (W,).

    The weight is the fall of the Kaplan-Meier curve since the time before; one time: its AUC.
    """
    auc = dynamic_auc(event, time, risk, weights, times=times, censoring=censoring)
    if len(times) == 1:
        return auc[0]
    survival = kaplan_meier_at(event, time, weights, times, extend=True)
    fall = -np.diff(survival, axis=0, prepend=np.ones((1, weights.shape[1])))
    fall = np.where(np.isnan(auc), 0.0, fall)
    return _ratio((np.nan_to_num(auc) * fall).sum(axis=0), fall.sum(axis=0))


def brier_over_times(
    event: np.ndarray,
    time: np.ndarray,
    survival: np.ndarray,
    weights: np.ndarray,
    *,
    times: np.ndarray,
    censoring: Outcome | None = None,
) -> np.ndarray:
    """Brier score at each time, (T, W); survival is (N, T), or (N,) for one time.

    Matrix products of the squared errors with the draws' weights. Events may be codes, 2 and above
    for competing ones: then survival is one minus the risk of event 1, and who left by a competing
    event is known not to have it, now and later (Schoop et al. 2011, Biom J 53:88). NaN at all
    times in a draw without event 1 by the last of them.
    """
    own = event == 1
    event = event > 0
    survival = survival.reshape(len(time), len(times))
    valid, curve = estimable_at(event, time, weights, times, censoring)
    earlier = censoring_survival(event, time, weights, time[event], censoring)
    inverse = np.divide(1.0, earlier, out=np.zeros_like(earlier), where=earlier > 0)
    error = np.where(own[event, None], survival[event], 1 - survival[event])
    cases = error**2 * (time[event, None] <= times)
    controls = (1 - survival) ** 2 * (time[:, None] > times)
    late = np.divide(controls.T @ weights, curve, out=np.zeros(valid.shape), where=valid)
    total = np.broadcast_to(weights.sum(axis=0), valid.shape)
    scores = _ratio(cases.T @ (weights[event] * inverse) + late, total)
    some = (weights[own & (time <= times[-1])] > 0).any(axis=0)
    return np.where(valid & some, scores, np.nan)


def integrated_brier(
    event: np.ndarray,
    time: np.ndarray,
    survival: np.ndarray,
    weights: np.ndarray,
    *,
    times: np.ndarray,
    censoring: Outcome | None = None,
) -> np.ndarray:
    """Trapezoid mean of the Brier score over the times a draw's follow-up reaches, (W,)."""
    scores = brier_over_times(event, time, survival, weights, times=times, censoring=censoring)
    return mean_over_time(scores, times)


def mean_over_time(scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Integrate (T, W) by trapezoids over the times that exist, over their range; NaN below two."""
    there = ~np.isnan(scores)
    filled = np.where(there, scores, 0.0)
    width = np.diff(times)[:, None] * (there[1:] & there[:-1])
    area = (0.5 * (filled[1:] + filled[:-1]) * width).sum(axis=0)
    return _ratio(area, width.sum(axis=0))


def calibration_counts(event: np.ndarray, survival: np.ndarray, bins: int) -> np.ndarray:
    """Give the share of each row in each bin of survival probability, (N, bins); rows sum to one.

    A row that was seen to have the event is in the bin of its S(T). A censored row is spread evenly
    over the probabilities from 0 to its S(T), where its event is still to come.
    """
    bin_of = np.minimum((survival * bins).astype(int), bins - 1)
    edges = np.arange(bins)
    safe = np.where(survival > 0, survival, 1.0)
    spread = np.where(edges < bin_of[:, None], 1 / (bins * safe[:, None]), 0.0)
    own = np.where(survival > 0, (survival - bin_of / bins) / safe, 1.0)
    spread[np.arange(len(survival)), bin_of] = own
    return np.where(event[:, None], edges == bin_of[:, None], spread)


def d_calibration(
    event: np.ndarray,
    time: np.ndarray,
    survival: np.ndarray,
    weights: np.ndarray,
    *,
    bins: int = 10,
) -> np.ndarray:
    """Chi-square statistic of the counts in the bins of S(T), (W,); survival is each row's S(T)."""
    del time  # it is in S(T)
    counts = calibration_counts(event, survival, bins).T @ weights
    expected = weights.sum(axis=0) / bins
    seen = (weights[event] > 0).any(axis=0)
    return np.where(seen, _ratio(((counts - expected) ** 2).sum(axis=0), expected), np.nan)
