"""What a metric is: a vectorised kernel with its direction and its limits.

A metric that does not exist for the data in hand (one class only, no event) gives a
`NotEstimable` with the reason, never NaN and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medmcl.core.errors import ConfigError

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


def numbers(array: Any, name: str) -> np.ndarray:
    """Give an array of float64; what is missing in a column of objects becomes NaN.

    Raises:
        ConfigError: For words, dates, structured arrays and other things that are no numbers.
    """
    found = np.asarray(array)
    if found.dtype.names is not None:
        raise ConfigError(
            f"{name}: give arrays, not a structured array",
            got=f"its fields: {', '.join(map(repr, found.dtype.names))}",
        )
    if found.dtype.kind == "O":
        lost = is_missing(found)
        if not any(isinstance(value, str) for value in found.flat):
            try:
                return np.where(lost, np.nan, found).astype(np.float64)
            except (TypeError, ValueError):
                pass
        if any(isinstance(value, str) for value in found.flat):
            raise _words(found, name)
    if found.dtype.kind in "US":
        raise _words(found, name)
    if found.dtype.kind not in "biuf":
        raise ConfigError(
            f"{name}: must be numbers, got {found.dtype}",
            got=found.reshape(-1)[:3],
            expected="numbers or booleans",
        )
    return found.astype(np.float64, copy=False)


def _words(found: np.ndarray, name: str) -> ConfigError:
    """Give the error for labels that are words, with how they become numbers."""
    words = list(dict.fromkeys(str(value) for value in found.flat))
    more = f", … ({len(words)} different)" if len(words) > 5 else ""
    return ConfigError(
        f"{name}: must be numbers, and these are words",
        got=", ".join(map(repr, words[:5])) + more,
        expected="1 and 0 or True and False for yes and no; 0, 1, 2, … for several classes; scores "
        "or probabilities for predictions",
        fix="compare with the word that means yes, as in y == 'yes'; for several classes, "
        "np.unique(y, return_inverse=True)[1]",
    )


def is_missing(labels: np.ndarray) -> np.ndarray:
    """Say which values are None, NaN, NaT or pandas' NA, of the same shape."""
    if labels.dtype.kind in "biuSU":
        return np.zeros(labels.shape, dtype=bool)
    import pandas as pd

    return np.asarray(pd.isna(labels))


def as_float(array: Any) -> np.ndarray:
    """Give predictions as an array of float64."""
    return numbers(array, "predictions")


def weights_of(weights: Any, size: int, name: str) -> np.ndarray:
    """Give the weights of N rows as a column, (N, 1); default ones.

    Raises:
        ConfigError: If they are not N finite numbers of at least zero.
    """
    if weights is None:
        return np.ones((size, 1))
    found = numbers(weights, f"{name}: weights")
    if found.shape != (size,):
        raise ConfigError(
            f"{name}: weights must be {size} numbers of at least zero",
            got=f"shape {found.shape}",
            expected=f"shape ({size},)",
        )
    bad = ~np.isfinite(found) | (found < 0)
    if bad.any():
        raise ConfigError(
            f"{name}: weights must be {size} numbers of at least zero",
            got=f"{int(bad.sum())} negative or not finite, as {found[bad][0]}",
        )
    return found[:, None]


def check_level(level: float) -> None:
    """Refuse a coverage that is no share.

    Raises:
        ConfigError: If it does not lie inside (0, 1).
    """
    if isinstance(level, bool | str) or not 0 < level < 1:
        raise ConfigError(
            "level: the coverage must lie inside (0, 1)", got=level, expected="0.95, for instance"
        )


def tuples(**arrays: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Give arrays as tuples, which a frozen result compares and hashes by."""
    return {name: tuple(array.tolist()) for name, array in arrays.items()}


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
            must be corrected; see `medmcl.evaluation.metrics.sampled.Sampled`.
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
        columns = weights_of(weights, size, self.name)
        value = float(self.draws(*arrays, columns)[0])
        if not np.isnan(value):
            return value
        rows = columns[:, 0] > 0
        return NotEstimable(self.reason([array[rows] for array in arrays]))

    def reason(self, arrays: Sequence[np.ndarray]) -> str:  # noqa: ARG002  # subclasses look
        """Say what checked arrays lack, where the metric does not exist for them."""
        return self.missing

    def remark_of(self, arrays: Sequence[np.ndarray]) -> str:  # noqa: ARG002  # subclasses look
        """Say what of checked arrays the metric leaves out, though it exists; empty if nothing."""
        return ""

    def check(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Give the arrays as floats; refuse unequal lengths and numbers that are not finite."""
        *outcomes, predictions = arrays
        outcomes = [numbers(array, f"{self.name}: outcome") for array in outcomes]
        floats = (*outcomes, self.prepare(predictions))
        if len({array.shape for array in floats}) != 1 or floats[0].ndim != 1:
            shapes = ", ".join(str(array.shape) for array in floats)
            raise ValueError(f"{self.name}: outcomes and predictions must be (N,), got {shapes}")
        if not all(np.isfinite(array).all() for array in floats):
            raise ValueError(f"{self.name}: outcomes and predictions must be finite numbers")
        return floats


ONE_CLASS = "all outcomes are of one class"
CONSTANT = "the outcome does not vary"
