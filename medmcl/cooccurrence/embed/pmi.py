"""CLAIME's association matrix: how much oftener two tokens meet in a patient than across patients.

Source: Cai, Huang, Nakada, Zhang, Zhou, arXiv 2403.14926, Proposition 2.1. With D the pairs across
modalities, s tokens, g pairs within a modality (self-pairs left out) and dots for sums,

    PMI(w, w') = g1. g2. / (g1_w g2_w') * [D(w, w') / D.. - (s1_w s2_w' - D(w, w')) / Z],

Z = s1. s2. - D.. being the token pairs of different patients. It is linear: near p(w, w') / (p(w)
p(w')) - 1, not its logarithm, so a pair that never met is no infinity. Higher = more alike.
"""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Counts, Pair, exact_sum
from medmcl.cooccurrence.embed.linear_pmi import known_margins, released_pmi
from medmcl.cooccurrence.release.censored import filled
from medmcl.core.errors import ArtefactError

CELLS = 1 << 20
"""Cells that are written at a time."""


def claime_pmi(counts: Counts, pair: Pair | None = None) -> np.ndarray:
    """CLAIME's matrix of one pair of modalities, dense float64 (d1, d2).

    A token that never pairs within its modality has no PMI; its row or column is 0 (independence).
    `unpaired_tokens` says which they are. A release, whose cells are suppressed or noisy, has no
    margins but its own: see `medmcl.cooccurrence.embed.linear_pmi.released_pmi`.

    Args:
        counts: Pooled over the sites, exact or released.
        pair: Names of two modalities; the only pair if not given.

    Raises:
        ArtefactError: If no tokens met across modalities, or all of them lie in one patient.
    """
    if is_released(counts):
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


def is_released(counts: Counts) -> bool:
    """Whether cells were suppressed or made noisy."""
    return counts.min_patients is not None or counts.noise_sd is not None


def unpaired_tokens(counts: Counts, pair: Pair | None = None) -> dict[str, tuple[str, ...]]:
    """Tokens of each modality that `claime_pmi` gives zeros, because their margin is unknown.

    Such a token never occurs, or is always the only one of its modality in a patient. Of a release:
    all its cells are suppressed, or its margin does not stand out of the noise.
    """
    names = counts.pair(*(pair or ()))
    if is_released(counts):
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
