"""Kernels of thresholds, decisions and logistic recalibration, many weightings at once.

As in `weighted`: outcomes, predictions and ``weights`` (N, W) give (W,), NaN where the number does
not exist; a weight of k means the row standing k times.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from medmcl.evaluation.metrics.weighted import _ratio, _sum_ties, _tie_starts

CLIP = 1e-6  # probabilities nearer to 0 or 1 than this are moved here before a logit is taken
NEWTON_STEPS = 40
LARGEST_STEP = 4.0  # of an intercept or standardised slope, in one Newton step
LEAST_SPREAD = 0.01
"""Standard deviation of a linear predictor (log odds, log cumulative hazard) below which a slope
on it is not given: predictions that are typically within 1 % of one another, in odds, say nothing
of it, and its standard error, 1 / (spread x sqrt(N p (1 - p))), has no bound."""
HARDLY_VARY = "predictions hardly vary"
ENDLESS = 60.0  # a coefficient of this size is on its way to infinity


def _above(
    targets: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives when everyone from a score upwards is called positive, (G, W)."""
    order = np.argsort(-scores, kind="stable")
    starts = _tie_starts(scores[order])
    positive = (targets[order] > 0)[:, None]
    ordered = weights[order]
    true = _sum_ties(ordered * positive, starts).cumsum(axis=0)
    false = _sum_ties(ordered * ~positive, starts).cumsum(axis=0)
    return true, false


def sensitivity_at_specificity(
    targets: np.ndarray, scores: np.ndarray, weights: np.ndarray, specificity: float
) -> np.ndarray:
    """Highest sensitivity of a threshold whose specificity is at least the given one."""
    true, false = _above(targets, scores, weights)
    allowed = false <= (1 - specificity) * false[-1] + 1e-9 * np.maximum(false[-1], 1)
    best = np.where(allowed, true, 0.0).max(axis=0)
    return np.where(false[-1] > 0, _ratio(best, true[-1]), np.nan)


def tpr_at_top(
    targets: np.ndarray, scores: np.ndarray, weights: np.ndarray, fraction: float
) -> np.ndarray:
    """Share of the positives among the highest scores; a group cut by the border counts in part."""
    true, false = _above(targets, scores, weights)
    everyone = true + false
    room = fraction * everyone[-1]
    before = np.vstack([np.zeros_like(room)[None], everyone[:-1]])
    group = np.diff(true, axis=0, prepend=0.0)
    size = np.diff(everyone, axis=0, prepend=0.0)
    share = np.divide(room - before, size, out=np.zeros_like(size), where=size > 0).clip(0, 1)
    return _ratio((group * share).sum(axis=0), true[-1])


def net_benefit(
    targets: np.ndarray,
    probability: np.ndarray,
    weights: np.ndarray,
    threshold: float,
    prevalence: float | None = None,
) -> np.ndarray:
    """Net benefit of treating those whose probability is at least the threshold."""
    positive, treated = targets > 0, probability >= threshold
    tp = (positive & treated).astype(float) @ weights
    fp = (~positive & treated).astype(float) @ weights
    events, others = positive.astype(float) @ weights, (~positive).astype(float) @ weights
    odds = threshold / (1 - threshold)
    if prevalence is None:
        return _ratio(tp - odds * fp, events + others)
    return prevalence * _ratio(tp, events) - odds * (1 - prevalence) * _ratio(fp, others)


def clipped_logit(probability: np.ndarray) -> np.ndarray:
    """Log odds, probabilities moved into [CLIP, 1 - CLIP] first."""
    inside = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def calibration_intercept(
    targets: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Intercept of a logistic model whose slope is fixed at one (calibration in the large)."""
    offset, y = clipped_logit(probability), (targets > 0).astype(float)
    total, events = weights.sum(axis=0), y @ weights
    usable = (events > 0) & (events < total)
    shift = np.zeros(weights.shape[1])
    if len(shift) > 1:  # draws begin at the answer of all rows, which is near theirs
        whole = calibration_intercept(targets, probability, np.ones((len(y), 1)))
        shift[:] = np.nan_to_num(whole)
    for _ in range(NEWTON_STEPS):
        mu = expit(offset[:, None] + shift)
        gradient = events - np.einsum("nw,nw->w", weights, mu)
        curvature = np.einsum("nw,nw->w", weights, mu * (1 - mu))
        step = np.where(usable, gradient / np.maximum(curvature, 1e-12), 0.0)
        step = step.clip(-LARGEST_STEP, LARGEST_STEP)
        shift += step
        if np.abs(step).max(initial=0.0) < 1e-7:  # converges quadratically: exact after this
            break
    return np.where(usable, shift, np.nan)


def calibration_slope(
    targets: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Slope of a logistic model of the outcome on the log odds."""
    return logistic_recalibration(targets, probability, weights)[1]


def logistic_recalibration(
    targets: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope fitted together, (W,) each.

    NaN if classes are separated or one, or log odds hardly vary (`LEAST_SPREAD`).
    """
    x, y = clipped_logit(probability), (targets > 0).astype(float)
    centre, scale = x.mean(), x.std()
    usable = _overlap(x, y > 0, weights)
    if not usable.any() or scale < LEAST_SPREAD:
        return np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
    z = (x - centre) / scale
    design = np.stack([np.ones_like(z), z, z * z])  # (3, N)
    total, events = weights.sum(axis=0), y @ weights
    moments = np.stack([events, (z * y) @ weights])
    rate = np.divide(events, total, out=np.full_like(total, 0.5), where=usable)
    a, b = np.log(rate) - np.log1p(-rate), np.zeros_like(rate)
    for _ in range(NEWTON_STEPS):
        mu = expit(a + z[:, None] * b)
        share = weights * mu
        gradient = moments - design[:2] @ share
        h00, h01, h11 = design @ (share - share * mu)
        determinant = np.maximum(h00 * h11 - h01**2, 1e-12)
        step = np.stack([h11 * gradient[0] - h01 * gradient[1],
                         h00 * gradient[1] - h01 * gradient[0]]) / determinant  # fmt: skip
        step = np.where(usable, step, 0.0).clip(-LARGEST_STEP, LARGEST_STEP)
        a, b = a + step[0], b + step[1]
        usable &= np.abs(b) < ENDLESS
        if np.abs(step).max(initial=0.0) < 1e-9:  # converges quadratically: exact after this
            break
    usable &= np.abs(step).max(axis=0) < 1e-6
    slope = b / scale
    return np.where(usable, a - slope * centre, np.nan), np.where(usable, slope, np.nan)


def _overlap(x: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether no cut on x separates the classes, in either direction, (W,)."""
    there = weights > 0
    column = x[:, None]
    low = [np.where(there & side[:, None], column, np.inf).min(axis=0) for side in
           (positive, ~positive)]  # fmt: skip
    high = [np.where(there & side[:, None], column, -np.inf).max(axis=0) for side in
            (positive, ~positive)]  # fmt: skip
    return np.asarray((high[1] > low[0]) & (high[0] > low[1]))
