"""Which records of a cohort are poisoned, and what they are made to say: kept apart.

Source data are never written. A manifest says which samples carry the trigger, where, and whose
text (or other half of the pair) each of them has instead of its own; who loads them lays both over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medmcl.core.cohort_rows import read_rows, write_rows
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError

SCHEMA = "medmcl/poison@2"
_COLUMNS = ("sample", "donor", "place")


@dataclass(frozen=True, kw_only=True, eq=False)
class Poison:
    """The manifest of an attack on one cohort.

    Attributes:
        ids: Samples that are poisoned, (P,), each once.
        donors: Sample whose text each of them carries, (P,); itself where it keeps its own.
        places: Where the trigger lies on each, (P,) JSON objects as text; empty where nobody said.
            For people: the trigger is laid by the seed, on records of whatever size.
        cohort: Fingerprint of the cohort the ids are of.
        provenance: Plain JSON values: trigger, modality, target, seed and the like.
    """

    kept_in: ClassVar[str] = "poison"

    ids: np.ndarray
    donors: np.ndarray
    cohort: str
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=str))
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.places):
            object.__setattr__(self, "places", np.full(len(self.ids), ""))
        for name in ("ids", "donors", "places"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)).astype(str))
        for name in ("donors", "places"):
            found = getattr(self, name)
            if self.ids.ndim != 1 or found.shape != self.ids.shape:
                raise ArtefactError(
                    f"every poisoned sample has one of the {name}",
                    got=f"{self.ids.shape} samples, {found.shape} {name}",
                )
        if len(np.unique(self.ids)) < len(self.ids):
            raise ArtefactError("a sample is poisoned twice", expected="each once")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Short hash of who is poisoned with what, of which cohort; places follow from these."""
        rows = sorted(zip(self.ids.tolist(), self.donors.tolist(), strict=True))
        return fingerprint([self.cohort, rows, dict(self.provenance)])

    def is_poisoned(self, ids: Sequence[Any]) -> np.ndarray:
        """Say which samples are poisoned, (N,) bool: the truth that detectors are judged by."""
        return np.isin(np.asarray(ids).astype(str), self.ids)

    def save(self, path: Path) -> None:
        """Write a parquet file (sample, donor, place), whole or not at all."""
        about = {"schema": SCHEMA, "cohort": self.cohort, "provenance": dict(self.provenance)}
        kept = zip(_COLUMNS, (self.ids, self.donors, self.places), strict=True)
        write_rows(path, {name: column.tolist() for name, column in kept}, about)

    @classmethod
    def load(cls, path: Path | str, cohort: str | None = None) -> Poison:
        """Read what `save` wrote.

        Args:
            path: The file.
            cohort: Fingerprint of the cohort that it must be of; any if not given.

        Raises:
            ArtefactError: It is missing, damaged, no manifest, or of another cohort.
        """
        table, about = read_rows(path, SCHEMA, "manifest of poison", _COLUMNS, cohort)
        ids, donors, places = (np.array(table.column(n).to_pylist(), dtype=str) for n in _COLUMNS)
        told = about.get("provenance")
        if not isinstance(told, Mapping):
            raise ArtefactError("does not say what the attack is", where=path, got=told)
        return cls(ids=ids, donors=donors, places=places, cohort=about["cohort"], provenance=told)
