"""DeLong's variance of the AUROC, and the test of two models on the same subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.intervals import codes_of_labels
from medmcl.evaluation.metrics.metric import ONE_CLASS, NotEstimable, check_level, numbers

Scale = Literal["plain", "logit"]


@dataclass(frozen=True, kw_only=True)
class AUC:
    """An AUROC with its DeLong interval.

    Attributes:
        value: Area under the ROC curve; higher is better.
        se: Standard error; None if it needs a second row of a class.
        low: Lower end of the interval; None without a standard error.
        high: Upper end of the interval.
        n: Rows.
        events: Positives.
        subjects: Independent subjects (rows, unless subjects were given).
        note: What a reader must know.
    """

    value: float
    se: float | None
    low: float | None
    high: float | None
    n: int
    events: int
    subjects: int
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class AUCDifference:
    """Two AUROCs on the same rows, and their difference.

    Attributes:
        a: The first model.
        b: The second model.
        value: AUROC of a minus that of b; positive favours a.
        se: Standard error of the difference, or None.
        low: Lower end of its interval, or None.
        high: Upper end, or None.
        z: Difference over its standard error; 0 where both are zero; None if only the latter is.
        p: Two-sided p value of no difference, or None.
        note: What a reader must know.
    """

    a: AUC
    b: AUC
    value: float
    se: float | None
    low: float | None
    high: float | None
    z: float | None
    p: float | None
    note: str = ""


def delong(
    targets: Any,
    a: Any,
    b: Any = None,
    subjects: Any = None,
    *,
    level: float = 0.95,
    scale: Scale = "logit",
) -> AUC | AUCDifference | NotEstimable:
    """Give the AUROC with DeLong's interval, or the paired difference of two models.

    A tie between a positive and a negative counts one half. O(n log n) by midranks.

    Args:
        targets: Outcome, above zero = positive. (N,)
        a: Scores, higher = more likely positive. (N,)
        b: Scores of a second model on the same rows; then the difference a - b is tested. (N,)
        subjects: Subject of each row; rows of one subject may be correlated, and a subject may have
            positive and negative rows. Default: each row is its own subject.
        level: Coverage aimed at.
        scale: ``logit``: the interval of a single AUROC is symmetric on the logit scale and stays
            in (0, 1); ``plain``: AUROC +- z se, cut at 0 and 1. The difference is always plain.

    Returns:
        `AUC`, or `AUCDifference` if b is given; `NotEstimable` for one class.

    Raises:
        ValueError: For unequal lengths, numbers that are not finite, missing subjects, and settings
            that do not exist.
    Source:
        DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837-845; midranks as in Sun & Xu 2014,
        IEEE Signal Process Lett 21:1389-1393; clusters: Obuchowski 1997, Biometrics 53:567-578;
        logit interval: Pepe 2003, The Statistical Evaluation of Medical Tests, p. 107.
        Differs: a subject with rows of one class only counts as zero in the other class's
        component, as in Obuchowski; a class's factor m / (m - 1) counts the subjects that have it.
    """
    check_level(level)
    if scale not in get_args(Scale):
        raise ConfigError("no such scale", where="scale", got=scale, expected=get_args(Scale))
    arrays = [numbers(x, "targets and scores") for x in (targets, a, b) if x is not None]
    codes = np.arange(arrays[0].size) if subjects is None else codes_of_labels(subjects, "subjects")
    shapes = {array.shape for array in (*arrays, codes)}
    if len(shapes) != 1 or arrays[0].ndim != 1:
        raise ValueError(f"delong: targets, scores and subjects must be (N,), got {sorted(shapes)}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("delong: targets and scores must be finite numbers")
    positive, scores = arrays[0] > 0, np.stack(arrays[1:])
    if positive.all() or not positive.any():
        return NotEstimable(ONE_CLASS if len(positive) else "no rows")
    values, parts = _components(positive, scores)
    clustered = subjects is not None
    covariance = _covariance(positive, parts, codes) if clustered else _plain(positive, parts)
    subjects = int(codes.max()) + 1
    z = float(ndtri((1 + level) / 2))
    base: dict[str, Any] = {"n": len(positive), "events": int(positive.sum())}
    curves = [
        _curve(value, None if covariance is None else covariance[k, k], z, scale, subjects, base)
        for k, value in enumerate(values)
    ]
    if b is None:
        return curves[0]
    return _difference(curves[0], curves[1], covariance, z)


def _components(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the AUROCs (K,) and each row's share of rows of the other class it beats, (K, N)."""
    parts = np.empty(scores.shape)
    for row, score in zip(parts, scores, strict=True):
        overall = rankdata(score)
        won = overall[positive] - rankdata(score[positive])
        row[positive] = won / (~positive).sum()
        lost = overall[~positive] - rankdata(score[~positive])
        row[~positive] = 1 - lost / positive.sum()
    return parts[:, positive].mean(axis=1), parts


def _plain(positive: np.ndarray, parts: np.ndarray) -> np.ndarray | None:
    """Covariance of the AUROCs for independent rows, (K, K)."""
    counts = positive.sum(), (~positive).sum()
    if min(counts) < 2:
        return None
    classes = (parts[:, positive], parts[:, ~positive])
    return np.asarray(
        sum(np.atleast_2d(np.cov(x)) / n for x, n in zip(classes, counts, strict=True))
    )


def _covariance(positive: np.ndarray, parts: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Covariance for rows clustered in subjects, (K, K)."""
    size = int(codes.max()) + 1
    centred, factors = [], []
    for side in (positive, ~positive):
        here = codes[side]
        deviation = parts[:, side] - parts[:, side].mean(axis=1, keepdims=True)
        sums = np.stack([np.bincount(here, row, minlength=size) for row in deviation])
        clusters = len(np.unique(here))
        if clusters < 2:
            return None
        centred.append(sums / side.sum())
        factors.append(clusters / (clusters - 1))
    ones, zeros = centred
    crossed = ones @ zeros.T
    own = factors[0] * (ones @ ones.T) + factors[1] * (zeros @ zeros.T)
    return np.asarray(own + size / (size - 1) * (crossed + crossed.T))


def _curve(
    value: float,
    variance: float | None,
    z: float,
    scale: Scale,
    subjects: int,
    base: dict[str, Any],
) -> AUC:
    value = float(value)
    base = {**base, "value": value, "subjects": subjects}
    if variance is None:
        return AUC(se=None, low=None, high=None, note="one subject of a class: no interval", **base)
    se = float(np.sqrt(max(variance, 0.0)))
    if value in (0.0, 1.0) or se == 0:
        note = "no spread: no interval"
        return AUC(se=se, low=None, high=None, note=note, **base)
    if scale == "logit":
        step = z * se / (value * (1 - value))
        low, high = (float(expit(logit(value) + sign * step)) for sign in (-1, 1))
    else:
        low, high = max(0.0, value - z * se), min(1.0, value + z * se)
    return AUC(se=se, low=low, high=high, **base)


def _difference(a: AUC, b: AUC, covariance: np.ndarray | None, z: float) -> AUCDifference:
    value = a.value - b.value
    base: dict[str, Any] = {"a": a, "b": b, "value": value}
    if covariance is None:
        return AUCDifference(se=None, low=None, high=None, z=None, p=None, note=a.note, **base)
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    se = float(np.sqrt(variance)) if variance > 1e-15 else 0.0
    if se == 0 and value != 0:
        note = "no spread of the difference: no test"
        return AUCDifference(se=se, low=None, high=None, z=None, p=None, note=note, **base)
    ratio = value / se if se else 0.0
    return AUCDifference(
        se=se,
        low=value - z * se,
        high=value + z * se,
        z=ratio,
        p=float(2 * ndtr(-abs(ratio))),
        **base,
    )
