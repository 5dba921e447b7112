"""Taking entries out of a cohort at random, to study how a method fares with fewer of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medmcl.core.config import lookup
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_warning
from medmcl.core.rng import derive_seed
from medmcl.data.cohort.spec import RemoveKeys


@dataclass(frozen=True)
class Removal:
    """Which entries go: an entry is all that a subject has of one modality.

    Attributes:
        gone: Subject to the modalities that are removed.
        entries: Entries there were, of the modalities that are thinned.
        removed: How many go.
    """

    gone: Mapping[str, frozenset[str]]
    entries: int
    removed: int

    def finding(self, keys: RemoveKeys) -> Finding:
        """Say what was done."""
        return cohort_warning(
            "cohort.removed",
            "remove",
            f"{self.removed:,} of {self.entries:,} entries (what a subject has of a modality) "
            f"removed at random: {self.removed / max(1, self.entries):.1%}, asked for "
            f"{keys.share:.0%}, seed {keys.seed}",
            "nothing, if that is meant; otherwise take `remove:` out",
        )


def draw_removal(keys: RemoveKeys, samples: pd.DataFrame, modalities: list[str]) -> Removal:
    """Draw which entries go, completely at random; every subject keeps at least one.

    An entry goes where a number drawn for its subject and modality lies below a level; a subject
    who would lose all keeps the one with the highest. The level is such that the share is met on
    average, those kept for being the last included. A draw depends on seed, subject and modality
    alone, and what goes at a share also goes at any higher one.

    Args:
        keys: What is asked for.
        samples: One row a sample: ``subject``, and the record of each modality.
        modalities: Modalities of the cohort.

    Raises:
        CohortError: A modality it does not have, or a share that would leave somebody nothing.
    """
    names = list(keys.modalities or modalities)
    for name in names:
        lookup("modality", name, modalities)
    has = samples[names].notna().groupby(samples["subject"], sort=False).any()
    present, people = has.to_numpy(bool), np.array(has.index, dtype=object)
    counts = present.sum(axis=1)
    counts = counts[counts > 0]
    level = _level(keys.share, counts, names)
    draws = np.array(
        [[derive_seed(keys.seed, "remove", name, str(one)) for name in names] for one in people],
        dtype=np.float64,
    ).reshape(present.shape) / float(1 << 63)
    goes = present & (draws < level)
    bare = present.any(axis=1) & (goes.sum(axis=1) == present.sum(axis=1))
    last = np.where(present, draws, -1.0).argmax(axis=1)
    goes[bare, last[bare]] = False
    gone = {
        str(one): frozenset(name for name, out in zip(names, row, strict=True) if out)
        for one, row in zip(people, goes, strict=True)
        if row.any()
    }
    return Removal(gone, int(present.sum()), int(goes.sum()))


def _level(share: float, counts: np.ndarray, names: list[str]) -> float:
    """Level p with sum(k p - p^k) = share sum(k) over subjects with k entries, by bisection."""
    total = int(counts.sum())
    most = float((counts - 1).sum()) / max(1, total)
    if share > most:
        raise CohortError(
            "so many entries cannot be removed: every subject keeps at least one",
            where="remove.share",
            got=f"{share:g} of the entries of {', '.join(names)}",
            expected=f"at most {most:.3f}",
            fix="ask for a smaller share",
        )
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        lost = float((counts * middle - middle ** counts.astype(np.float64)).sum()) / max(1, total)
        low, high = (middle, high) if lost < share else (low, middle)
    return high if share > 0 else 0.0


def thin(frame: pd.DataFrame, removal: Removal, modalities: list[str]) -> pd.DataFrame:
    """Give samples without the records that are removed; those left without any stay, empty."""
    thinned = frame.copy()
    for name in modalities:
        out = frame["subject"].map(lambda one, n=name: n in removal.gone.get(str(one), ()))
        thinned[name] = frame[name].where(~out.to_numpy(bool), None)
    return thinned


def kept_records(records: pd.DataFrame, removal: Removal, name: str) -> pd.DataFrame:
    """Give the records of a modality that are not removed."""
    out = [name in removal.gone.get(str(one), ()) for one in records["subject"]]
    return records[~np.array(out, dtype=bool)]
