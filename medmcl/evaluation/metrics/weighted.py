"""Metrics under many weightings at once: the engine below the bootstrap.

Every kernel takes outcomes, predictions and ``weights`` of shape (N, W) with one column a draw, and
gives (W,) values; a draw in which the metric does not exist gives NaN, which never leaves this
package: `metrics` and `intervals` turn it into a stated reason. A weight of k means the same as the
row standing k times.
"""

from __future__ import annotations

import numpy as np


def auroc(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, ties between classes count one half."""
    order = np.argsort(predictions, kind="stable")
    starts = _tie_starts(predictions[order])
    positive = targets[order] > 0
    sorted_weights = weights[order]
    negatives = _sum_ties(sorted_weights * ~positive[:, None], starts)
    positives = _sum_ties(sorted_weights * positive[:, None], starts)
    below = np.cumsum(negatives, axis=0)
    total_negative = below[-1].copy()
    below -= 0.5 * negatives
    won = np.einsum("gw,gw->w", positives, below)
    return _ratio(won, positives.sum(axis=0) * total_negative)


def auprc(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision: step-wise area, tied predictions form one threshold."""
    order = np.argsort(-predictions, kind="stable")
    starts = _tie_starts(predictions[order])
    sorted_weights = weights[order]
    positives = _sum_ties(sorted_weights * (targets[order] > 0)[:, None], starts)
    everyone = _sum_ties(sorted_weights, starts).cumsum(axis=0)
    true_positives = positives.cumsum(axis=0)
    precision = np.divide(
        true_positives, everyone, out=np.zeros_like(true_positives), where=everyone > 0
    )
    return _ratio(np.einsum("gw,gw->w", positives, precision), true_positives[-1])


def brier(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance between probability and outcome."""
    return _mean((predictions - (targets > 0)) ** 2, weights)


def mae(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error."""
    return _mean(np.abs(predictions - targets), weights)


def r2(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One minus residual over total sum of squares; the mean is that of the weighted rows."""
    spread = _spread(targets, weights)
    residual = ((targets - predictions) ** 2) @ weights
    return 1 - _ratio(residual, spread)


def pearson(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear correlation."""
    x, y = targets - targets.mean(), predictions - predictions.mean()
    total = np.maximum(weights.sum(axis=0), 1e-300)
    together = (x * y) @ weights - (x @ weights) * (y @ weights) / total
    scale = np.sqrt(_spread(targets, weights)) * np.sqrt(_spread(predictions, weights))
    return np.clip(_ratio(together, scale), -1.0, 1.0)


def _spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum of squares about each draw's own mean, (W,); 0 where it is rounding only.

    Rounding is a spread of up to 8 units in the last place of the largest value. Where one pass
    would lose digits, because a draw lies far from the mean of all rows, a second is made.
    """
    centred = values - values.mean()
    total = np.maximum(weights.sum(axis=0), 1e-300)
    raw, mean = (centred**2) @ weights, (centred @ weights) / total
    spread = raw - mean**2 * total
    for draw in np.flatnonzero(spread < 1e-6 * raw):
        spread[draw] = (centred - mean[draw]) ** 2 @ weights[:, draw]
    floor = 8 * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0)
    return np.where(spread > floor**2 * total, spread, 0.0)


def accuracy(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of rows whose predicted class is the true one."""
    return _mean(predictions == targets, weights)


def balanced_accuracy(
    targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Mean over the true classes of a draw of the share recognised."""
    per_class = np.array(
        [
            _mean((predictions == targets)[targets == label], weights[targets == label])
            for label in np.unique(targets)
        ]
    )
    drawn = (~np.isnan(per_class)).sum(axis=0)
    return np.where(drawn > 1, _ratio(np.nansum(per_class, axis=0), drawn), np.nan)


def _tie_starts(ordered: np.ndarray) -> np.ndarray:
    """Positions at which a new value begins in a sorted array."""
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.concatenate([[0], changes]).astype(np.intp)


def _sum_ties(ordered: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of the rows of each tied value; the rows themselves where nothing is tied."""
    return ordered if len(starts) == len(ordered) else np.add.reduceat(ordered, starts, axis=0)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(values.astype(np.float64) @ weights, weights.sum(axis=0))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Quotient with NaN where the denominator is zero."""
    nan = np.full(np.broadcast(above, below).shape, np.nan)
    return np.divide(above, below, out=nan, where=below > 0)
