"""Follow-up by chance, and its curve written out event by event, to hold fast forms against."""

from __future__ import annotations

import numpy as np


def slow_survival(event: np.ndarray, time: np.ndarray, at: float) -> float:
    """Give the product of Kaplan and Meier at a time, of events (N,) bool."""
    alive = 1.0
    for t in np.unique(time[event & (time <= at)]):
        alive *= 1 - (event & (time == t)).sum() / (time >= t).sum()
    return alive


def slow_incidence(code: np.ndarray, time: np.ndarray, at: float, cause: int = 1) -> float:
    """Give the sum of Aalen and Johansen at a time: of codes (N,), 0 censored and 1.. a cause."""
    alive, found = 1.0, 0.0
    for t in np.unique(time[time <= at]):
        at_risk = (time >= t).sum()
        found += alive * ((time == t) & (code == cause)).sum() / at_risk
        alive *= 1 - ((time == t) & (code > 0)).sum() / at_risk
    return found


def simulated_survival(
    seed: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give log rates, times of death, whether it was seen, and follow-up, each (N,)."""
    rng = np.random.default_rng(seed)
    log_rate = rng.normal(0, 0.8, size)
    died = rng.exponential(np.exp(-log_rate))
    left = rng.exponential(1.5, size)
    return log_rate, died, died <= left, np.minimum(died, left)
