"""Mixed-up chest leads: how much better each other naming of V1 to V6 fits than the given one.

Limb leads obey identities; chest leads only resemble those of other hearts. What a lead looks like
(R, S, T, steepness) and how alike two leads are, inside and outside the QRS complexes, is weighted
so that the true naming scores highest: a conditional logit over namings, whose score differences
are log-odds.

Source: McFadden 1974, conditional logit; weights fitted by ``benchmarks/ecg_chest_leads.py`` on
folds 1 to 8 of a subset of PTB-XL (Wagner et al. 2020, CC BY 4.0).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np

from medmcl.modalities.ecg_chest_weights import LEAD_WEIGHTS, PAIR_WEIGHTS
from medmcl.modalities.ecg_leads import PRECORDIAL

LEADS = ("I", "II", *PRECORDIAL)
MEASURES = 8
LOWEST = np.array([0.2, -3.4, -2.2, -1.6, 0.34, -3.0, -3.0, -2.3])
"""Measures are cut off at these, the 0.5th percentile of PTB-XL over all leads."""
HIGHEST = np.array([3.4, -0.19, 1.9, 0.64, 3.2, -0.29, 0.1, -0.01])
"""The same at the 99.5th percentile."""
SAMPLED_HZ = 100
SHORTEST_SECONDS = 2
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


def log_odds(span: np.ndarray, rate_hz: float) -> np.ndarray | None:
    """Weigh the other namings against the one that is given.

    Args:
        span: I, II, V1 to V6 in mV, medians removed, (8, S).
        rate_hz: Samples a second.

    Returns:
        Log-odds of each of `namings`, (K,); the first is 0, positive is better than as named. None
        if there is too little signal, or the chest leads are copies of one another.
    """
    measured = measure(span, rate_hz)
    if measured is None:
        return None
    lead, pair = measured
    if pair[0, 2:, 2:].min() > np.arctanh(ALIKE):
        return None
    orders, _ = namings()
    lead_weights, pair_weights = weights()
    leads = np.concatenate([lead, lead**2])[:, orders]
    pairs = np.concatenate([pair, pair**2])[:, orders[:, :, None], orders[:, None, :]]
    score = np.einsum("fl,fkl->k", lead_weights, leads)
    score += np.einsum("fij,fkij->k", pair_weights, pairs)
    return np.asarray(score - score[0])


def measure(span: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Measure leads and pairs of leads, whatever they are called.

    Args:
        span: I, II, V1 to V6 in mV, medians removed, (8, S).
        rate_hz: Samples a second.

    Returns:
        Each lead's high, low, mean and spread in QRS complexes, its high, low and spread outside,
        and its steepness, (8, 8), and Fisher's z of the correlations in and outside QRS complexes,
        (2, 8, 8). None if there is too little signal.
    """
    step = max(1, round(rate_hz / SAMPLED_HZ))
    length = span.shape[1] // step
    if length < SHORTEST_SECONDS * rate_hz / step:
        return None
    rows = span[:, : length * step].reshape(len(span), length, step).mean(axis=2)
    slope, rows = rows[:, 2:] - rows[:, :-2], rows[:, 1:-1]
    steep = np.sqrt((slope * slope).sum(axis=0))
    steepest = np.partition(steep, int(0.98 * len(steep)))[int(0.98 * len(steep))]
    within = np.convolve(steep > 0.3 * steepest, np.ones(5), "same") > 0
    if min(within.sum(), (~within).sum()) < 16:
        return None
    high, low, mean, spread, inside = _describe(rows[:, within])
    rest_high, rest_low, _, rest_spread, outside = _describe(rows[:, ~within])
    scale = spread[2:].mean() + 1e-9
    measures = [np.arcsinh(3 * part / scale) for part in (high, low, mean)]
    measures.append(np.log(spread / scale + 1e-3))
    measures += [np.arcsinh(5 * part / scale) for part in (rest_high, rest_low)]
    steepness = np.sqrt((slope * slope).mean(axis=1))
    measures += [np.log(part / scale + 1e-3) for part in (rest_spread, steepness)]
    bounded = np.clip(np.stack(measures), LOWEST[:, None], HIGHEST[:, None])
    return bounded, np.stack([inside, outside])


def _describe(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """97th and 3rd percentile, mean, spread, and Fisher's z of the correlations of (L, S)."""
    count = rows.shape[1]
    ordered = np.sort(rows, axis=1)
    mean = rows.mean(axis=1)
    rows = rows - mean[:, None]
    gram = rows @ rows.T
    size = np.sqrt(np.diag(gram)) + 1e-9
    like = np.arctanh(np.clip(gram / size / size[:, None], -0.995, 0.995))
    high, low = ordered[:, int(0.97 * count)], ordered[:, int(0.03 * count)]
    return high, low, mean, size / np.sqrt(count), like


@cache
def weights() -> tuple[np.ndarray, np.ndarray]:
    """Weights of measures and their squares, (16, 8), and of pairs and their squares, (4, 8, 8)."""
    lead = np.zeros((2 * MEASURES, len(LEADS)))
    lead[:, 2:] = np.array(LEAD_WEIGHTS.split(), dtype=float).reshape(2 * MEASURES, -1)
    pair = np.zeros((4, len(LEADS), len(LEADS)))
    first, second = pairs()
    pair[:, first, second] = np.array(PAIR_WEIGHTS.split(), dtype=float).reshape(4, -1)
    return lead, pair


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Both places of the 27 pairs of `LEADS` that an exchange of chest leads can change."""
    first, second = np.triu_indices(len(LEADS), 1)
    return first[1:], second[1:]
