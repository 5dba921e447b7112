"""Rows in as few numbers as they span: what a ridge penalty keeps of more columns than rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
