"""How much one patient may count, by a rule in whole numbers.

A patient adds X1' X2 to the cells, a matrix of Frobenius length at most |X1| |X2|. If no patient's
counts of a modality are longer (L2, over all windows together) than a public bound B, the cells
move by B1 B2 at most when a patient comes or goes. A bound may also be chosen from the patients
themselves, and paid for (`PrivateQuantile`). Counts are taken in units of 1 / resolution, so
that shortening them loses little to whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.release.accounting import add_noise
from medmcl.core.errors import ArtefactError

MOST = 1 << 12
"""No token counts oftener than this in one window; keeps every product inside int64."""
LONGEST = 1 << 16


def clip_rows(
    table: sparse.csr_array,
    bound: int,
    resolution: int,
    patients: Sequence[object] | np.ndarray | None = None,
) -> sparse.csr_array:
    """Counts in units of 1 / resolution, shortened so that no patient is longer than ``bound``.

    With n the squared length of a patient and r the smallest whole number that is at least
    resolution * sqrt(n), a count x becomes floor(x * resolution * (resolution * bound) / r), which
    is never more than x * resolution * bound / sqrt(n). A patient within the bound keeps
    x * resolution. What happens to one patient depends on no other.

    Args:
        table: Counts, (n, d), a row a patient or window; what is no count above 0 is 0.
        bound: Longest that a patient's counts may be, a constant fixed in public.
        resolution: Units to a token.
        patients: Whose window each row is, (n,); every row its own patient if not given.

    Returns:
        int64 (n, d); the length of a patient is at most resolution * bound.
    """
    check_bound(bound, resolution)
    limited = table.copy()
    short = _limited(table.data) * resolution
    length = patient_lengths(table, patients, resolution)[_owners(table, patients)]
    most = resolution * bound
    limited.data = np.where(length > most, short * most // np.maximum(length, 1), short)
    limited.eliminate_zeros()
    return limited


def check_bound(bound: int, resolution: int) -> None:
    """Refuse what is no bound, or no resolution."""
    if not (1 <= bound <= LONGEST and 1 <= resolution <= 256):
        raise ArtefactError(
            "clipping needs whole bounds",
            got=f"bound {bound}, resolution {resolution}",
            expected=f"1 to {LONGEST}, 1 to 256",
        )


def patient_lengths(
    table: sparse.csr_array,
    patients: Sequence[object] | np.ndarray | None = None,
    resolution: int = 1,
) -> np.ndarray:
    """Length (L2) of each patient's counts in units of 1 / resolution, rounded up, int64.

    Patients who have no token at all are there too if they have a row.
    """
    rows = table.shape[0]
    people = rows if patients is None else len(np.unique(np.asarray(patients)))
    squared = np.zeros(people, dtype=np.int64)
    values = _limited(table.data) * resolution
    np.add.at(squared, _owners(table, patients), values**2)
    return _ceil_sqrt(squared)


def _limited(values: np.ndarray) -> np.ndarray:
    """Values from 0 to `MOST`, int64, whatever type they came in: the bound must hold for all."""
    over, none = values > MOST, ~(values > 0)
    limited = np.where(over | none, 0, values).astype(np.int64)
    limited[over] = MOST
    return limited


def _owners(table: sparse.csr_array, patients: Sequence[object] | np.ndarray | None) -> np.ndarray:
    """Number of the patient of each stored value."""
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    if patients is None:
        return rows
    return np.asarray(np.unique(np.asarray(patients), return_inverse=True)[1][rows])


def _ceil_sqrt(values: np.ndarray) -> np.ndarray:
    """Smallest whole number whose square is at least each value; exact, unlike float roots."""
    root = np.floor(np.sqrt(values.astype(np.float64))).astype(np.int64)
    root -= root * root > values
    root += root * root < values
    assert (root * root >= values).all()
    return root


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


def noisy_quantile(
    table: sparse.csr_array,
    asked: PrivateQuantile,
    scale: float,
    patients: Sequence[object] | np.ndarray | None = None,
) -> int:
    """A whole bound near a quantile of the patients' lengths, for noise of this scale.

    Patients are sorted into the bins (0, 1], (1, 2], ... up to ``longest`` by length (L2, rounded
    up), each into one, so the counts of the bins move by 1 (L2) when a patient comes or goes. The
    bins get discrete Gaussian noise, and the first is taken up to which the noisy bins hold the
    quantile of their sum. It costs rho = 1 / (2 scale^2); whoever calls it has paid.
    """
    lengths = np.clip(patient_lengths(table, patients), 1, asked.longest)
    bins = np.bincount(lengths, minlength=asked.longest + 1)[1:].astype(np.int64)
    noisy = add_noise(bins, scale)
    reached = np.cumsum(noisy) >= asked.quantile * noisy.sum()
    return int(np.argmax(reached)) + 1 if reached.any() else asked.longest
