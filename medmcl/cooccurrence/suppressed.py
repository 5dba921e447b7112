"""Cells that a release left out, taken at what independence would give, never as zero.

A released table has no cell with fewer patients than its threshold: an absent cell means 0 or a
few. Read as zero it would say "these two avoid each other", and the more sites, the more such cells
(50 sites, 4 % of cells absent: the error of the embedding rises by 30 %; 100 sites: sevenfold).
Instead the absent cells get their expected value under independence, but no more than the
threshold allows, and the margins, which a release has from its own cells only, are computed again
with them until they agree (quasi-independence, fitted by alternation).

Where several sites released apart, fill each site first, then add: ``sum(filled(s, 11) for s in
sites)``. A cell that one site suppressed and another released would else count too little.
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.counts import Block, Counts, Pair
from medmcl.core.errors import ArtefactError

_ROUNDS = 200
_CLOSE = 1e-9


def filled(
    counts: Counts,
    threshold: int,
    pair: Pair | None = None,
    *,
    pairs_per_patient: float | None = None,
) -> np.ndarray:
    """Pairs of two modalities with absent cells at their capped expectation, float64 (d1, d2).

    Args:
        counts: One release.
        threshold: Cells with fewer patients were suppressed.
        pair: Names of two modalities; the only pair if not given.
        pairs_per_patient: Token pairs that a patient adds to a cell, which turns the threshold on
            patients into one on pairs; the mean of the released cells if not given.

    Raises:
        ArtefactError: If a cell has fewer patients than the threshold, or if patients were not
            counted and ``pairs_per_patient`` is not given.
    """
    block = counts.cross(*(pair or ()))
    if pairs_per_patient is None:
        pairs_per_patient = _pairs_per_patient(block, threshold)
    return fill_absent(block.pairs.toarray(), (threshold - 1) * pairs_per_patient)


def fill_absent(pairs: np.ndarray, cap: float) -> np.ndarray:
    """Give zero cells ``min(row * column / total, cap)``, margins including what is given.

    Args:
        pairs: Counts, (d1, d2).
        cap: The most that an absent cell can hold.
    """
    absent = pairs == 0
    cells = pairs.astype(np.float64)
    for _ in range(_ROUNDS):
        rows, columns, total = _margins(cells)
        if total == 0:
            break
        expected = np.minimum(np.multiply.outer(rows / total, columns), cap)
        change = np.abs(expected[absent] - cells[absent]).max(initial=0.0)
        cells[absent] = expected[absent]
        if change <= _CLOSE * max(cap, 1.0):
            break
    return cells


def linear_pmi(cells: np.ndarray) -> np.ndarray:
    """``cell * total / (row * column) - 1`` from the margins of the cells alone, (d1, d2).

    Differs from the paper, whose margins are pairs within a modality; the two correlate at 0.995 in
    its simulation. It needs one matrix and nothing else. Empty rows and columns are 0.

    Args:
        cells: Pairs of two modalities, not negative, (d1, d2).
    """
    rows, columns, total = _margins(cells)
    if total == 0:
        raise ArtefactError("no tokens met across the modalities", got="0 pairs")
    by_row = np.divide(total, rows, out=np.zeros(len(rows)), where=rows > 0)
    by_column = np.divide(1.0, columns, out=np.zeros(len(columns)), where=columns > 0)
    pmi = cells * by_row[:, None]
    pmi *= by_column
    pmi -= 1.0
    pmi[rows == 0] = 0.0
    pmi[:, columns == 0] = 0.0
    return pmi


def _margins(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    rows = cells.sum(axis=1, dtype=np.float64)
    return rows, cells.sum(axis=0, dtype=np.float64), float(rows.sum())


def _pairs_per_patient(block: Block, threshold: int) -> float:
    if block.patients is None:
        raise ArtefactError(
            "patients of the cells were not counted",
            expected="patients beside pairs, to turn the threshold into pairs",
            mend="count patients too, or say pairs_per_patient",
        )
    patients = block.patients.data[block.patients.data > 0]
    if len(patients) == 0:
        raise ArtefactError("no cell was released", got=f"threshold {threshold}")
    if patients.min() < threshold:
        raise ArtefactError(
            "a cell has fewer patients than the threshold that suppressed it",
            got=f"{patients.min()} patients",
            expected=f"{threshold} or more",
            mend="these counts were suppressed at another threshold, or not at all",
        )
    return float(block.pairs.data.sum(dtype=np.float64) / patients.sum(dtype=np.float64))
