"""Local quadratic regression in one variable, as R's ``loess`` with its defaults.

Exact local fits (value and slope) at few vertices, cubic Hermite interpolation between them. Rows
may carry whole-number weights that mean repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPAN = 0.75
RANK = 1e-11  # eigenvalues below this share of the largest count as zero
_PLACES = np.add.outer(np.arange(3), np.arange(3))  # of sums of powers in normal equations
CELL = 0.2  # cells of the tree hold at most this share of a span's rows


@dataclass(frozen=True)
class Smooth:
    """A fitted curve.

    Attributes:
        vertices: Where it was fitted, ascending. (V,)
        values: Fitted value there. (V,) or (V, K)
        slopes: Fitted slope there. As values.
    """

    vertices: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate inside the range of the data; beyond it the last cubic goes on."""
        cell = np.searchsorted(self.vertices, x, side="right") - 1
        cell = cell.clip(0, len(self.vertices) - 2)
        width = np.diff(self.vertices)[cell]
        t = (x - self.vertices[cell]) / width
        left, right = (1 - t) ** 2, t**2
        parts = (
            left * (1 + 2 * t),
            right * (3 - 2 * t),
            t * left * width,
            -right * (1 - t) * width,
        )
        if self.values.ndim == 2:
            parts = tuple(part[:, None] for part in parts)
        return np.asarray(
            parts[0] * self.values[cell]
            + parts[1] * self.values[cell + 1]
            + parts[2] * self.slopes[cell]
            + parts[3] * self.slopes[cell + 1]
        )


def loess(x: np.ndarray, y: np.ndarray, *, span: float = SPAN) -> Smooth:
    """Smooth y over x; x need not be sorted, ties are welcome.

    Args:
        x: (N,), at least three distinct values.
        y: (N,) or several outcomes (N, K).
        span: Share of the rows in each neighbourhood, at most 1.
    Source:
        Cleveland, Grosse & Shyu 1992, Local regression models (S); R's ``loess(y ~ x)``: span .75,
        degree 2, tricube, gaussian, surface interpolated. Differs: a neighbourhood of tied x only
        is widened to the next distinct value instead of an error.
    """
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    vertices = _vertices(x, span)
    weight, scaled, width = _neighbours(x, vertices, span)
    powers = _powers(weight, scaled)
    inverse = _inverse(powers, scaled)
    moments = np.stack([power @ y for power in powers], axis=1)  # (V, 3[, K])
    found = np.einsum("vij,vj...->vi...", inverse, moments)
    shape = (len(vertices),) + (1,) * (y.ndim - 1)
    return Smooth(vertices, found[:, 0], found[:, 1] / width.reshape(shape))


def loess_rows(x: np.ndarray, at: np.ndarray, *, span: float = SPAN) -> np.ndarray:
    """Give the smoother matrix L (M, N): the curve at ``at`` is L @ y, for any y."""
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    vertices = _vertices(ordered, span)
    weight, scaled, width = _neighbours(ordered, vertices, span)
    powers = _powers(weight, scaled)
    inverse = _inverse(powers, scaled)
    rows = np.einsum("vij,vjn->ivn", inverse[:, :2], np.stack(powers, axis=1))
    smooth = Smooth(vertices, np.empty((len(vertices), len(x))), rows[1] / width[:, None])
    smooth.values[:, order] = rows[0]
    smooth.slopes[:, order] = rows[1] / width[:, None]
    return smooth(at)


def _vertices(x: np.ndarray, span: float) -> np.ndarray:
    """Ends of the range, a little widened, and the cuts of a tree of halved cells (x sorted)."""
    size = len(x)
    margin = 0.005 * max(x[-1] - x[0], 1e-10 * max(abs(x[0]), abs(x[-1])) + 1e-30)
    low, high = x[0] - margin, x[-1] + margin
    most = int(size * span * CELL)
    cuts: list[float] = []
    open_cells = [(0, size - 1, low, high)]
    while open_cells:
        first, last, left, right = open_cells.pop()
        if last - first + 1 <= most:
            continue
        middle = _cut(x, first, last)
        value = float(x[middle])
        if value in (left, right):
            continue
        cuts.append(value)
        open_cells += [(first, middle, left, value), (middle + 1, last, value, right)]
    return np.unique([low, *cuts, high])


def _cut(x: np.ndarray, first: int, last: int) -> int:
    """The middle position, moved to the nearest one whose successor differs."""
    middle = (first + last + 2) // 2 - 1  # the Fortran index is one-based
    offset = 0
    while first <= middle + offset < last:
        if x[middle + offset] != x[middle + offset + 1]:
            return middle + offset
        offset = -offset
        if offset >= 0:
            offset += 1
    return middle


def _neighbours(
    x: np.ndarray, vertices: np.ndarray, span: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tricube weights (V, N), distances in units of the bandwidth (V, N), bandwidths (V,).

    x is sorted: the k nearest of a vertex stand side by side, and the farther end of the window
    that reaches least is the k-th.
    """
    gap = x[None] - vertices[:, None]
    distance = np.abs(gap)
    nearest = min(len(x), int(len(x) * span + 1e-5))
    first, last = distance[:, : len(x) - nearest + 1], distance[:, nearest - 1 :]
    width = np.maximum(first, last).min(axis=1)
    narrow = width <= 0
    if narrow.any():
        beyond = np.where(distance[narrow] > 0, distance[narrow], np.inf)
        width[narrow] = 1.001 * beyond.min(axis=1)
    scaled = gap / width[:, None]
    share = np.minimum(distance / width[:, None], 1.0)
    rest = 1 - share * share * share
    return rest * rest * rest, scaled, width


def _powers(weight: np.ndarray, scaled: np.ndarray) -> list[np.ndarray]:
    """Weights times 1, z, z**2, each (V, N)."""
    once = weight * scaled
    return [weight, once, once * scaled]


def _inverse(powers: list[np.ndarray], scaled: np.ndarray) -> np.ndarray:
    """Pseudo-inverse of the normal equations of 1, z, z**2 at each vertex, (V, 3, 3)."""
    third = powers[2] * scaled
    sums = [power.sum(axis=1) for power in (*powers, third, third * scaled)]
    stacked = np.stack(sums, axis=1)[:, _PLACES]
    try:
        inverse = np.linalg.inv(stacked)
    except np.linalg.LinAlgError:  # one is singular to the last bit
        return np.linalg.pinv(stacked, rcond=RANK, hermitian=True)
    size = np.abs(stacked).max(axis=(1, 2)) * np.abs(inverse).max(axis=(1, 2))
    flat = ~(size < 1e-3 / RANK)  # not a number, too
    if flat.any():
        inverse[flat] = np.linalg.pinv(stacked[flat], rcond=RANK, hermitian=True)
    return inverse
