"""Mixed-up chest leads: how much better each other naming of V1 to V6 fits than the given one.

Limb leads obey identities; chest leads only resemble those of other hearts. What a lead looks like
(R, S, T, steepness) and how alike two leads are, as such and given the others, is weighted
so that the true naming scores highest: a conditional logit over namings, whose score differences
are log-odds.

Source: McFadden 1974, conditional logit; weights fitted by ``benchmarks/ecg/ecg_chest_leads.py`` on
folds 1 to 8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np

from medmcl.modalities.ecg.checks.shapes import LEADS, MEASURES, Shapes, learned

RIDGE = 0.02
"""Added to variances before partial correlations, so that copies of a lead have some."""
LIKELY = 20.0
"""Least score of a naming that is believed, whatever the others score: about the 2nd percentile of
PTB-XL (folds 1 to 8: 21.0, folds 9 and 10: 19.9)."""
ALIKE = 0.95
"""Chest leads whose QRS complexes all correlate so have no order (PTB-XL: at most 0.92)."""


@cache
def namings() -> tuple[np.ndarray, tuple[str, ...]]:
    """Other namings that are weighed: rows in the order of `LEADS`, (K, 8), and their words.

    The first row is the naming as it is, then come the 15 exchanges of two chest leads, then the
    whole chest backwards and moved on by one either way.
    """
    usual = list(range(len(LEADS)))
    orders, words = [usual], ["nothing"]
    for i, j in combinations(usual[2:], 2):
        orders.append(usual.copy())
        orders[-1][i], orders[-1][j] = j, i
        words.append(f"{LEADS[i]} and {LEADS[j]} are swapped")
    orders += [[0, 1, 7, 6, 5, 4, 3, 2], [0, 1, 3, 4, 5, 6, 7, 2], [0, 1, 7, 2, 3, 4, 5, 6]]
    words.append("V1 to V6 are named backwards")
    words += ["what is called V1 is V6, V2 is V1, and so on", "what is called V6 is V1, and so on"]
    return np.array(orders), tuple(words)


EXCHANGES = 15
"""So many of the namings are exchanges of two leads."""


def log_odds(shapes: Shapes) -> np.ndarray | None:
    """Weigh the other namings against the one that is given.

    Returns:
        Log-odds of each of `namings`, (K,); the first is 0, positive is better than as named. None
        if the chest leads are copies of one another, or no naming looks like a heart's.
    """
    lead, pair = measure(shapes)
    if pair[0, 2:, 2:].min() > np.arctanh(ALIKE):
        return None
    values = [part.ravel() for part in (lead, lead**2, pair, pair**2)]
    score = _weights_by_naming() @ np.concatenate(values)
    if score.max() < LIKELY:
        return None
    return np.asarray(score - score[0])


def measure(shapes: Shapes) -> tuple[np.ndarray, np.ndarray]:
    """Give what is weighed: measures of `LEADS`, and of their pairs.

    Returns:
        (8, 8) as in `Shapes`, and Fisher's z of the correlations in and outside QRS complexes, then
        of the partial correlations (given all other leads) in and outside, (4, 8, 8).
    """
    alike = shapes.alike[:, : len(LEADS), : len(LEADS)]
    return shapes.lead[:, : len(LEADS)], np.concatenate([alike, _given_others(alike)])


def _given_others(like: np.ndarray) -> np.ndarray:
    """Fisher's z of partial correlations from that of correlations, (N, L, L); diagonal 0.

    Source: Whittaker 1990, Graphical Models, cor. 5.8.2. Differs: `RIDGE` on the diagonal.
    """
    correlation, diagonal = np.tanh(like), np.arange(like.shape[-1])
    correlation[:, diagonal, diagonal] = 1 + RIDGE
    precision = np.linalg.inv(correlation)
    size = np.sqrt(precision[:, diagonal, diagonal])
    partial = -precision / (size[:, :, None] * size[:, None, :])
    partial[:, diagonal, diagonal] = 0
    return np.arctanh(np.minimum(np.maximum(partial, -0.995), 0.995))


@cache
def weights() -> tuple[np.ndarray, np.ndarray]:
    """Weights of measures and their squares, (16, 8), and of pairs and their squares, (8, 8, 8)."""
    lead = np.zeros((2 * MEASURES, len(LEADS)))
    lead[:, 2:] = learned("chest")["lead"].reshape(2 * MEASURES, -1)
    pair = np.zeros((8, len(LEADS), len(LEADS)))
    first, second = pairs()
    pair[:, first, second] = learned("chest")["pair"].reshape(8, -1)
    return lead, pair


@cache
def _weights_by_naming() -> np.ndarray:
    """Weights of all measures as named, for each of `namings`: (K, 16 * 8 + 8 * 8 * 8)."""
    lead, pair = weights()
    back = namings()[0].argsort(axis=1)  # under which name a row goes
    leads = lead[:, back].transpose(1, 0, 2)
    pairs = pair[:, back[:, :, None], back[:, None, :]].transpose(1, 0, 2, 3)
    return np.concatenate([part.reshape(len(back), -1) for part in (leads, pairs)], axis=1)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Both places of the 27 pairs of `LEADS` that an exchange of chest leads can change."""
    first, second = np.triu_indices(len(LEADS), 1)
    return first[1:], second[1:]
