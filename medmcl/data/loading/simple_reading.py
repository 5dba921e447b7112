"""What simple features learn from train rows, and how it is applied to any rows, or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.data.loading.term_weights import TermWeights


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
            fix="use the version of medmcl that the run was made with, or --probe refit",
        )
    return [where[name] for name in wanted]
