"""Calibration of absolute risks at a horizon while other events compete."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.calibration_curve import Calibration, curve_grid, distances
from medmcl.evaluation.metrics.decision_curve import incidence_at
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.loess import loess
from medmcl.evaluation.metrics.metric import NotEstimable, probabilities_of
from medmcl.evaluation.metrics.survival.calibration import (
    CLIP,
    FEW,
    at_horizon,
    not_at_horizon,
)
from medmcl.evaluation.metrics.survival.kaplan_meier import aalen_johansen_at, codes_of

ENTRIES = 4_000_000  # weights held at once while rows are left out
STEPS = 50  # of Gauss-Newton
SAID = "observed risk: Aalen-Johansen; curve, ICI and slope: its pseudo-values"


def pseudo_values(event: Any, time: Any, horizon: float) -> np.ndarray:
    """Give what each row adds to the Aalen-Johansen risk of event 1 by the horizon, (N,).

    N times the risk of all rows minus N - 1 times that without the row. Without censoring it is
    whether the row has the event by then; with it, the mean is nearly the risk, and regressions of
    it on anything are nearly unbiased where censoring does not depend on that.

    Args:
        event: 0 censored, 1 the event, 2 and above competing events. (N,)
        time: Follow-up, not negative. (N,)
        horizon: In the unit of time.
    Source:
        Andersen, Klein & Rosthoj 2003, Biometrika 90:15-27; Klein & Andersen 2005, Biometrics
        61:223-229. Differs: none.
    """
    codes, followed = codes_of(event, time)
    later = followed > horizon  # all of these are alike
    pairs = np.stack([np.where(later, np.inf, followed), np.where(later, 0.0, codes)])
    kinds, inverse, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    when = np.where(np.isinf(kinds[0]), float(followed.max(initial=0.0)) + 1.0, kinds[0])
    size, at = len(codes), np.array([float(horizon)])

    def risk(weights: np.ndarray) -> np.ndarray:
        return aalen_johansen_at(kinds[1], when, weights, at, extend=True)[0, 0]

    whole = float(risk(counts[:, None].astype(float))[0])
    without = np.empty(len(counts))
    step = max(1, ENTRIES // len(counts))
    for first in range(0, len(counts), step):
        out = np.arange(first, min(first + step, len(counts)))
        weights = np.repeat(counts[:, None].astype(float), len(out), axis=1)
        weights[out, np.arange(len(out))] -= 1
        without[out] = risk(weights)
    return np.asarray(size * whole - (size - 1) * without[inverse.reshape(-1)])


def competing_calibration(
    event: Any,
    time: Any,
    risk_at_t: Any,
    horizon: float,
    resampling: Resampling = FEW,
    *,
    bins: int = 10,
    fewest: int = 1,
) -> Calibration | NotEstimable:
    """Give slope, ICI and curves of predicted absolute risks at a horizon.

    Observed risks are Aalen-Johansen's. The smooth curve is a loess of the pseudo-values on the
    predicted risk; the slope is that of the pseudo-values on log(-log(1 - risk)) with that link, by
    least squares. Draws take each row with its pseudo-value. As for `calibration`, ``ici`` is
    corrected for noise.

    Args:
        event: 0 censored, 1 the event, 2 and above competing events. (N,)
        time: Follow-up, not negative. (N,)
        risk_at_t: Predicted probability of event 1 by the horizon. (N,)
        horizon: In the unit of time.
        resampling: Who is drawn for intervals.
        bins: Groups of the grouped curve; see `survival_calibration`.
        fewest: See `calibration`.

    Returns:
        `Calibration`, or `NotEstimable` for no rows, no event by the horizon, nobody
        followed to it, or fewer than three distinct predictions.

    Raises:
        ConfigError: If a prediction is no probability, for unequal lengths and malformed arrays.
    Source:
        van Geloven et al. 2022, BMJ 377:e069249 (pseudo-values, loess, slope on the complementary
        log-log scale). Differs: risks are moved into [1e-6, 1 - 1e-6], the correction of the ICI.
    """
    codes, followed = codes_of(event, time)
    risk = probabilities_of(risk_at_t)
    if risk.shape != followed.shape:
        raise ConfigError(
            "competing_calibration: event, time and risk must be (N,)",
            got=f"shapes {codes.shape}, {followed.shape}, {risk.shape}",
        )
    reason = not_at_horizon(codes, followed, risk, horizon)
    if reason:
        return NotEstimable(reason)
    sampler = resampling.over(codes)
    order = np.argsort(risk, kind="stable")
    seen = pseudo_values(codes, followed, horizon)
    at = curve_grid(risk, sampler.codes)
    drawn = np.concatenate(
        [[_numbers(*_repeated(seen, risk, order, column), at) for column in block.T]
         for block in sampler.blocks()]
    )  # fmt: skip
    means = np.concatenate([risk @ w / w.sum(axis=0) for w in sampler.blocks()])
    ratios = np.concatenate(
        [incidence_at(codes, followed, w, horizon) for w in sampler.blocks()]
    ) / np.where(means > 0, means, np.nan)  # fmt: skip
    ratio = float(incidence_at(codes, followed, np.ones((len(risk), 1)), horizon)[0] / risk.mean())
    whole = np.insert(_numbers(seen[order], risk[order], at), 1, ratio)
    return at_horizon(
        codes, followed, risk, horizon, at, whole, np.insert(drawn, 1, ratios, axis=1), sampler,
        bins, fewest, unfitted="the regression did not converge", note=SAID,
    )  # fmt: skip


def _repeated(
    seen: np.ndarray, risk: np.ndarray, order: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows as often as they were drawn, by ascending risk."""
    rows = np.repeat(order, weights[order].astype(int))
    return seen[rows], risk[rows]


def _numbers(seen: np.ndarray, risk: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Slope, ICI, E50, E90, Emax, then the curve at ``at``; NaN where they do not exist."""
    if len(np.unique(risk)) < 3:
        return np.full(5 + len(at), np.nan)
    smooth = loess(risk, seen)
    return np.concatenate([[_slope(seen, risk)], distances(smooth(risk), risk), smooth(at)])


def _slope(seen: np.ndarray, risk: np.ndarray) -> float:
    """Least squares of pseudo-values on 1 - exp(-exp(a + b x)), x the predicted scale."""
    x = np.log(-np.log1p(-np.clip(risk, CLIP, 1 - CLIP)))
    design = np.column_stack([np.ones_like(x), x])
    weights, loss = np.array([0.0, 1.0]), np.inf
    for _ in range(STEPS):
        hazard = np.exp(np.clip(design @ weights, -30, 30))
        apart = seen + np.expm1(-hazard)
        slope = design * (hazard * np.exp(-hazard))[:, None]
        step, *_ = np.linalg.lstsq(slope, apart, rcond=None)
        loss = float(np.abs(step).max())
        weights = weights + step * min(1.0, 2.0 / max(loss, 1e-300))
        if loss < 1e-8:
            return float(weights[1])
    return float("nan")
