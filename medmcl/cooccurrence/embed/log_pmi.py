"""Logarithmic PMI and its kin: choices of other papers, none of them CLAIME's.

CLAIME is linear (see `medmcl.cooccurrence.embed.pmi`). These take the logarithm of pairs over
expected
pairs, both from the margins of one matrix, as word embeddings do (Levy and Goldberg, NeurIPS 2014;
Levy, Goldberg and Dagan, TACL 2015). A cell without pairs has no logarithm: it is taken at half a
pair, and never above independence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from medmcl.core.errors import ConfigError

_HALF_A_PAIR = 0.5


def log_pmi(
    cells: Any, *, positive: bool = False, shift: float = 1.0, smoothing: float = 1.0
) -> np.ndarray:
    """Natural logarithm of pairs over expected pairs, (d1, d2).

    Args:
        cells: Pairs, array or scipy sparse, (d1, d2). Empty rows and columns give 0.
        positive: Values below 0 become 0 (PPMI).
        shift: Subtract ``log(shift)`` first, as skip-gram with that many negative samples does.
        smoothing: Power of the column margin: 0.75 makes rare contexts less surprising.

    Raises:
        ConfigError: If ``shift`` is below 1 or ``smoothing`` lies outside (0, 1].
    """
    if shift < 1 or not 0 < smoothing <= 1:
        raise ConfigError(
            "cannot shift or smooth so",
            got=f"shift {shift:g}, smoothing {smoothing:g}",
            expected="shift of 1 or more, smoothing above 0 and at most 1",
        )
    pairs = cells.toarray() if sparse.issparse(cells) else np.asarray(cells)
    pairs = pairs.astype(np.float64)
    rows = pairs.sum(axis=1)
    columns = pairs.sum(axis=0) ** smoothing
    met = pairs > 0
    expected = np.multiply.outer(rows, columns / max(columns.sum(), 1e-300))
    pmi = np.log(np.where(met, pairs, _HALF_A_PAIR))
    pmi -= np.log(expected, out=np.zeros_like(expected), where=expected > 0)
    np.minimum(pmi, 0.0, out=pmi, where=~met)
    pmi -= np.log(shift)
    pmi[rows == 0] = 0.0
    pmi[:, columns == 0] = 0.0
    return np.maximum(pmi, 0.0, out=pmi) if positive else pmi
