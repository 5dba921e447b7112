"""Standardisation with statistics of train rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        return (np.asarray(features, dtype=np.float64) - self.mean) / self.scale


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

    @classmethod
    def of(cls, blocks: Sequence[np.ndarray]) -> BlockScaling:
        """For blocks (N, E_k) that stand side by side."""
        return cls(tuple(block.shape[1] for block in blocks))


def flat_columns(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Which columns do not vary beyond rounding, (E,) bool."""
    return np.asarray(spread <= 1e-8 * np.maximum(1e-12, np.abs(mean)))
