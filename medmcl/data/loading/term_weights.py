"""Counts of terms to features: TF-IDF learned on train rows, in few dimensions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.rng import derive_seed

MAX_TERMS = 20_000
"""Terms kept, by the number of train records that have them."""
LEAST_RECORDS = 2
"""A term in fewer train records is not kept."""
DIMENSIONS = 256
"""Width of the answer: that of a common embedding."""


@dataclass(frozen=True)
class TermWeights:
    """How much each term weighs, and the main directions of weighted terms.

    Attributes:
        terms: Terms that are kept. (V,)
        weights: Of each, by how rare it is. (V,)
        directions: (256, V) float32; None = features are the terms themselves.
    """

    terms: tuple[str, ...]
    weights: np.ndarray
    directions: np.ndarray | None

    @classmethod
    def learn(cls, counts: Any, terms: tuple[str, ...], train: np.ndarray) -> TermWeights:
        """Weigh terms by TF-IDF and take the main directions, all learned on train rows.

        A term weighs ``(1 + log count) * (1 + log((1 + n) / (1 + records)))``; rows have length 1.
        More than 256 terms are turned into 256 directions of a truncated singular value
        decomposition.

        Args:
            counts: Sparse, (N, V).
            terms: Their names.
            train: Rows to learn from (indices).

        Source:
            Salton & Buckley 1988, Inf Process Manag 24:513; Deerwester et al. 1990, J Am Soc Inf
            Sci 41:391 (latent semantic analysis). Differs: smooth IDF, as in scikit-learn.
        """
        from scipy.sparse import csr_matrix

        counts = csr_matrix(counts, dtype=np.float64)[train]
        seen = np.asarray((counts > 0).sum(axis=0)).ravel()
        order = np.lexsort((np.arange(len(seen)), -seen))[:MAX_TERMS]
        kept = np.sort(order[seen[order] >= min(LEAST_RECORDS, len(train))])
        weights = 1 + np.log((1 + len(train)) / (1 + seen[kept]))
        found = cls(tuple(terms[term] for term in kept), weights, None)
        if len(kept) <= DIMENSIONS:
            return found
        return replace(found, directions=_directions(found._weighed(counts, terms)))

    def apply(self, counts: Any, terms: tuple[str, ...]) -> np.ndarray:
        """Give features of counts (N, V') of any terms, (N, F); zeros where none is known."""
        from scipy.sparse import csr_matrix

        if not self.terms:
            return np.zeros((counts.shape[0], 1))
        weighed = self._weighed(csr_matrix(counts, dtype=np.float64), terms)
        if self.directions is None:
            return np.asarray(weighed.toarray())
        return np.asarray(weighed @ self.directions.T.astype(np.float64))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.directions is not None:
            return tuple(f"direction {number}" for number in range(len(self.directions)))
        return self.terms or ("no common term",)

    def _weighed(self, counts: Any, terms: tuple[str, ...]) -> Any:
        """Rows of length 1 over the kept terms, sparse (N, V)."""
        from scipy.sparse import csr_matrix, diags

        where = {term: place for place, term in enumerate(terms)}
        pairs = [(where[term], k) for k, term in enumerate(self.terms) if term in where]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        pick = csr_matrix(
            (np.ones(len(pairs)), (rows, columns)), shape=(len(terms), len(self.terms))
        )
        weighed = csr_matrix(counts @ pick)
        weighed.data = 1 + np.log(weighed.data)
        weighed = weighed @ diags(self.weights)
        length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(axis=1)).ravel())
        return csr_matrix(diags(1 / np.where(length > 0, length, 1.0)) @ weighed)


def _directions(weighed: Any) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD

    count = max(1, min(DIMENSIONS, weighed.shape[0] - 1))
    state = derive_seed(0, "term directions") % 2**32  # a start for power iterations, no chance
    svd = TruncatedSVD(count, n_iter=4, random_state=state).fit(weighed)
    return np.asarray(svd.components_, dtype=np.float32)
