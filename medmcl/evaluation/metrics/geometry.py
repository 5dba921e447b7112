"""The shape of an embedding cloud: has it collapsed, is it spread, do partners lie together?"""

from __future__ import annotations

import numpy as np

MOST_ROWS = 2048  # pairs are computed among at most so many rows


def unit(x: np.ndarray) -> np.ndarray:
    """Give vectors unit length along the last axis, float64; zeros stay zeros."""
    rows = np.asarray(x, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))


def effective_rank(x: np.ndarray) -> float:
    """Give the effective number of dimensions, from 1 (collapsed) to min(N, D); higher is richer.

    The exponential of the entropy of the singular values, of the matrix as it is (not centred): a
    cloud that is one constant has effective rank 1.

    Args:
        x: Embeddings or features, (N, D).

    Returns:
        The effective rank; 0 for a matrix of zeros or without rows, NaN if a value is not finite.
    Source:
        Roy & Vetterli 2007, EUSIPCO (effective rank); Garrido et al. 2023, arXiv 2210.02885
        (RankMe). Differs: no small constant is added to the shares.
    """
    x = np.asarray(x, dtype=np.float64)
    if not np.isfinite(x).all():
        return float("nan")
    values = np.linalg.svd(x, compute_uv=False)
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def uniformity(
    x: np.ndarray, *, t: float = 2.0, generator: np.random.Generator | None = None
) -> float:
    """Give the log mean Gaussian potential over pairs of unit vectors; lower is more uniform.

    0 = all in one point; about ``-2 t`` (-4 as it stands) for a uniform sphere of many dimensions.

    Args:
        x: Unit-norm embeddings, (N, D), at least two rows.
        t: Sharpness of the potential.
        generator: Chooses rows if there are more than 2,048; default evenly spaced rows.
    Source:
        Wang & Isola 2020, arXiv 2005.10242, eq. (2). Differs: distinct pairs only, on at most 2,048
        rows.
    """
    rows = _some_rows(np.asarray(x, dtype=np.float64), generator)
    if len(rows) < 2:
        raise ValueError("uniformity needs at least two rows")
    squared = (rows**2).sum(axis=1)
    distance = squared[:, None] + squared[None] - 2 * rows @ rows.T
    pairs = np.maximum(distance[np.triu_indices(len(rows), k=1)], 0)
    return float(np.log(np.exp(-t * pairs).mean()))


def alignment(a: np.ndarray, b: np.ndarray, *, alpha: float = 2.0) -> float:
    """Give the mean distance of partners to the power ``alpha``; lower is better, 0 = equal.

    Args:
        a: Unit-norm embeddings, (N, D), at least one row.
        b: Partners, row by row. (N, D)
        alpha: Power.
    Source:
        Wang & Isola 2020, arXiv 2005.10242, eq. (1). Differs: none.
    """
    if len(a) == 0 or a.shape != b.shape:
        raise ValueError(f"alignment needs partners row by row, got {a.shape} and {b.shape}")
    gap = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return float((np.linalg.norm(gap, axis=1) ** alpha).mean())


def _some_rows(x: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
    if len(x) <= MOST_ROWS:
        return x
    if generator is None:
        return x[np.linspace(0, len(x) - 1, MOST_ROWS).astype(int)]
    return x[generator.choice(len(x), MOST_ROWS, replace=False)]
