"""Gives a task the sides of its rows, so that whatever is fitted on it refuses held-out rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from medmcl.core.sides import TEST, Sides
from medmcl.core.targets import Targets

WIDE = 8
"""Fewest columns, and values of a row that differ and are no whole numbers, by which a row of
features stands for one record: ages, flags and counts are alike in people who are not."""
COMMON = 10  # rows, or a tenth of all, above which an equal row is a fill value or a dead encoder


def guarded(
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    features: Iterable[tuple[np.ndarray, np.ndarray | None]],
    scored_split: str = TEST,
) -> Targets:
    """Give the task with what `Sides` it has, completed from the arguments of an evaluation.

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
    sides = Sides(splits=names, subjects=people, contents=contents)
    if known is not None:  # what it barred stays so, and its own names stand
        barred = np.where(known.barred > 0, known.barred, sides.barred)
        sides = replace(known, subjects=people, contents=contents)
        object.__setattr__(sides, "barred", barred)
    return replace(targets, sides=sides)


def record_codes(features: np.ndarray, present: np.ndarray | None = None) -> np.ndarray | None:
    """Give rows that are equal to the bit one code, (N,); -1 = stands for no record.

    None for fewer than `WIDE` columns. A row stands for a record only if `WIDE` of its values
    differ and are no whole numbers, and if at most ten rows, or a tenth of all, are equal to it.
    """
    x = np.ascontiguousarray(features)
    if x.ndim != 2 or x.shape[1] < WIDE or not np.issubdtype(x.dtype, np.floating):
        return None
    numbers: dict[bytes, int] = {}
    codes = np.array(
        [numbers.setdefault(blake2b(row, digest_size=16).digest(), len(numbers)) for row in x],
        dtype=np.int64,
    )
    if present is not None:
        codes[~np.asarray(present, dtype=bool)] = -1
    counts = np.bincount(codes[codes >= 0], minlength=len(numbers) + 1)
    common = counts > max(COMMON, len(x) // 10)
    codes[(codes >= 0) & common[codes]] = -1
    for code in np.flatnonzero((counts > 1) & ~common):
        rows = codes == code
        values = np.unique(x[rows][0])
        if (values != np.round(values)).sum() < WIDE:
            codes[rows] = -1
    return codes
