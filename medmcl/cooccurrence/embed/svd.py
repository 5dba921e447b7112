"""The largest singular values and vectors of a dense matrix: exact, or by block Lanczos.

Both fix the sign of each pair of vectors, and start vectors have a fixed seed, so the same matrix
gives the same bits. ``lanczos``, the default of large matrices, is a Golub-Kahan block Lanczos with
full reorthogonalisation (Golub, Luk and Overton 1981): it grows its basis until the residuals of
every wanted vector are small, where randomised SVD does a fixed number of power steps and does not
know how far off it is.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator

Solver = Literal["auto", "exact", "lanczos"]
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""U (d1, rank), S (rank,) falling, Vt (rank, d2)."""

SMALL = 600
"""Up to this many rows or columns LAPACK's whole decomposition is quick enough."""
_TOLERANCE = 3e-3
"""Residual as a share of its singular value; the values then agree to about 1e-5."""
_OVERSAMPLES = 10


def truncated_svd(
    matrix: np.ndarray, rank: int, *, solver: Solver = "auto", seed: int = 0
) -> Triple:
    """Give the leading singular triplets of a matrix.

    Args:
        matrix: Finite values, (d1, d2).
        rank: How many; at most min(d1, d2).
        solver: ``exact`` (LAPACK, all of them) or ``lanczos``. ``auto`` is exact for small
            matrices or large ranks, else lanczos.
        seed: Of the start vectors.

    Raises:
        ConfigError: Impossible rank, or values that are not finite.
    """
    whole = isinstance(rank, (int, np.integer))
    if matrix.ndim != 2 or not whole or not 1 <= rank <= min(matrix.shape):
        raise ConfigError(
            "a matrix has no such rank", got=rank, expected=f"1 to {min(matrix.shape)}"
        )
    if not np.isfinite(matrix).all():
        raise ConfigError("the matrix holds values that are not finite")
    if solver == "auto":
        small = min(matrix.shape) <= SMALL or rank > min(matrix.shape) // 5
        solver = "exact" if small else "lanczos"
    if solver == "exact" or rank >= min(matrix.shape) - _OVERSAMPLES:
        u, s, vt = _exact(matrix, rank)
    else:
        u, s, vt = _lanczos(matrix, rank, numpy_generator(seed, "svd"))
    sign = signs(u)
    return u * sign, s, vt * sign[:, None]


def signs(vectors: np.ndarray) -> np.ndarray:
    """What makes the largest entry of each column positive, 1.0 or -1.0, (columns,)."""
    largest = np.abs(vectors).argmax(axis=0)
    return np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)


def _exact(matrix: np.ndarray, rank: int) -> Triple:
    u, s, vt = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False)
    return u[:, :rank], s[:rank], vt[:rank]


def _lanczos(matrix: np.ndarray, rank: int, rng: np.random.Generator) -> Triple:
    """Grow left basis Q and its image A'Q block by block; Rayleigh-Ritz; stop by residual.

    With u = Q w and s v = A'u, only A v - s u is left over, and it lies in the next block.
    """
    width = rank // 5 + _OVERSAMPLES
    most = min(min(matrix.shape) * 2 // 3, 20 * (rank + width))
    left = np.empty((matrix.shape[0], most), order="F")
    image = np.empty((matrix.shape[1], most), order="F")
    gram = np.empty((most, most), order="F")
    block = _orthonormal(matrix @ rng.standard_normal((matrix.shape[1], width)))[0]
    size, next_look = 0, 2 * rank + 2 * width
    while size + width <= most:
        fresh = slice(size, size + width)
        left[:, fresh], image[:, fresh] = block, matrix.T @ block
        size += width
        gram[:size, fresh] = image[:, :size].T @ image[:, fresh]
        following = matrix @ image[:, fresh]
        following -= left[:, :size] @ (left[:, :size].T @ following)
        block, beyond = _orthonormal(following)
        if size >= next_look:
            squares, turn = _leading(gram[:size, :size], rank)
            residual = np.linalg.norm(beyond @ turn[-width:], axis=0)
            if (residual <= _TOLERANCE * squares[-1]).all():  # both sides times s
                s = np.sqrt(squares)
                return left[:, :size] @ turn, s, (image[:, :size] @ turn / s).T
            next_look = size + max(rank // 2, 2 * width)
        block -= left[:, :size] @ (left[:, :size].T @ block)  # once leaves rounding errors
        block = _orthonormal(block)[0]
    return _exact(matrix, rank)


def _leading(gram: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalues, falling, and their vectors; only the upper triangle is read."""
    size = len(gram)
    values, vectors = scipy.linalg.eigh(
        gram, lower=False, subset_by_index=[size - rank, size - 1], check_finite=False
    )
    return np.maximum(values[::-1], np.finfo(float).tiny), vectors[:, ::-1]


def _orthonormal(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scipy.linalg.qr(matrix, mode="economic", check_finite=False, overwrite_a=True)


def eigen_embedding(matrix: np.ndarray, rank: int) -> np.ndarray:
    """U sqrt(L) of the largest eigenvalues of a symmetric matrix, negative ones as 0, (d, rank)."""
    size = len(matrix)
    values, vectors = scipy.linalg.eigh(matrix, subset_by_index=[size - rank, size - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    return np.asarray(vectors * signs(vectors) * np.sqrt(np.maximum(values, 0.0)))
