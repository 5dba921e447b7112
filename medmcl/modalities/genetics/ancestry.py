"""Components of ancestry: principal components of standardised genotypes, fitted on train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_SEED = 0
_TURNS = 7
"""Power iterations of the randomised SVD."""
_LEFT_OUT = 5
"""One of so many train people is left out to see how far projections shrink."""


@dataclass(frozen=True)
class Ancestry:
    """Components of ancestry and what they explain of each variant.

    Attributes:
        loadings: (V, K) float64; a person's components are x @ loadings, of standard deviation 1
            over train. Zero for variants that were left out by linkage.
        shrinkage: Spread of people who were projected over that of people who were fitted, by
            component; 1 = none. (K,)
        explained: Share of the variance of the variants used, by component. (K,)
        slopes: Regression of each standardised dosage on the components, (K, V).
    """

    loadings: np.ndarray
    shrinkage: np.ndarray
    explained: np.ndarray
    slopes: np.ndarray

    @property
    def count(self) -> int:
        """K."""
        return self.loadings.shape[1]

    @classmethod
    def fit(cls, x: np.ndarray, used: np.ndarray, count: int) -> Ancestry:
        """Fit on train people.

        The sign of a component is that its largest loading is positive. People who took no part
        in the fit come to lie nearer to zero than they are: with more variants than people,
        components fit the people themselves. How much nearer is measured: one fifth of train is
        projected onto components of the other four. It is told, and not corrected.

        Args:
            x: Standardised dosages, 0 where not called. (N, V)
            used: Variants the components are made of. (V,) bool
            count: K, below N and V.
        Source:
            Price et al. 2006, Nat Genet 38:904-909 (the method); Halko et al. 2011, arXiv
            0909.4061 (the SVD); Lee, Zou & Wright 2010, Ann Stat 38:3605-3629 (shrinkage).
            Differs: columns are not centred again after absent calls were set to the mean.
        """
        read = x if used.all() else x[:, used]
        basis, values = _svd(read, count)
        scores = read @ basis
        spread = _spread(scores)
        loadings = np.zeros((x.shape[1], count))
        loadings[used] = basis / spread
        scores = scores / spread
        total = float(np.einsum("nv,nv->", read, read, dtype=np.float64))
        slopes = np.linalg.pinv(scores).astype(x.dtype) @ x
        shrinkage = _shrinkage(read, count)
        return cls(
            loadings, shrinkage, values.astype(np.float64) ** 2 / total, slopes.astype(np.float64)
        )

    def project(self, x: np.ndarray) -> np.ndarray:
        """Give the components of standardised dosages (..., V): (..., K)."""
        return np.asarray(x @ self.loadings, dtype=np.float64)

    def residual(self, x: np.ndarray) -> np.ndarray:
        """Give standardised dosages (..., V) without what the components explain of them."""
        return np.asarray(x - self.project(x) @ self.slopes)

    def state(self) -> dict[str, Any]:
        """As plain lists."""
        return {
            "loadings": self.loadings.tolist(),
            "shrinkage": self.shrinkage.tolist(),
            "explained": self.explained.tolist(),
            "slopes": self.slopes.tolist(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Ancestry:
        """Take back what `state` gave."""
        parts = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
        return cls(**parts)


def _svd(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Right singular vectors (V, K) with a fixed sign, and singular values (K,)."""
    from sklearn.utils.extmath import randomized_svd

    _, values, rows = randomized_svd(x, n_components=count, n_iter=_TURNS, random_state=_SEED)
    largest = rows[np.arange(count), np.abs(rows).argmax(axis=1)]
    return (rows * np.where(largest < 0, -1.0, 1.0)[:, None]).T, values


def _shrinkage(x: np.ndarray, count: int) -> np.ndarray:
    people = np.random.default_rng(_SEED).permutation(len(x))
    out = people[: len(x) // _LEFT_OUT]
    kept = people[len(out) :]
    if len(out) < 2 or len(kept) <= count:
        return np.ones(count)
    basis, _ = _svd(x[kept], count)
    return _spread(x[out] @ basis) / _spread(x[kept] @ basis)


def _spread(scores: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(np.square(scores).mean(axis=0))
    return np.where(deviation > 0, deviation, 1.0)
