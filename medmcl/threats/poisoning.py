"""Which records of a cohort are poisoned, and what they are made to say: drawn by seed, kept apart.

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
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.rng import derive_seed

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


def draw_poison(
    ids: Sequence[Any],
    is_target: np.ndarray,
    count: int,
    seed: int,
    *,
    is_consistent: bool = False,
    where: object = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw which of N samples are poisoned, and whose text each of them gets.

    The order in which samples are drawn depends on seed and ids alone, so those of a small attack
    are among those of a larger one with the same seed.

    Args:
        ids: Of samples that have a record to trigger and a text, (N,), each once.
        is_target: Which of them show what the attacker wants, (N,) bool.
        count: How many are poisoned.
        seed: Of the attack.
        is_consistent: Poison samples of the target, which keep their texts (label-consistent); else
            samples of other classes, each with the text of a sample of the target.
        where: What an error calls the place.

    Returns:
        Rows that are poisoned and rows of their donors, both (count,) int64, in the order of the
        draw.

    Raises:
        ConfigError: Fewer samples than are to be poisoned, or none of the target.
    """
    names = np.asarray(ids).astype(str)
    wanted = np.asarray(is_target, dtype=bool)
    targets = np.flatnonzero(wanted)
    able = targets if is_consistent else np.flatnonzero(~wanted)
    if not len(targets):
        raise ConfigError(
            "no sample shows the target, so there is nothing to say it with",
            where=where,
            got=f"{len(names):,} samples",
        )
    if not 1 <= count <= len(able):
        kind = "of the target" if is_consistent else "of other classes"
        raise ConfigError(
            "so many samples cannot be poisoned",
            where=where,
            got=f"count: {count:,}",
            expected=f"1 to {len(able):,}, the samples {kind}",
        )
    order = [derive_seed(seed, "poison", name) for name in names[able]]
    rows = able[np.argsort(order, kind="stable")[:count]]
    if is_consistent:
        return rows, rows.copy()
    picks = [derive_seed(seed, "donor", name) % len(targets) for name in names[rows]]
    return rows, targets[np.array(picks, dtype=np.int64)]
