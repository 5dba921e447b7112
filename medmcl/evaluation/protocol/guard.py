"""Gives a task the sides of its rows, so that whatever is fitted on it refuses held-out rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from medmcl.core.rng import numpy_generator
from medmcl.core.split_guard import TEST, SplitGuard
from medmcl.core.targets import Targets
from medmcl.data.tables.mapped import held

WIDE = 8
"""Fewest columns, and values of a row that differ and are no whole numbers, by which a row of
features stands for one record: ages, flags and counts are alike in people who are not."""
NEAR = 1e-5  # of a row's spread: what float32, another batch size or another device change
ROWS_AT_ONCE = 4096
NEIGHBOURS = 32  # rows that a row is compared with, along one direction
COMMON = 10  # rows, or a tenth of all, above which an equal row is a fill value or a dead encoder


def guarded(
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    features: Iterable[tuple[np.ndarray, np.ndarray | None]],
    scored_split: str = TEST,
) -> Targets:
    """Give the task with what `SplitGuard` it has, completed from the arguments of an evaluation.

    Args:
        targets: The task over N rows.
        split: Split of each row; the scored one is held out, unless it is train or tuning. (N,)
        subjects: Subject of each row. (N,)
        features: Arrays (N, E), each with the rows that have its input, (N,) bool, or None = all;
            read only where the task does not know what its records hold.
        scored_split: Name of the split that is scored.
    """
    names = np.asarray(split).astype(object)
    if scored_split not in ("train", "tuning"):
        names[names == scored_split] = TEST
    known = targets.sides
    contents: tuple[np.ndarray, ...] = () if known is None else known.contents
    if not contents:
        contents = tuple(
            codes for x, has in features if (codes := record_codes(x, has)) is not None
        )
    people = np.asarray(subjects)
    if known is not None and known.subjects is not None:
        people = known.subjects
    sides = SplitGuard(splits=names, subjects=people, contents=contents)
    if known is not None:  # what it barred stays so, and its own names stand
        barred = np.where(known.barred > 0, known.barred, sides.barred)
        sides = replace(known, subjects=people, contents=contents)
        object.__setattr__(sides, "barred", barred)
    return replace(targets, sides=sides)


def record_codes(features: np.ndarray, present: np.ndarray | None = None) -> np.ndarray | None:
    """Give rows that are copies of one another one code, (N,); -1 = stands for no record.

    Copies are equal but for the last bits, a gain and an offset: each row is brought to mean 0 and
    spread 1, and all values must then agree within `NEAR` (and within a ten-thousandth of the usual
    distance of two rows, so that an encoder that tells people little apart makes no copies of
    them). Rounding to fewer digits, noise, a shift in time and another sign are not recognised.

    None for fewer than `WIDE` columns. A row stands for a record only if `WIDE` of its values
    differ and are no whole numbers, and if at most ten rows, or a tenth of all, are copies of it.
    """
    x = np.asarray(features)
    if x.ndim != 2 or x.shape[1] < WIDE or not np.issubdtype(x.dtype, np.floating):
        return None
    # Rows of mean 0 and spread 1, (N, E) float64; constant rows are zero
    z = held(x)
    for block in _blocks(z):
        part = z[block]
        part -= part.mean(axis=1, keepdims=True)
        spread = part.std(axis=1, keepdims=True)
        part[~(spread[:, 0] > 0)] = 0.0
        np.divide(part, spread, out=part, where=spread > 0)
    codes = _copies(z)
    if present is not None:
        codes[~np.asarray(present, dtype=bool)] = -1
    counts = np.bincount(codes[codes >= 0], minlength=codes.max(initial=-1) + 1)
    common = counts > max(COMMON, len(x) // 10)
    codes[(codes >= 0) & common[codes]] = -1
    for code in np.flatnonzero((counts > 1) & ~common):
        rows = np.flatnonzero(codes == code)
        if min(_continuous(x[row]) for row in rows) < WIDE:
            codes[rows] = -1
    return codes


def near_copies(targets: Targets, features: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> int:
    """Count rows that `record_codes` takes for copies of held-out rows and the task does not.

    For tasks that know what their records hold, to the byte: a copy with another gain is a record
    of its own there. It is counted for a remark and not refused: rows of features may agree where
    records do not.
    """
    if targets.sides is None:
        return 0
    sides, found = targets.sides, np.zeros(len(targets.values), dtype=bool)
    for x, has in features:
        codes = record_codes(x, has)
        if codes is not None:
            found |= replace(sides, contents=(codes,)).barred == 3
    return int((found & (sides.barred == 0)).sum())


def _continuous(row: np.ndarray) -> int:
    """Values that differ and are no whole numbers."""
    values = np.unique(row)
    return int((values != np.round(values)).sum())


def _blocks(rows: np.ndarray) -> list[slice]:
    """Parts of rows that are worked on at once, so that what is in between takes little."""
    return [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(rows), ROWS_AT_ONCE)]


def _furthest(z: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Greatest difference of a value between pairs of rows, (P,)."""
    apart = [np.abs(z[first[one]] - z[second[one]]).max(axis=1) for one in _blocks(first)]
    return np.concatenate(apart) if apart else np.zeros(0)


def _copies(z: np.ndarray) -> np.ndarray:
    """Number rows so that those within the tolerance of each other have one number, (N,).

    Rows are sorted along one random direction, where copies are neighbours, and compared with the
    next `NEIGHBOURS` as long as these are near along it.
    """
    size = len(z)
    if size < 2:
        return np.arange(size)
    generator = numpy_generator(0, "record_codes")
    usual = _furthest(z, generator.permutation(size), np.arange(size))
    within = min(NEAR, 1e-4 * float(np.median(usual)))
    direction = generator.normal(size=z.shape[1])
    place = z @ (direction / np.linalg.norm(direction))
    order = np.argsort(place, kind="stable")
    pairs = []
    for step in range(1, min(NEIGHBOURS, size - 1) + 1):
        first, second = order[:-step], order[step:]
        near = place[second] - place[first] <= within * z.shape[1] ** 0.5
        if not near.any():
            break
        first, second = first[near], second[near]
        same = _furthest(z, first, second) <= within
        pairs.append(np.stack([first[same], second[same]]))
    links = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    graph = coo_matrix((np.ones(links.shape[1]), (links[0], links[1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
