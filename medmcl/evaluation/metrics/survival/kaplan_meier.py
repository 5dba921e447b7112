"""Kaplan-Meier and Aalen-Johansen, for one sample with its interval and for many draws at once.

At a time, events come before censoring: a row censored at the time of an event is still at risk. A
weight of k means the same as the row standing k times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
from scipy.special import ndtri

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.metric import (
    Estimate,
    NotEstimable,
    numbers,
    tuples,
    weights_of,
)

ENTRIES_AT_ONCE = 2**18
"""Weights that a kernel sees at once (`by_draws`)."""
SMALL = 1e-12  # of the total weight: less than this at risk is nobody (rounding of sums)


@dataclass(frozen=True)
class RiskSets:
    """Who is at risk and who leaves at each time that occurs, a column a draw.

    Attributes:
        times: Distinct times, ascending. (U,)
        at_risk: Weight of the rows followed to each time or longer. (U, W)
        leaving: Weight of the rows of each mark that end at each time; one (U, W) a mark.
    """

    times: np.ndarray
    at_risk: np.ndarray
    leaving: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, time: np.ndarray, weights: np.ndarray, *marks: np.ndarray) -> RiskSets:
        """Count the risk sets of rows (N,) under weights (N, W); a mark is a mask of rows."""
        order: Any = np.argsort(time, kind="stable")
        if (time[1:] >= time[:-1]).all():
            order = slice(None)  # in order already: no copy of many draws
        times, ordered = time[order], weights[order]
        starts = np.flatnonzero(np.r_[True, times[1:] != times[:-1]][: len(times)])
        distinct = len(starts) == len(times)
        ending = ordered if distinct else np.add.reduceat(ordered, starts, axis=0)
        at_risk = np.cumsum(ending[::-1], axis=0)[::-1]
        leaving = []
        for mark in marks:
            chosen = ordered * mark[order][:, None]
            leaving.append(chosen if distinct else np.add.reduceat(chosen, starts, axis=0))
        return cls(times[starts], at_risk, tuple(leaving))

    def steps(self, times: np.ndarray) -> np.ndarray:
        """Give the position of the last distinct time up to each of ``times``; -1 before all."""
        return np.searchsorted(self.times, times, side="right") - 1

    def last(self) -> np.ndarray:
        """Give the last follow-up in each draw, (W,); -inf where nobody is drawn."""
        there = self.at_risk > 0
        final = np.where(there.any(axis=0), there.sum(axis=0) - 1, -1)
        return np.where(final >= 0, self.times[final], -np.inf)


def product_limit(leaving: np.ndarray, at_risk: np.ndarray) -> np.ndarray:
    """Give the running product of 1 - leaving / at_risk, (U, W); nobody at risk changes nothing."""
    floor = SMALL * np.maximum(at_risk[:1], 1e-300)
    share = np.divide(leaving, at_risk, out=np.zeros_like(leaving), where=at_risk > floor)
    stay = 1 - share
    stay[(at_risk - leaving <= floor) & (leaving > 0)] = 0.0
    return np.cumprod(stay, axis=0)


def step_values(curve: np.ndarray, steps: np.ndarray, start: float) -> np.ndarray:
    """Read a step curve (U, W) at positions (T,); ``start`` before its first time."""
    return np.where((steps >= 0)[:, None], curve[np.maximum(steps, 0)], start)


def by_draws(kernel: Callable[..., np.ndarray], place: int = 2) -> Callable[..., np.ndarray]:
    """Let a kernel, (..., W), see some draws at a time: what it holds of many people is then small.

    Its weights (N, W) are the argument of that place; it treats each draw by itself.
    """

    @wraps(kernel)
    def found(*given: Any, **more: Any) -> np.ndarray:
        weights, rest = given[place], given[place + 1 :]
        count = min(weights.size // ENTRIES_AT_ONCE, weights.shape[1] // 2)  # sums of one differ
        parts = np.array_split(weights, max(1, count), axis=1)
        return np.concatenate([kernel(*given[:place], w, *rest, **more) for w in parts], axis=-1)

    return found


@by_draws
def kaplan_meier_at(
    event: np.ndarray,
    time: np.ndarray,
    weights: np.ndarray,
    times: np.ndarray,
    *,
    extend: bool = False,
) -> np.ndarray:
    """Give the Kaplan-Meier survival S(t) = P(T > t) in every draw, (T, W).

    NaN where nobody is drawn, and beyond a draw's last follow-up unless the curve has reached zero.
    A group is given by its rows, or by weights of zero elsewhere.

    Args:
        event: True = the event was seen. (N,)
        time: Follow-up. (N,)
        weights: One column a draw. (N, W)
        times: Where to read the curve, any order. (T,)
        extend: Carry the last value on beyond the follow-up instead of NaN.
    Source:
        Kaplan & Meier 1958, JASA 53:457-481. Differs: none.
    """
    if len(time) == 0:
        return np.full((len(times), weights.shape[1]), np.nan)
    sets = RiskSets.of(time, weights, event)
    curve = product_limit(sets.leaving[0], sets.at_risk)
    values = step_values(curve, sets.steps(times), 1.0)
    return _within(values, times, sets, curve[-1] <= SMALL, extend)


@by_draws
def aalen_johansen_at(
    event: np.ndarray,
    time: np.ndarray,
    weights: np.ndarray,
    times: np.ndarray,
    *,
    causes: Sequence[int] = (1,),
    extend: bool = False,
) -> np.ndarray:
    """Give the cumulative incidence P(T <= t, cause k) in every draw, (K, T, W).

    NaN as in `kaplan_meier_at`. With one kind of event it is one minus Kaplan-Meier.

    Args:
        event: 0 censored, 1 the event of interest, 2 and above competing events. (N,)
        time: Follow-up. (N,)
        weights: One column a draw. (N, W)
        times: Where to read the curves. (T,)
        causes: Which events, in the order of the result.
        extend: Carry the last value on beyond the follow-up instead of NaN.
    Source:
        Aalen & Johansen 1978, Scand J Stat 5:141-150. Differs: none.
    """
    if len(time) == 0:
        return np.full((len(causes), len(times), weights.shape[1]), np.nan)
    sets = RiskSets.of(time, weights, event > 0, *(event == cause for cause in causes))
    survival = product_limit(sets.leaving[0], sets.at_risk)
    before = np.concatenate([np.ones_like(survival[:1]), survival[:-1]])
    steps, ended = sets.steps(times), survival[-1] <= SMALL
    found = []
    for leaving in sets.leaving[1:]:
        hazard = np.divide(
            leaving, sets.at_risk, out=np.zeros_like(leaving), where=sets.at_risk > 0
        )
        curve = np.cumsum(before * hazard, axis=0)
        found.append(_within(step_values(curve, steps, 0.0), times, sets, ended, extend))
    return np.stack(found)


def _within(
    values: np.ndarray, times: np.ndarray, sets: RiskSets, ended: np.ndarray, extend: bool
) -> np.ndarray:
    known = (sets.at_risk[0] > 0)[None] & (
        (np.asarray(times)[:, None] <= sets.last()) | ended | extend
    )
    return np.where(known, values, np.nan)


@dataclass(frozen=True, kw_only=True, repr=False)
class SurvivalCurve:
    """A Kaplan-Meier curve: values hold from each time to the next; 1 before the first.

    Attributes:
        times: Distinct follow-up times, ascending.
        survival: P(T > time).
        low: Lower end of the pointwise interval.
        high: Upper end.
        at_risk: Weight of the rows followed to each time or longer.
        events: Weight of the events at each time.
    """

    times: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[float, ...]
    events: tuple[float, ...]

    def at(self, times: Any) -> tuple[Estimate, ...]:
        """Read the curve at some times; not estimable beyond the last follow-up."""
        asked = np.atleast_1d(np.asarray(times, dtype=np.float64))
        steps = np.searchsorted(self.times, asked, side="right") - 1
        beyond = NotEstimable(f"follow-up ends at {self.times[-1]:g}")
        known = (asked <= self.times[-1]) | (self.survival[-1] == 0)
        return tuple(
            beyond if not fine else 1.0 if step < 0 else self.survival[step]
            for step, fine in zip(steps, known, strict=True)
        )


def kaplan_meier(
    event: Any, time: Any, *, weights: Any = None, level: float = 0.95
) -> SurvivalCurve | NotEstimable:
    """Give the Kaplan-Meier survival curve with log-log intervals.

    At a time, censored rows are still at risk of its events. Where the curve is 1 or 0 the interval
    is that point. Clustered rows need the bootstrap (`kaplan_meier_at`).

    Args:
        event: True or 1 = the event was seen, False or 0 = censored. (N,)
        time: Follow-up in any unit, not negative. (N,)
        weights: How often each row counts; default once. (N,)
        level: Coverage of the pointwise interval.

    Returns:
        The curve; `NotEstimable` without rows.

    Raises:
        ValueError: As `outcome_of`.
    Source:
        Kaplan & Meier 1958, JASA 53:457-481; Greenwood's variance on log(-log S), Kalbfleisch &
        Prentice 2002, §1.4. Differs: none.
    """
    happened, followed = outcome_of(event, time)
    columns = weights_of(weights, len(followed), "kaplan_meier")
    rows = columns[:, 0] > 0
    if not rows.any():
        return NotEstimable("no rows")
    sets = RiskSets.of(followed[rows], columns[rows], happened[rows])
    survival = product_limit(sets.leaving[0], sets.at_risk)[:, 0]
    deaths, at_risk = sets.leaving[0][:, 0], sets.at_risk[:, 0]
    inside = (survival > 0) & (survival < 1)
    left = at_risk * (at_risk - deaths)
    terms = np.divide(deaths, left, out=np.zeros_like(deaths), where=(deaths > 0) & (left > 0))
    log_survival = np.log(np.where(inside, survival, 0.5))
    spread = ndtri((1 + level) / 2) * np.sqrt(np.cumsum(terms)) / np.abs(log_survival)
    low = np.where(inside, np.exp(log_survival * np.exp(spread)), survival)
    high = np.where(inside, np.exp(log_survival * np.exp(-spread)), survival)
    ends = {"low": low, "high": high}
    own = tuples(times=sets.times, survival=survival, at_risk=at_risk, events=deaths, **ends)
    return SurvivalCurve(**own)


def outcome_of(event: Any, time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give the outcome as bool (N,) and float (N,).

    Raises:
        ConfigError: If an event is missing or neither true/false nor 0/1, a time is negative or not
            finite, the lengths differ, or something is no number.
    """
    codes, followed = _numbers_of(event, time)
    _refuse(
        ~np.isin(codes, (0, 1)),
        codes,
        "event: must be true/false or 0/1",
        "make competing events 0 or 1 first, leave out rows without outcome, and give event before "
        "time",
    )
    return codes.astype(bool), followed


def codes_of(event: Any, time: Any) -> tuple[np.ndarray, np.ndarray]:
    """Give event codes (0 censored, 1 the event, 2.. competing events) and times as float (N,).

    Raises:
        ConfigError: As `outcome_of`, and for codes that are not whole numbers of at least zero.
    """
    codes, followed = _numbers_of(event, time)
    _refuse(
        ~np.isfinite(codes) | (codes < 0) | (codes != np.rint(codes)),
        codes,
        "event: must be 0 (censored), 1 (the event) or 2 and above (competing events)",
        "leave out rows without outcome, and give event before time",
    )
    return codes, followed


def _numbers_of(event: Any, time: Any) -> tuple[np.ndarray, np.ndarray]:
    codes, followed = numbers(event, "event"), numbers(time, "time")
    if codes.ndim != 1 or codes.shape != followed.shape:
        raise ConfigError(f"event and time must be (N,), got {codes.shape}, {followed.shape}")
    wrong = ~np.isfinite(followed) | (followed < 0)
    _refuse(wrong, followed, "time: must be finite and not negative", "leave these rows out")
    return codes, followed


def _refuse(wrong: np.ndarray, values: np.ndarray, what: str, fix: str) -> None:
    if wrong.any():
        shown = ", ".join(f"{value:g}" for value in np.unique(values[wrong])[:3])
        raise ConfigError(what, got=f"{shown} in {int(wrong.sum())} rows", fix=fix)
