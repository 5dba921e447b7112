"""Sums of one modality over the items of some patients."""

from __future__ import annotations

import numpy as np

from medmcl.cooccurrence.count.counts import Margin
from medmcl.cooccurrence.count.items import Items, ascends
from medmcl.cooccurrence.count.meetings import reach_of
from medmcl.data.events.events import starts


def margin_of(items: Items, size: int, reach: int) -> Margin:
    """Give tokens, patients, and pairs as the row sums of the within-modality block.

    g_w = sum over occurrences of w of the others of its modality that it meets.
    """
    begin, end = reach_of(items, items, reach)
    before = np.r_[0, np.cumsum(items.weight, dtype=np.int64)]
    pairs = items.weight * (before[end] - before[begin] - 1)
    return Margin(
        _by_token(items.token, items.weight, size),
        _by_token(items.token, pairs, size),
        patients_of(items, size),
    )


def zeros(size: int) -> Margin:
    """Give the sums over nobody."""
    return Margin(*(np.zeros(size, dtype=np.int64) for _ in range(3)))


def _by_token(token: np.ndarray, value: np.ndarray, size: int) -> np.ndarray:
    found = np.zeros(size, dtype=np.int64)
    np.add.at(found, token, value.astype(np.int64))
    return found


def patients_of(items: Items, size: int) -> np.ndarray:
    """Patients who have each token, (d,) int64."""
    if not len(items):
        return np.zeros(size, dtype=np.int64)
    key = items.patient.astype(np.int64) * size + items.token
    key = starts(key if ascends(key) else np.sort(key))
    return np.bincount(key % size, minlength=size).astype(np.int64)


def self_pairs(items: Items, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal of what stands at one place: ordered pairs w (w - 1), and patients who have any."""
    often = items.weight > 1
    weight = items.weight[often].astype(np.int64)
    some = Items(items.token[often], items.weight[often], items.patient[often], items.place[often])
    return _by_token(some.token, weight * (weight - 1), size), patients_of(some, size)
