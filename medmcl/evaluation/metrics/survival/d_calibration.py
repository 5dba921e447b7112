"""D-calibration: whether survival probabilities at the events are spread evenly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import gammaincc

from medmcl.evaluation.metrics.metric import NotEstimable, as_float
from medmcl.evaluation.metrics.survival import kernels
from medmcl.evaluation.metrics.survival.censoring import grid_of
from medmcl.evaluation.metrics.survival.kaplan_meier import outcome_of
from medmcl.evaluation.metrics.survival.metric import SurvivalMetric, survival_probabilities

FEWEST_A_BIN = 5  # expected rows a bin, below which the chi-square distribution does not hold
LITTLE_POWER = "more than half are censored: little power, a large p says little"


@dataclass(frozen=True, kw_only=True)
class DCalibration:
    """Whether the predicted probabilities at the events are spread evenly.

    Attributes:
        statistic: Chi-square; lower is better, the number of bins minus one is expected. None, and
            no shares, where it would tell how many few people are (in a report).
        p_value: Of that statistic or a higher one if the model is calibrated.
        shares: Share of the rows in each bin of S(T), from 0 to 1; 1 / bins each is perfect.
        note: What a reader must know.
    """

    statistic: float | None
    p_value: float
    shares: tuple[float, ...]
    note: str = ""


def d_calibration(
    event: Any, time: Any, survival: Any, times: Any = None, *, bins: int = 10
) -> DCalibration | NotEstimable:
    """Test whether S(T) is uniform, as it is for a calibrated model; a low p-value speaks against.

    Rows that had the event are counted in the bin of their S(T), bins closed below; censored rows
    are spread evenly over the probabilities below their S(T). With censoring the counts vary less
    than the chi-square distribution says: the test is then conservative. It says nothing about
    discrimination: Kaplan-Meier passes.

    Args:
        event: True or 1 = the event was seen. (N,)
        time: Follow-up, not negative. (N,)
        survival: Predicted P(T > t), one column a time (N, T), read linearly between times from
            S(0) = 1; or each row's own S(T) (N,), then without times.
        times: Ascending. Rows followed beyond the last count as censored there, with a note. (T,)
        bins: Number of equal bins of [0, 1].

    Returns:
        The test; `NotEstimable` without events or with fewer than 5 rows a bin.

    Raises:
        ValueError: For malformed arrays or settings; if survival is no probability.
    Source:
        Haider et al. 2020, JMLR 21(85), §3.4 and appendix B. Differs: none.
    """
    happened, followed = outcome_of(event, time)
    own, happened, note = _own_survival(happened, followed, survival, times)
    happened, followed, own = d_calibration_metric(bins=bins).check((happened, followed, own))
    if len(own) < FEWEST_A_BIN * bins:
        rows = "no rows" if len(own) == 0 else f"{len(own)} rows for {bins} bins"
        return NotEstimable(rows)
    if not happened.any():
        return NotEstimable("no events")
    ones = np.ones((len(own), 1))
    statistic = float(kernels.d_calibration(happened, followed, own, ones, bins=bins)[0])
    shares = kernels.calibration_counts(happened, own, bins).mean(axis=0)
    p_value = float(gammaincc((bins - 1) / 2, statistic / 2))
    if happened.mean() < 0.5:
        note = "; ".join(part for part in (note, LITTLE_POWER) if part)
    return DCalibration(
        statistic=statistic, p_value=p_value, shares=tuple(shares.tolist()), note=note
    )


def d_calibration_metric(*, bins: int = 10) -> SurvivalMetric:
    """Give the statistic of `d_calibration` for the bootstrap: (event, time, S(T) (N,)).

    Resampling adds noise to the counts, so that draws lie higher than the point value: compare
    methods by it, but judge calibration by the p-value of `d_calibration`.
    """
    if bins < 2:
        raise ValueError(f"d_calibration: needs at least two bins, got {bins}")
    draws = partial(kernels.d_calibration, bins=bins)
    return SurvivalMetric(
        "d_calibration", "lower", draws, "no events", None, True, survival_probabilities
    )


def survival_at_own_time(survival: Any, times: Any, time: Any) -> np.ndarray:
    """Read each row's S at its own follow-up, (N,): linear between times, from S(0) = 1.

    Beyond the last time the last value.

    Args:
        survival: (N, T).
        times: Ascending. (T,)
        time: (N,)

    Raises:
        ValueError: If shapes do not fit or survival is no probability.
    """
    grid, curves = grid_of(times), as_float(survival)
    survival_probabilities([one.reduce(curves, None, initial=0) for one in (np.fmin, np.fmax)])
    followed = as_float(time)
    if curves.shape != (len(followed), len(grid)):
        raise ValueError(f"survival must be ({len(followed)}, {len(grid)}), got {curves.shape}")
    rows = np.arange(len(followed))
    begins = int(grid[0] > 0)  # all live at 0, which the curves need not say
    if begins:
        grid = np.concatenate([[0.0], grid])
    if len(grid) == 1:
        return np.clip(curves[:, 0], 0.0, 1.0)
    right = np.clip(np.searchsorted(grid, followed, side="right"), 1, len(grid) - 1)
    step = (np.minimum(followed, grid[-1]) - grid[right - 1]) / (grid[right] - grid[right - 1])
    before = np.clip(curves[rows, np.maximum(right - 1 - begins, 0)], 0.0, 1.0)
    left = np.where(right == begins, 1.0, before)
    there = np.clip(curves[rows, right - begins], 0.0, 1.0)
    return np.asarray(left + step * (there - left))


def _own_survival(
    event: np.ndarray, time: np.ndarray, survival: Any, times: Any
) -> tuple[Any, np.ndarray, str]:
    """Give S(T), the events within the grid and a note on those beyond it."""
    if times is None:
        return survival, event, ""
    own = survival_at_own_time(survival, times, time)
    last = grid_of(times)[-1]
    beyond = int((time > last).sum())
    note = f"{beyond} rows followed beyond {last:g} count as censored there" if beyond else ""
    return own, event & (time <= last), note
