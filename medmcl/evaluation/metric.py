"""What a metric is: a vectorised kernel with its direction and its limits.

A metric that does not exist for the data in hand (one class only, no event) gives a
`NotEstimable` with the reason, never NaN and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Draws = Callable[..., np.ndarray]
Direction = Literal["higher", "lower", "target"]


@dataclass(frozen=True)
class NotEstimable:
    """Stands for a number that the data cannot give. False in a condition.

    Attributes:
        reason: Why, in one clause.
    """

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"not estimable: {self.reason}"


Estimate = float | NotEstimable


def as_float(array: Any) -> np.ndarray:
    """Give an array of float64."""
    return np.asarray(array, dtype=np.float64)


def classes_of(predictions: Any) -> np.ndarray:
    """Turn scores (N, C) into the number of the highest class; class numbers (N,) pass."""
    array = as_float(predictions)
    return array.argmax(axis=1).astype(np.float64) if array.ndim == 2 else array


def probabilities_of(predictions: Any) -> np.ndarray:
    """Refuse predictions that are not probabilities."""
    array = as_float(predictions)
    if ((array < 0) | (array > 1)).any():
        raise ValueError("predictions must be probabilities between 0 and 1")
    return array


@dataclass(frozen=True)
class Metric:
    """A metric as the bootstrap needs it.

    Attributes:
        name: Its name in tables.
        direction: Whether higher or lower values are better; ``target`` = the nearer to `ideal`.
        draws: ``(*outcomes, predictions, weights (N, W)) -> (W,)``, NaN where it does not exist.
        missing: What the data lack when the metric does not exist.
        chance: Value of a prediction that knows nothing, where there is one.
        counts_events: Whether positives or events of the (first) outcome are worth counting.
        prepare: What is done to the predictions first; refuses those it cannot use.
        ideal: Value of perfect predictions, where ``target`` is the direction.
        inflated: Whether noise can only add to it (a mean of distances), so that the interval
            must be corrected; see `medmcl.evaluation.sampled.Sampled`.
    """

    name: str
    direction: Direction
    draws: Draws
    missing: str
    chance: float | None = None
    counts_events: bool = False
    prepare: Callable[[Any], np.ndarray] = as_float
    ideal: float | None = None
    inflated: bool = False

    def __call__(self, *arrays: Any, weights: Any = None) -> Estimate:
        """Give the point value: outcomes first, predictions last."""
        arrays = self.check(arrays)
        size = len(arrays[0])
        if size == 0:
            return NotEstimable("no rows")
        columns = np.ones((size, 1)) if weights is None else np.asarray(weights, float)[:, None]
        if len(columns) != size or (columns < 0).any():
            raise ValueError(f"{self.name}: weights must be {size} numbers of at least zero")
        value = float(self.draws(*arrays, columns)[0])
        return NotEstimable(self.missing) if np.isnan(value) else value

    def check(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Give the arrays as floats; refuse unequal lengths and numbers that are not finite."""
        *outcomes, predictions = arrays
        floats = (*(as_float(array) for array in outcomes), self.prepare(predictions))
        sizes = sorted({len(array) for array in floats})
        if len(sizes) != 1 or any(array.ndim != 1 for array in floats):
            shapes = ", ".join(str(array.shape) for array in floats)
            raise ValueError(f"{self.name}: outcomes and predictions must be (N,), got {shapes}")
        if not all(np.isfinite(array).all() for array in floats):
            raise ValueError(f"{self.name}: outcomes and predictions must be finite numbers")
        return floats


ONE_CLASS = "all outcomes are of one class"
CONSTANT = "the outcome does not vary"
