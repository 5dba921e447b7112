"""The cumulative incidence of an event while others compete, as a curve with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from medmcl.evaluation.metrics.metric import NotEstimable, check_level, tuples
from medmcl.evaluation.metrics.survival.kaplan_meier import RiskSets, codes_of, product_limit


@dataclass(frozen=True, kw_only=True)
class IncidenceCurve:
    """An Aalen-Johansen curve: values hold from each time to the next; 0 before the first.

    Attributes:
        times: Distinct follow-up times, ascending.
        incidence: P(T <= time, event 1).
        low: Lower end of the pointwise interval.
        high: Upper end.
        at_risk: Rows followed to each time or longer.
        events: Events 1 at each time.
    """

    times: tuple[float, ...]
    incidence: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[float, ...]
    events: tuple[float, ...]


def incidence_curve(event: Any, time: Any, *, level: float = 0.95) -> IncidenceCurve | NotEstimable:
    """Give the Aalen-Johansen curve of event 1 with log-log intervals.

    At a time, censored rows are still at risk of its events. Where the curve is 0 or 1 the interval
    is that point. With event 1 alone it is one minus `kaplan_meier`, interval included. Rows count
    as independent.

    Args:
        event: 0 censored, 1 the event, 2 and above competing events. (N,)
        time: Follow-up in any unit, not negative. (N,)
        level: Coverage of the pointwise interval.

    Returns:
        The curve; `NotEstimable` without rows.

    Raises:
        ConfigError: As `codes_of`.
    Source:
        Aalen & Johansen 1978, Scand J Stat 5:141-150; variance: Marubini & Valsecchi 1995,
        Analysing Survival Data from Clinical Trials, p. 341. Differs: the interval is made on
        log(-log(1 - incidence)).
    """
    check_level(level)
    codes, followed = codes_of(event, time)
    if len(codes) == 0:
        return NotEstimable("no rows")
    sets = RiskSets.of(followed, np.ones((len(codes), 1)), codes > 0, codes == 1)
    at_risk = sets.at_risk[:, 0]
    gone, own = (part[:, 0] for part in sets.leaving)
    free = product_limit(sets.leaving[0], sets.at_risk)[:, 0]
    before = np.concatenate([[1.0], free[:-1]])
    curve = np.cumsum(before * own / at_risk)
    inside = (curve > 1e-12) & (curve < 1 - 1e-12)
    survival = np.where(inside, 1 - curve, 0.5)
    # Variance at each time, (U,): squares of ``curve[t] - curve[u]`` are summed by their parts
    left = at_risk * (at_risk - gone)
    lost = np.divide(gone, left, out=np.zeros_like(gone), where=left > 0)
    both = before * own / at_risk**2
    alone = np.cumsum(before**2 * own * (at_risk - own) / at_risk**3)
    sums = [np.cumsum(lost * curve**power) for power in range(3)]
    squares = curve**2 * sums[0] - 2 * curve * sums[1] + sums[2]
    crossed = curve * np.cumsum(both) - np.cumsum(both * curve)
    error = np.sqrt(np.asarray(np.maximum(squares + alone - 2 * crossed, 0.0)))
    spread = ndtri((1 + level) / 2) * error / (survival * np.abs(np.log(survival)))
    low = np.where(inside, 1 - survival ** np.exp(-spread), curve)
    high = np.where(inside, 1 - survival ** np.exp(spread), curve)
    ends = {"low": low, "high": high}
    found = tuples(times=sets.times, incidence=curve, at_risk=at_risk, events=own, **ends)
    return IncidenceCurve(**found)
