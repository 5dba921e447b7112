"""K-means that gives the same clusters every time: one thread, a seed, rows of unit length."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medmcl.core.errors import ConfigError, MedmclError

Backend = Literal["sklearn", "faiss"]
CANDIDATES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
"""Numbers of clusters that `choose_clusters` looks at."""
_STARTS, _ITERATIONS, _TOLERANCE = 4, 100, 1e-5
_LOOKED_AT = 2000
_FLAT = 1e-4
"""Spread of unit vectors below which they are one point."""


@dataclass(frozen=True)
class Clusters:
    """What K-means found.

    Attributes:
        centres: (K, D), float32.
        labels: Cluster of each row, 0 to K - 1, (N,) int64.
    """

    centres: np.ndarray
    labels: np.ndarray


def kmeans(
    vectors: np.ndarray,
    clusters: int,
    seed: int,
    backend: Backend = "sklearn",
    where: object = None,
) -> Clusters:
    """Part rows into ``clusters`` by K-means on their directions.

    Args:
        vectors: (N, D); scaled to unit length here.
        clusters: K.
        seed: Of the starts; the same seed and rows give the same clusters.
        backend: ``sklearn`` (k-means++, 4 starts, one thread), or ``faiss`` if it is installed.
        where: What an error calls the place.

    Raises:
        ConfigError: Fewer rows than clusters; faiss is asked for and not installed.
        MedmclError: Values are not finite, or all rows are one point.

    Source:
        Zhang et al. 2024, arXiv 2402.11816, step a of a stage. Differs: seeded, and all rows at
        once, where the authors' code takes mini-batches without a seed.
    """
    unit = unit_rows(vectors)
    if len(unit) < clusters:
        raise ConfigError(
            "there are fewer rows than clusters",
            where=where,
            got=f"{clusters} clusters of {len(unit)} rows",
            fix=f"clusters: {max(2, len(unit) // 2)} or fewer, or more rows",
        )
    spread = float(np.std(unit, axis=0).max())
    if spread < _FLAT:
        raise MedmclError(
            "every row has the same embedding, so there is nothing to cluster",
            where=where,
            got=f"{len(unit)} rows, the largest spread of a column {spread:.1e}",
            fix="the encoder has collapsed: a lower learning rate, larger batches, other views",
        )
    centres = _faiss(unit, clusters, seed) if backend == "faiss" else _sklearn(unit, clusters, seed)
    return Clusters(centres=centres, labels=nearest_centre(unit, centres))


def nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Give the nearest centre of each row, scaled to unit length; the first of equals. (N,)."""
    unit = unit_rows(vectors)
    half = 0.5 * (centres.astype(np.float32) ** 2).sum(axis=1)
    found = np.zeros(len(unit), dtype=np.int64)
    for first in range(0, len(unit), 65536):
        part = unit[first : first + 65536]
        found[first : first + 65536] = np.argmax(part @ centres.T - half, axis=1)
    return found


def choose_clusters(vectors: np.ndarray, seed: int, candidates: Sequence[int] = CANDIDATES) -> int:
    """Choose K by the mean silhouette on at most 2,000 rows; the smaller of equals.

    Args:
        vectors: (N, D).
        seed: Of the rows looked at, and of the starts.
        candidates: Numbers to choose among; those above a tenth of the rows are left out.

    Source:
        Rousseeuw 1987, J. Comput. Appl. Math. 20. The rule is ours; the authors give K.
    """
    from sklearn.metrics import euclidean_distances, silhouette_score
    from threadpoolctl import threadpool_limits

    unit = unit_rows(vectors)
    if len(unit) > _LOOKED_AT:
        unit = unit[np.random.default_rng(seed).permutation(len(unit))[:_LOOKED_AT]]
    able = [k for k in candidates if 10 * k <= len(unit)] or [min(candidates)]
    scores = {}
    with threadpool_limits(1):
        apart = euclidean_distances(unit.astype(np.float64))  # once, for every K
    np.fill_diagonal(apart, 0.0)
    for k in able:
        labels = kmeans(unit, k, seed).labels
        several = len(np.unique(labels)) > 1
        scores[k] = float(silhouette_score(apart, labels, metric="precomputed")) if several else -1
    return max(able, key=lambda k: (round(scores[k], 6), -k))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale rows to unit length, float32; zeros stay. `MedmclError` if values are not finite."""
    if not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        raise MedmclError("embeddings are not finite", got=f"{bad} of {len(vectors)} rows")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit.astype(np.float32)


def _sklearn(unit: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    fitted = KMeans(
        clusters, n_init=_STARTS, max_iter=_ITERATIONS, tol=_TOLERANCE, random_state=seed % 2**32
    )
    with threadpool_limits(1), warnings.catch_warnings():
        # Fewer distinct rows than clusters: some centres are copies, and get no rows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(unit)
    return np.asarray(fitted.cluster_centers_, dtype=np.float32)


def _faiss(unit: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from threadpoolctl import threadpool_limits

    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "faiss is not installed", fix="pip install 'medmcl[faiss]', or backend: sklearn"
        ) from None
    found = faiss.Kmeans(
        unit.shape[1], clusters, niter=_ITERATIONS, nredo=_STARTS, seed=seed % 2**31,
        max_points_per_centroid=len(unit), min_points_per_centroid=1,
    )  # fmt: skip
    with threadpool_limits(1):
        found.train(np.ascontiguousarray(unit))
    return np.asarray(found.centroids, dtype=np.float32)
