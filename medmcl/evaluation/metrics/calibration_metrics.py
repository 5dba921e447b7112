"""Calibration as metrics for tables and the bootstrap: intercept, slope, ICI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.evaluation.metrics import weighted_binary as kernels
from medmcl.evaluation.metrics.loess import loess
from medmcl.evaluation.metrics.metric import ONE_CLASS, Estimate, Metric, probabilities_of

DISTINCT = 3  # a quadratic needs three places to stand on


def ici_draws(targets: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean distance of the loess curve from the diagonal; weights must be whole numbers."""
    counts = np.rint(weights).astype(np.int64)
    if np.abs(counts - weights).max(initial=0.0) > 1e-9:
        raise ValueError("ici: weights must be whole numbers (a weight of k is the row k times)")
    order = np.argsort(probability, kind="stable")
    p, y = probability[order], (targets[order] > 0).astype(float)
    return np.array([_ici(p, y, column) for column in counts[order].T])


def _ici(p: np.ndarray, y: np.ndarray, counts: np.ndarray) -> float:
    rows = np.repeat(np.arange(len(p)), counts)
    x, outcome = p[rows], y[rows]
    if len(x) == 0 or (x[1:] != x[:-1]).sum() < DISTINCT - 1 or outcome.min() == outcome.max():
        return float("nan")
    there = counts > 0
    distance = np.abs(loess(x, outcome)(p[there]) - p[there])
    return float(distance @ counts[there] / len(x))


class _Slope(Metric):
    """A slope, which needs predictions that vary."""

    def reason(self, arrays: Sequence[np.ndarray]) -> str:
        varies = len(np.unique(arrays[0] > 0)) > 1
        return (hardly_vary(arrays[-1]) if varies else "") or self.missing


class _Index(Metric):
    """An index that exists, but says little, where predictions hardly vary."""

    def remark_of(self, arrays: Sequence[np.ndarray]) -> str:
        return hardly_vary(arrays[-1])


def hardly_vary(probability: np.ndarray) -> str:
    """Say so of probabilities whose log odds have a spread below `LEAST_SPREAD`; else nothing."""
    spread = kernels.clipped_logit(probability).std() if len(probability) else np.inf
    return kernels.HARDLY_VARY if spread < kernels.LEAST_SPREAD else ""


CALIBRATION_INTERCEPT = Metric(
    "calibration_intercept",
    "target",
    kernels.calibration_intercept,
    ONE_CLASS,
    None,
    True,
    probabilities_of,
    ideal=0.0,
)
CALIBRATION_SLOPE = _Slope(
    "calibration_slope",
    "target",
    kernels.calibration_slope,
    "one class, or classes that the predictions separate",
    None,
    True,
    probabilities_of,
    ideal=1.0,
)
ICI = _Index(
    "ici",
    "lower",
    ici_draws,
    "one class, or fewer than three distinct probabilities",
    None,
    True,
    probabilities_of,
    inflated=True,
)


def calibration_intercept(targets: Any, probability: Any, weights: Any = None) -> Estimate:
    """Give the calibration in the large; nearer to 0 is better, above 0 = risks are too low.

    The intercept of a logistic model with the log odds of the probability as offset. Probabilities
    are moved into [1e-6, 1 - 1e-6] first. Needs both classes.

    Args:
        targets: Outcome, above zero = positive. (N,)
        probability: Predicted probability. (N,)
        weights: How often each row counts; default once. (N,)

    Raises:
        ValueError: If a prediction is not a probability.
    Source:
        Cox 1958, Biometrika 45:562-565; Van Calster et al. 2019, BMC Med 17:230. Differs: the
        clipping.
    """
    return CALIBRATION_INTERCEPT(targets, probability, weights=weights)


def calibration_slope(targets: Any, probability: Any, weights: Any = None) -> Estimate:
    """Give the calibration slope; nearer to 1 is better, below 1 = risks are too extreme.

    The coefficient of the log odds of the probability in a logistic model with an intercept.
    Probabilities are moved into [1e-6, 1 - 1e-6] first. Not estimable for one class,
    predictions that separate the classes (the slope has no finite value), and predictions that
    hardly vary: log odds of a standard deviation below 0.01, where any slope would be noise.

    Raises:
        ValueError: If a prediction is not a probability.
    Source:
        Cox 1958, Biometrika 45:562-565; Van Calster et al. 2019, BMC Med 17:230. Differs: the
        clipping.
    """
    return CALIBRATION_SLOPE(targets, probability, weights=weights)


def ici(targets: Any, probability: Any, weights: Any = None) -> Estimate:
    """Give the integrated calibration index; lower is better, 0 is perfect.

    Mean over rows of the distance between the probability and a loess curve of the outcome. Noise
    can only add to it: perfectly calibrated risks have a positive value (about .03 at 500 rows).
    This is the plain index; `bootstrap` and `calibration` correct value and interval for noise.
    Needs both classes and three distinct probabilities. Weights must be whole numbers.

    Raises:
        ValueError: If a prediction is not a probability.
    Source:
        Austin & Steyerberg 2019, Stat Med 38:4051-4065 (R's loess with its defaults). Differs:
        none.
    """
    return ICI(targets, probability, weights=weights)
