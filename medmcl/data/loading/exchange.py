"""Who gets whose: a random permutation in which nobody gets what is like their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray
_TRIED = (64, 2048)
"""Partners tried at random, a few and more, before all are looked through."""


def exchange(kinds: Sequence[Array], rng: np.random.Generator) -> Array:
    """Draw whose each row gets: a permutation without partners that are alike.

    Two rows are alike where one of the kinds is equal. Rows for whom nobody is left keep their own;
    with one kind they are as few as can be: those by which a kind exceeds all the others together.

    Args:
        kinds: What rows are told apart by, each (n,) of integers.
        rng: Draws.

    Returns:
        (n,) int64: the row whose each row gets.
    """
    given = np.arange(len(kinds[0]))
    rows = given.copy()
    while len(rows):
        left = np.stack([kind[rows] for kind in kinds])
        drawn = _fixed(left, rng)
        alike = (left == left[:, drawn]).any(axis=0)
        if not alike.any():
            given[rows] = rows[drawn]
            break
        rows = rows[~alike]
    return given


def _fixed(kinds: Array, rng: np.random.Generator) -> Array:
    """A random permutation of (K, n); whoever got a like partner swaps where that helps both."""
    given = rng.permutation(kinds.shape[1])
    theirs, order = kinds[:, given], rng.permutation(len(given))
    hopeless: set[bytes] = set()
    for row in np.flatnonzero((kinds == theirs).any(axis=0)).tolist():
        mine, got = kinds[:, [row]], theirs[:, [row]]
        mark = np.where(mine == got, mine, -1).tobytes()
        if not (mine == got).any() or mark in hopeless:
            continue  # another row's swap has fixed it, or there is nobody for its like
        for tried in (*_TRIED, None):
            others = order if tried is None else rng.integers(len(given), size=tried)
            fits = ~((kinds[:, others] == got) | (theirs[:, others] == mine)).any(axis=0)
            if fits.any():
                pair = [row, int(others[fits.argmax()])]
                given[pair], theirs[:, pair] = given[pair[::-1]], theirs[:, pair[::-1]]
                break
        else:
            hopeless.add(mark)
    return given
