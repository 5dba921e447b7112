"""What is done to features before a fit: standardised, and turned onto the span of their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Scaler:
    """Mean and scale of train rows; a feature that does not vary keeps scale one."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scaler:
        """Learn from train rows, (N, E)."""
        mean = features.mean(axis=0)
        spread = features.std(axis=0)
        return cls(mean, np.where(flat_columns(mean, spread), 1.0, spread))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise, (N, E)."""
        found = np.asarray(features, dtype=np.float64) - self.mean
        found /= self.scale  # of many rows each copy is large
        return found


Scaling = Callable[[np.ndarray], Scaler]
"""What learns a scaler from train rows."""


def one_scale(features: np.ndarray) -> Scaler:
    """Learn means, and one scale for all columns: the root of the mean variance. (N, E)."""
    scaler = Scaler.of(features)
    spread = float(np.sqrt(np.square(features - scaler.mean).mean())) if features.size else 0.0
    return replace(scaler, scale=np.full_like(scaler.scale, spread if spread > 0 else 1.0))


@dataclass(frozen=True)
class BlockScaling:
    """Standardise, then give blocks of columns side by side the same summed variance.

    Under one ridge penalty the weights of a column of variance s^2 cost 1 / s^2 as much: a block of
    6 columns beside one of 256 would be shrunk with it. The widest block keeps variance one.

    Attributes:
        widths: Columns of each block; they sum to E.
    """

    widths: tuple[int, ...]

    def __call__(self, features: np.ndarray) -> Scaler:
        """Learn from train rows, (N, E)."""
        scaler = Scaler.of(features)
        each = np.sqrt(np.maximum(self.widths, 1) / max(self.widths))
        return replace(scaler, scale=scaler.scale * np.repeat(each, self.widths))


def flat_columns(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Which columns do not vary beyond rounding, (E,) bool."""
    return np.asarray(spread <= 1e-8 * np.maximum(1e-12, np.abs(mean)))


@dataclass(frozen=True)
class Rotation:
    """Features turned onto the span of their rows; lengths and products of rows stay.

    Under a penalty on the squared length of the weights, the best weights of a linear predictor lie
    in that span, and have the same length there.

    Attributes:
        rows: (N, R), with R the number of rows where the columns are clearly more.
        axes: (E, R), orthonormal; None where the rows stay as they are.
    """

    rows: np.ndarray
    axes: np.ndarray | None = None

    @classmethod
    def of(cls, x: np.ndarray) -> Rotation:
        """Turn features (N, E), if their columns are a quarter more than their rows."""
        if 4 * x.shape[1] <= 5 * x.shape[0]:
            return cls(x)  # turning would cost what fewer numbers save
        from scipy.linalg import qr

        axes, lower = qr(x.T, mode="economic", check_finite=False)
        return cls(lower.T, axes)

    def on_principal_axes(self) -> Rotation:
        """The same span, its axes those on which the rows are uncorrelated, if centred."""
        _, turn = np.linalg.eigh(self.rows.T @ self.rows)
        return Rotation(self.rows @ turn, turn if self.axes is None else self.axes @ turn)

    def back(self, weights: np.ndarray) -> np.ndarray:
        """Weights of the features, (E,) or (E, C), from those of the turned ones."""
        return weights if self.axes is None else self.axes @ weights

    def inside(self, weights: np.ndarray) -> np.ndarray:
        """What of weights of the features, (E,) or (E, C), the rows see: the inverse of `back`."""
        return weights if self.axes is None else self.axes.T @ weights
