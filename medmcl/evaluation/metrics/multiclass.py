"""Metrics of all classes of an outcome at once, from one probability a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.metric import Estimate, Metric, as_float, numbers


class ClassMetric(Metric):
    """A metric of class numbers (N,) and one probability a class (N, C)."""

    def check(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Give the arrays as floats; refuse what is no class number and no probability."""
        targets, shares = numbers(arrays[0], f"{self.name}: outcome"), self.prepare(arrays[1])
        if shares.ndim == 1 and self.prepare is not shares_of:  # it stands for a missing metric
            return targets, shares
        if targets.ndim != 1 or len(targets) != len(shares):
            raise ConfigError(
                f"{self.name}: must be class numbers (N,) and probabilities (N, classes)",
                got=f"shapes {targets.shape} and {shares.shape}",
            )
        wrong = ~np.isin(targets, np.arange(shares.shape[1]))
        if wrong.any():
            raise ConfigError(
                f"{self.name}: an outcome must be the number of its class",
                got=f"{targets[wrong][0]:g} in {int(wrong.sum())} rows",
                expected=f"whole numbers from 0 to {shares.shape[1] - 1}",
            )
        return targets, shares


def shares_of(predictions: Any) -> np.ndarray:
    """Refuse predictions that are not one probability a class, (N, C)."""
    array = as_float(predictions)
    if array.ndim != 2:
        raise ConfigError(
            "predictions of classes must be one probability a class",
            got=f"shape {array.shape}",
            expected="shape (N, classes)",
        )
    bad = ~np.isfinite(array) | (array < 0) | (array > 1)
    if bad.any():
        raise ConfigError(
            "predictions must be probabilities between 0 and 1", got=f"{array[bad][0]:g}"
        )
    return array


def _brier(targets: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    hit = targets[:, None] == np.arange(shares.shape[1])
    loss, total = ((shares - hit) ** 2).sum(axis=1), weights.sum(axis=0)
    return np.divide(loss @ weights, total, out=np.full_like(total, np.nan), where=total > 0)


BRIER_CLASSES = ClassMetric("brier", "lower", _brier, "no rows", prepare=shares_of)


def brier_classes(targets: Any, predictions: Any, weights: Any = None) -> Estimate:
    """Give the Brier score of classes, in [0, 2]; lower is better.

    The squared distance of the probabilities from the class that came, summed over classes; of two
    classes it is twice `brier`.

    Args:
        targets: Class number, from 0. (N,)
        predictions: One probability a class. (N, C)
        weights: How often each row counts; default once. (N,)

    Raises:
        ConfigError: For other numbers than classes and probabilities, and shapes that do not fit.
    Source:
        Brier 1950, Monthly Weather Review 78:1-3, equation 2. Differs: none.
    """
    return BRIER_CLASSES(targets, predictions, weights=weights)
