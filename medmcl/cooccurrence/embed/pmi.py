"""CLAIME's association matrix: how much oftener two tokens meet in a patient than across patients.

Source: Cai, Huang, Nakada, Zhang, Zhou, arXiv 2403.14926, Proposition 2.1. With D the pairs across
modalities, s tokens, g pairs within a modality (self-pairs left out) and dots for sums,

    PMI(w, w') = g1. g2. / (g1_w g2_w') * [D(w, w') / D.. - (s1_w s2_w' - D(w, w')) / Z],

Z = s1. s2. - D.. being the token pairs of different patients. It is linear: near p(w, w') / (p(w)
p(w')) - 1, not its logarithm, so a pair that never met is no infinity. Higher = more alike.

A release gives the linear PMI of one matrix from its own margins only (`linear_pmi`). The paper's
margins are pairs within a modality; a release has none but the sums of its cells. In the paper's
simulation the two matrices correlate at 0.995 and embed equally well.

Logarithmic PMI and its kin are choices of other papers, none of them CLAIME's. `log_pmi` takes the
logarithm of pairs over expected pairs, both from the margins of one matrix, as word embeddings do
(Levy and Goldberg, NeurIPS 2014; Levy, Goldberg and Dagan, TACL 2015). A cell without pairs has no
logarithm: it is taken at half a pair, and never above independence.

`ASSOCIATIONS` has them by name; each says how it differs from CLAIME's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Counts, Pair, exact_sum
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ArtefactError, ConfigError

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


CELLS = 1 << 20
"""Cells that are written at a time."""


def claime_pmi(counts: Counts, pair: Pair | None = None) -> np.ndarray:
    """CLAIME's matrix of one pair of modalities, dense float64 (d1, d2).

    A token that never pairs within its modality has no PMI; its row or column is 0 (independence).
    `unpaired_tokens` says which they are. A release, whose cells are suppressed or noisy, has no
    margins but its own: see `medmcl.cooccurrence.embed.pmi.released_pmi`.

    Args:
        counts: Pooled over the sites, exact or released.
        pair: Names of two modalities; the only pair if not given.

    Raises:
        ArtefactError: If no tokens met across modalities, or all of them lie in one patient.
    """
    if counts.is_released:
        return released_pmi(counts, pair)
    first, second = counts.pair(*(pair or ()))
    block = counts.blocks[first, second]
    one, two = counts.margins[first], counts.margins[second]
    pairs = exact_sum(block.pairs.data)
    apart = exact_sum(one.tokens) * exact_sum(two.tokens) - pairs
    if pairs == 0 or apart <= 0:
        raise ArtefactError(
            "no tokens met across the modalities" if pairs == 0 else "all tokens lie in one unit",
            where=f"{first} x {second}",
            got=f"{counts.units} units, {pairs} pairs",
            expected="several patients, some of them with tokens of both modalities",
        )
    row, column = _shares(one.pairs), _shares(two.pairs)
    met = (apart + pairs) / (apart * pairs)  # 1 / D.. + 1 / Z of Python's exact integers
    strangers = -(1 / apart) * (row * one.tokens)
    matrix = np.empty(block.pairs.shape)
    step = max(1, CELLS // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), step):  # little more than the matrix in memory
        rows = slice(start, start + step)
        np.multiply.outer(strangers[rows], column * two.tokens, out=matrix[rows])
        cells = block.pairs[rows].toarray().astype(np.float64)
        cells *= (met * row[rows])[:, None]
        cells *= column
        matrix[rows] += cells
    return matrix


def unpaired_tokens(counts: Counts, pair: Pair | None = None) -> dict[str, tuple[str, ...]]:
    """Tokens of each modality that `claime_pmi` gives zeros, because their margin is unknown.

    Such a token never occurs, or is always the only one of its modality in a patient. Of a release:
    all its cells are suppressed, or its margin does not stand out of the noise.
    """
    names = counts.pair(*(pair or ()))
    if counts.is_released:
        known = known_margins(filled(counts, *names), counts.noise_sd or 0.0)
    else:
        known = counts.margins[names[0]].pairs > 0, counts.margins[names[1]].pairs > 0
    return {
        name: tuple(counts.vocabularies[name].tokens[i] for i in np.flatnonzero(~there))
        for name, there in zip(names, known, strict=True)
    }


def _shares(margin: np.ndarray) -> np.ndarray:
    """Total over each value; 0 where the value is 0."""
    total = float(exact_sum(margin))
    return np.divide(total, margin, out=np.zeros(len(margin)), where=margin > 0)


@dataclass(frozen=True)
class Association:
    """From counts to a matrix, higher = more alike, and how it differs from the paper."""

    matrix: Callable[[Counts, Pair], np.ndarray]
    differs: str


def _logarithm(**settings: Any) -> Callable[[Counts, Pair], np.ndarray]:
    """Log PMI of cells in which suppressed ones stand at what they most likely hold."""
    return lambda counts, pair: log_pmi(np.maximum(filled(counts, *pair), 0.0), **settings)


_OWN = "margins of the cross block instead of within pairs"
ASSOCIATIONS: dict[str, Association] = {
    "claime": Association(claime_pmi, ""),
    "own_margins": Association(released_pmi, _OWN),
    "log": Association(
        _logarithm(), f"logarithm of the ratio instead of the ratio minus one, {_OWN}"
    ),
    "positive": Association(
        _logarithm(positive=True), f"logarithm, negative values set to 0 (PPMI), {_OWN}"
    ),
    "shifted": Association(
        _logarithm(positive=True, shift=5.0), f"positive logarithm less log 5 (SPPMI), {_OWN}"
    ),
    "smoothed": Association(
        _logarithm(positive=True, smoothing=0.75),
        f"PPMI, column margins to the power 0.75, {_OWN}",
    ),
}
