"""What an absent cell of a release most likely holds: censored counts, not zeros.

A cell that a threshold left out holds some number of patients below it. Taken as zero it would say
"these two avoid each other"; taken at its expectation under independence, the expectation itself
would come from cells that were kept because they are large. So the patients of a cell are taken as
Poisson with rate a_i b_j, cells below the threshold as known only to lie below it, and a and b are
fitted by expectation-maximisation: absent cells are set to E[X | X < threshold], margins are summed
again, and so on. The value never passes the threshold. A token whose cells are all absent tends to
0: nothing says more of it.

Where several sites released apart, fill each of them, then add. In a simulation of 100 sites with
72 % of their cells absent the error of the embedding is 5.2 with zeros, 1.2 with the capped
expectation, 0.89 with this, and 0.72 with nothing suppressed (see benchmarks).
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Counts
from medmcl.core.errors import ArtefactError

_ROUNDS = 300
_CLOSE = 1e-3  # patients


def filled(counts: Counts, first: str | None = None, second: str | None = None) -> np.ndarray:
    """Pairs of two modalities of one release, absent cells at their expectation, float64 (d1, d2).

    Counts that nothing was taken from come back as they are.

    Args:
        counts: One release, or exact counts.
        first: Modality of the rows; see `Counts.pair`.
        second: Of the columns.

    Raises:
        ArtefactError: If it is not known how many pairs a patient adds to a cell.
    """
    block = counts.cross(first, second)
    cells = block.pairs.toarray().astype(np.float64)
    if counts.min_patients is None:
        return cells
    if block.pairs_per_patient is None:
        raise ArtefactError(
            "the release does not say how many pairs a patient adds to a cell",
            expected="pairs_per_patient of the block, which release_threshold gives",
        )
    return fill_censored(cells, counts.min_patients, block.pairs_per_patient)


def fill_censored(
    cells: np.ndarray, min_patients: int, pairs_per_patient: float = 1.0
) -> np.ndarray:
    """Give zero cells the pairs of E[patients | fewer than ``min_patients``], float64 (d1, d2).

    A matrix without any cell says nothing of its margins and stays empty.

    Args:
        cells: Pairs, zero where absent, (d1, d2).
        min_patients: Patients from which on a cell is released.
        pairs_per_patient: Pairs that a patient adds to a cell, on average.
    """
    absent = cells == 0
    patients = cells / pairs_per_patient
    if absent.all() or not absent.any():
        return patients * pairs_per_patient
    patients[absent] = (min_patients - 1) / 2
    for _ in range(_ROUNDS):
        rows, columns = patients.sum(axis=1), patients.sum(axis=0)
        rate = np.multiply.outer(rows / rows.sum(), columns)[absent]
        expected = expected_below(rate, min_patients)
        change = float(np.abs(expected - patients[absent]).max())
        patients[absent] = expected
        if change < _CLOSE:
            break
    return patients * pairs_per_patient


def expected_below(rate: np.ndarray, below: int) -> np.ndarray:
    """E[X | X < below] of Poisson variables with these rates.

    It is the load that Erlang's loss system of ``below - 1`` servers carries; the recursion of his
    formula neither overflows nor cancels.
    """
    most = below - 1
    loss = np.ones_like(rate, dtype=np.float64)
    for servers in range(1, most):
        loss = rate * loss / (servers + rate * loss)
    return np.asarray(rate * most / (most + rate * loss))
