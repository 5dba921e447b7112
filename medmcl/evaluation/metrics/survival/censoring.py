"""The censoring distribution: weights for what censoring hides, and how far follow-up goes."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.evaluation.metrics.survival.kaplan_meier import (
    RiskSets,
    by_draws,
    outcome_of,
    product_limit,
    step_values,
)

Outcome = tuple[np.ndarray, np.ndarray]


def censoring_survival(
    event: np.ndarray,
    time: np.ndarray,
    weights: np.ndarray,
    at: np.ndarray,
    censoring: Outcome | None = None,
) -> np.ndarray:
    """Give G(t) = P(censoring after t) at times (P,): (P, W), or (P, 1) from other rows.

    Kaplan-Meier of the censoring times; at a tied time the events leave first. Zero also beyond the
    last follow-up, where the curve is unknown: nothing there can be weighted.

    Args:
        event: True = the event was seen. (N,)
        time: Follow-up. (N,)
        weights: One column a draw; used when the curve is that of the scored rows. (N, W)
        at: Times, any order. (P,)
        censoring: Event and time of other rows (the training split), fixed over the draws. Default
            None: the scored rows themselves, estimated anew in every draw.
    Source:
        Reverse Kaplan-Meier, Graf et al. 1999, Stat Med 18:2529-2545. Differs: none.
    """
    if censoring is not None:
        event, time = censoring
        weights = np.ones((len(time), 1))
    return _censoring(event, time, weights, at)


@by_draws
def _censoring(
    event: np.ndarray, time: np.ndarray, weights: np.ndarray, at: np.ndarray
) -> np.ndarray:
    if len(time) == 0:
        return np.zeros((len(at), weights.shape[1]))
    sets = RiskSets.of(time, weights, event, ~event)
    deaths, censored = sets.leaving
    curve = product_limit(censored, sets.at_risk - deaths)
    values = step_values(curve, sets.steps(at), 1.0)
    return np.where(at[:, None] <= sets.last(), values, 0.0)


def estimable_at(
    event: np.ndarray,
    time: np.ndarray,
    weights: np.ndarray,
    times: np.ndarray,
    censoring: Outcome | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Say which times follow-up reaches, (T, W) bool, and give G there, (T, W) or (T, 1).

    A time is reached if some drawn row is followed longer and the censoring curve is above zero.
    """
    curve = censoring_survival(event, time, weights, times, censoring)
    last = _last_followed(event, time, weights)
    return (times[:, None] < last) & (curve > 0), curve


@by_draws
def _last_followed(_: np.ndarray, time: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Last follow-up of who is drawn, (W,); -inf where nobody is."""
    return np.max(np.where(weights > 0, time[:, None], -np.inf), axis=0, initial=-np.inf)


def clamp_times(
    times: Any, event: Any, time: Any, censoring: tuple[Any, Any] | None = None
) -> tuple[np.ndarray, str]:
    """Restrict a time grid to follow-up; give what is left and a note, empty if all is left.

    Kept are times before the last follow-up of the scored rows (somebody is followed longer) at
    which the censoring curve is known and above zero. Predictions for other times are not moved.

    Args:
        times: Ascending, in the unit of ``time``. (T,)
        event: True or 1 = the event was seen. (N,)
        time: Follow-up, not negative. (N,)
        censoring: Event and time of the rows that give the censoring curve; default these rows.

    Raises:
        ValueError: As `outcome_of` and `grid_of`.
    Source:
        The range scikit-survival asks for. Differs: it raises an error outside; it has also a lower
        bound, which is not needed.
    """
    grid = grid_of(times)
    kept = reached(grid, *outcome_of(event, time), _source(censoring))
    return grid[kept], remark(grid, kept, outcome_of(event, time)[1], _source(censoring))


def reached(
    grid: np.ndarray, event: np.ndarray, time: np.ndarray, censoring: Outcome | None
) -> np.ndarray:
    """Say which times the follow-up of all rows reaches, (T,) bool."""
    return estimable_at(event, time, np.ones((len(time), 1)), grid, censoring)[0][:, 0]


def remark(grid: np.ndarray, kept: np.ndarray, time: np.ndarray, censoring: Outcome | None) -> str:
    """Say in one clause what was left out and why; empty if nothing was."""
    if kept.all():
        return ""
    lost = grid[~kept]
    named = f"{lost[0]:g}" if len(lost) == 1 else f"{lost[0]:g} to {lost[-1]:g}"
    return f"{len(lost)} of {len(grid)} times left out ({named}): {limit(time, lost[0], censoring)}"


def limit(time: np.ndarray, at: float, censoring: Outcome | None) -> str:
    """Say why a time is not reached."""
    if len(time) == 0:
        return "no rows"
    if at >= time.max():
        return f"nobody is followed beyond {time.max():g}"
    assert censoring is not None  # the curve of the scored rows is above zero before their last
    if len(censoring[1]) == 0:
        return "no rows for the censoring curve"
    if at > censoring[1].max():
        return f"the censoring curve ends at {censoring[1].max():g}"
    return f"the censoring curve is zero at {at:g}"


def grid_of(times: Any) -> np.ndarray:
    """Give times as an array (T,); one number is a grid of one.

    Raises:
        ValueError: If they are not ascending, finite and at least zero.
    """
    grid = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if grid.ndim != 1 or len(grid) == 0:
        raise ValueError(f"times: must be (T,), got {grid.shape}")
    if not np.isfinite(grid).all() or (grid < 0).any() or (np.diff(grid) <= 0).any():
        raise ValueError("times: must be finite, not negative and ascending")
    return grid


def _source(censoring: tuple[Any, Any] | None) -> Outcome | None:
    return None if censoring is None else outcome_of(*censoring)
