"""Clip bounds chosen from the patients themselves, and paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.tokens import Table, whole
from medmcl.cooccurrence.release.accounting import (
    add_noise,
    check_budget,
    rho_for,
    rho_of,
    scale_of,
)
from medmcl.cooccurrence.release.clipping import LONGEST, patient_lengths
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.core.errors import ArtefactError


@dataclass(frozen=True)
class PrivateQuantile:
    """A clip bound that is to be chosen from the patients, and paid for.

    Attributes:
        quantile: Of the patients' lengths (L2, rounded up); between 0 and 1.
        longest: Bound of the search, a public constant.
    """

    quantile: float = 0.5
    longest: int = 64

    def __post_init__(self) -> None:
        if not (0 < self.quantile < 1 and 1 <= self.longest <= LONGEST):
            raise ArtefactError(
                "no such quantile or bound",
                got=f"{self.quantile}, {self.longest}",
                expected=f"between 0 and 1, and 1 to {LONGEST}",
            )


def private_clip(
    table: Table,
    *,
    epsilon: float,
    delta: float,
    ledger: Ledger,
    quantile: float = 0.5,
    longest: int = 64,
    patients: Sequence[object] | np.ndarray | None = None,
) -> int:
    """A whole clip bound near a quantile of the patients' lengths, under differential privacy.

    Patients are sorted into the bins (0, 1], (1, 2], ... up to ``longest`` by length (L2, rounded
    up), each into one, so the counts of the bins move by 1 (L2) when a patient comes or goes. The
    bins get discrete Gaussian noise, and the first is taken up to which the noisy bins hold the
    quantile of their sum.

    Args:
        table: Counts of one modality, (n, d), a row a patient or window.
        epsilon: Of this choice; a small part of what the release will cost is enough.
        delta: Of this choice.
        ledger: Charged before noise is drawn.
        quantile: The median unless given.
        longest: Bound of the search, a public constant.
        patients: Whose window each row is.

    Raises:
        ArtefactError: If the budget does not cover it, or the quantile is none.
    """
    check_budget(epsilon, delta)
    asked = PrivateQuantile(quantile, longest)
    counts = whole(table, "table")
    scale = scale_of(1, rho_for(epsilon, delta))
    ledger.charge(f"clip bound, quantile {quantile:g}", rho_of(1, scale))
    return noisy_quantile(counts, asked, scale, patients)


def noisy_quantile(
    table: sparse.csr_array,
    asked: PrivateQuantile,
    scale: float,
    patients: Sequence[object] | np.ndarray | None = None,
) -> int:
    """The bound that `private_clip` gives, for noise of this scale; whoever calls it has paid.

    It costs rho = 1 / (2 scale^2): one patient moves one bin by 1.
    """
    lengths = np.clip(patient_lengths(table, patients), 1, asked.longest)
    bins = np.bincount(lengths, minlength=asked.longest + 1)[1:].astype(np.int64)
    noisy = add_noise(bins, scale)
    reached = np.cumsum(noisy) >= asked.quantile * noisy.sum()
    return int(np.argmax(reached)) + 1 if reached.any() else asked.longest
