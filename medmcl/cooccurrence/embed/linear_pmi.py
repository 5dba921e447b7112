"""The linear PMI of one matrix from its own margins: all that a release gives.

The paper's margins are pairs within a modality; a release has none but the sums of its cells. In
the paper's simulation the two matrices correlate at 0.995 and embed equally well.
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Counts, Pair
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ArtefactError

ABOVE_NOISE = 3.0
"""Margins below this many standard deviations of their noise say nothing."""


def released_pmi(counts: Counts, pair: Pair | None = None) -> np.ndarray:
    """``D D.. / (D row, D column) - 1`` of a release, dense float64 (d1, d2).

    Suppressed cells are taken at what they most likely hold
    (`medmcl.cooccurrence.release.censored`), never
    as zero. Where cells are noisy, tokens whose margins do not stand out of the noise are 0.
    """
    cells = filled(counts, *counts.pair(*(pair or ())))
    return linear_pmi(cells, noise_sd=counts.noise_sd or 0.0)


def linear_pmi(cells: np.ndarray, *, noise_sd: float = 0.0) -> np.ndarray:
    """``cell * total / (row * column) - 1`` from the margins of the cells, (d1, d2).

    Args:
        cells: Pairs of two modalities, (d1, d2).
        noise_sd: Of the noise in a cell; tokens whose margins are within it are 0.

    Raises:
        ArtefactError: If there are no pairs, or none that stand out of the noise.
    """
    rows, columns = cells.sum(axis=1, dtype=np.float64), cells.sum(axis=0, dtype=np.float64)
    total = float(rows.sum())
    if total <= ABOVE_NOISE * noise_sd * np.sqrt(cells.size):
        raise ArtefactError(
            "no tokens met across the modalities, or noise hides that they did",
            got=f"{total:g} pairs, noise of {noise_sd:g} in each of {cells.size} cells",
        )
    row_known, column_known = known_margins(cells, noise_sd)
    by_row = np.divide(total, rows, out=np.zeros_like(rows), where=row_known)
    by_column = np.divide(1.0, columns, out=np.zeros_like(columns), where=column_known)
    pmi = cells * by_row[:, None]
    pmi *= by_column
    pmi -= 1.0
    pmi[~row_known] = 0.0
    pmi[:, ~column_known] = 0.0
    return pmi


def known_margins(cells: np.ndarray, noise_sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens have a margin that stands out of the noise, (d1,) and (d2,)."""
    d1, d2 = cells.shape
    rows, columns = cells.sum(axis=1, dtype=np.float64), cells.sum(axis=0, dtype=np.float64)
    floor = ABOVE_NOISE * noise_sd
    return rows > floor * np.sqrt(d2), columns > floor * np.sqrt(d1)
