"""What simple features learn from train rows, and how it is applied to any rows, or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError
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
        directions: (at most 256, V) float32; None = features are the terms themselves.
    """

    terms: tuple[str, ...]
    weights: np.ndarray
    directions: np.ndarray | None

    @classmethod
    def learn(cls, counts: Any, terms: tuple[str, ...], train: np.ndarray) -> TermWeights:
        """Weigh terms by TF-IDF and take the main directions, all learned on train rows.

        A term weighs ``(1 + log count) * (1 + log((1 + n) / (1 + records)))``; rows have length 1.
        More than 256 terms are turned into 256 directions of a truncated singular value
        decomposition, or as many as the train rows lie in.

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


_OF_ROUNDING = 1e-5
"""Share of the largest singular value below which a direction is not of the train rows: they lie in
fewer, and of somebody else it would be a number millions of deviations away."""


def _directions(weighed: Any) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD

    count = max(1, min(DIMENSIONS, weighed.shape[0] - 1))
    state = derive_seed(0, "term directions") % 2**32  # a start for power iterations, no chance
    svd = TruncatedSVD(count, n_iter=4, random_state=state).fit(weighed)
    told = svd.singular_values_ > _OF_ROUNDING * svd.singular_values_[0]
    return np.asarray(svd.components_[told], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class FilledNumbers:
    """Numbers that some train row has, the train mean where one cannot be told, and flags of gaps.

    Attributes:
        names: Numbers that are kept, in order.
        means: Their means over the train rows that have them.
        flagged: Those of ``names`` whose gaps have a flag: one for each pattern of gaps.
    """

    names: tuple[str, ...]
    means: np.ndarray
    flagged: tuple[str, ...]

    @classmethod
    def learn(
        cls, values: np.ndarray, names: tuple[str, ...], present: np.ndarray, rows: np.ndarray
    ) -> FilledNumbers:
        """Learn from ``rows`` (indices) of values (N, F), NaN where a number cannot be told."""
        told = ~np.isnan(values[rows])
        count = told.sum(axis=0)
        kept = np.flatnonzero(count > 0)
        means = np.where(told, values[rows], 0.0)[:, kept].sum(axis=0) / count[kept]
        gaps = ~told[:, kept] & present[rows, None]
        some = np.flatnonzero(gaps.any(axis=0))
        _, first = np.unique(gaps[:, some], axis=1, return_index=True)
        return cls(
            names=tuple(names[column] for column in kept),
            means=means,
            flagged=tuple(names[kept[some[column]]] for column in np.sort(first)),
        )

    def apply(self, values: np.ndarray, names: tuple[str, ...], present: np.ndarray) -> np.ndarray:
        """Give finite features, (N, kept + flagged); absent rows get the means."""
        part = values[:, _places(names, self.names)]
        gaps = np.isnan(values[:, _places(names, self.flagged)]) & present[:, None]
        return np.concatenate([np.where(np.isnan(part), self.means, part), gaps], axis=1)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features."""
        return (*self.names, *(f"no {name}" for name in self.flagged))


@dataclass(frozen=True, kw_only=True)
class SimpleReading:
    """What the simple features of a modality learned from train rows.

    Attributes:
        modality: Name of the modality.
        learned: For numbers, or for terms.
    """

    modality: str
    learned: FilledNumbers | TermWeights

    def apply(self, values: Any, names: tuple[str, ...], present: np.ndarray) -> np.ndarray:
        """Give finite features (N, F) of numbers (N, K), or of sparse counts of terms.

        Raises:
            ArtefactError: These are features of another kind, or lack a number.
        """
        if isinstance(self.learned, TermWeights) == isinstance(values, np.ndarray):
            raise ArtefactError(
                f"the simple features of '{self.modality}' are of another kind than those kept"
            )
        if isinstance(self.learned, TermWeights):
            return self.learned.apply(values, names)
        return self.learned.apply(values, names, present)

    def about(self) -> dict[str, Any]:
        """All that is text, as JSON takes it."""
        if isinstance(self.learned, TermWeights):
            return {"modality": self.modality, "kind": "terms", "names": list(self.learned.terms)}
        names, flagged = list(self.learned.names), list(self.learned.flagged)
        return {"modality": self.modality, "kind": "numbers", "names": names, "flagged": flagged}

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        if not isinstance(self.learned, TermWeights):
            return {"means": self.learned.means}
        arrays = {"weights": self.learned.weights}
        if self.learned.directions is not None:
            arrays["directions"] = np.ascontiguousarray(self.learned.directions)
        return arrays

    @classmethod
    def of(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> SimpleReading:
        """Read back what `about` and `arrays` gave.

        Raises:
            ValueError: They do not fit together.
        """
        names = tuple(map(str, about["names"]))
        learned: FilledNumbers | TermWeights
        if about["kind"] == "terms":
            learned = TermWeights(names, arrays["weights"], arrays.get("directions"))
            fit = learned.directions is None or learned.directions.shape[1] == len(names)
            lengths = {len(names), len(learned.weights)}
        else:
            flagged = tuple(map(str, about["flagged"]))
            learned = FilledNumbers(names=names, means=arrays["means"], flagged=flagged)
            fit, lengths = set(flagged) <= set(names), {len(names), len(learned.means)}
        if not fit or len(lengths) != 1:
            raise ValueError("names and arrays of simple features do not fit together")
        return cls(modality=str(about["modality"]), learned=learned)


def _places(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    where = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in where]
    if missing:
        raise ArtefactError(
            "simple features lack numbers that were learned from",
            got=f"without {', '.join(missing[:4])}",
            expected=f"{len(wanted)} numbers by name",
            fix="use the version of medmcl that the run was made with, or evaluate --probe refit",
        )
    return [where[name] for name in wanted]
