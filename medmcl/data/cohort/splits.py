"""Splits by subject: train, tuning, held_out (the names of MEDS)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted
from medmcl.core.rng import derive_seed
from medmcl.data.cohort.spec import RandomSplit, SplitKeys
from medmcl.data.tables.files import Table, as_text, texts

SPLITS = ("train", "tuning", "held_out")
_TRIED = 50
_SAME = {
    "train": "train",
    "training": "train",
    "tuning": "tuning",
    "val": "tuning",
    "valid": "tuning",
    "validation": "tuning",
    "dev": "tuning",
    "held_out": "held_out",
    "held-out": "held_out",
}


def row_splits(table: Table, ids: np.ndarray, keys: SplitKeys) -> np.ndarray:
    """Give the split of each row of the subjects table, None where it has none. (N,) object.

    Raises:
        CohortError: A value that names no split. ``test`` must be mapped by hand: to some it is
            what others call held_out, to some a set that may be looked at.
    """
    if keys.everyone is not None:
        return np.full(len(ids), keys.everyone, dtype=object)
    if keys.random is not None:
        drawn = [None if one is None else draw(one, keys.random) for one in ids]
        return np.array(drawn, dtype=object)
    cells = texts(table.require(str(keys.column), "subjects.split"))
    if keys.tuning_share is not None:
        return _with_drawn(cells, ids, keys, keys.tuning_share)
    if keys.has_values:
        return _mapped(cells, keys)
    unknown = sorted({cell for cell in cells if cell is not None and cell.lower() not in _SAME})
    if unknown:
        raise CohortError(
            f"values that name no split: {', '.join(unknown[:10])}",
            where=f"subjects.split, column {keys.column}",
            expected=", ".join(_SAME),
            fix=f"say what they mean: split: {{column: {keys.column}, train: [...], "
            f"tuning: [...], held_out: [{unknown[0]}]}}",
        )
    return np.array([None if c is None else _SAME[c.lower()] for c in cells], dtype=object)


def _with_drawn(cells: np.ndarray, ids: np.ndarray, keys: SplitKeys, share: float) -> np.ndarray:
    """Give what values mean, some of train drawn for tuning; a cell that is none has no split."""
    said = _mapped(cells, keys)
    drawn = RandomSplit(tuning=share, held_out=0)
    for row in np.flatnonzero(said != "held_out"):
        is_other = cells[row] is not None and not keys.train
        if ids[row] is not None and (said[row] == "train" or is_other):
            said[row] = draw(ids[row], drawn)
    return said


def stand_in_splits(table: Table, ids: np.ndarray, keys: SplitKeys) -> np.ndarray:
    """Give each row a split where `row_splits` cannot, so that the rest can be checked.

    Values that name a split say it; other rows are ``held_out``, or ``train`` if no row is.
    """
    column = table.frame.get(keys.column)
    cells = np.full(len(ids), None, dtype=object) if column is None else texts(column)
    known = [None if cell is None else _SAME.get(cell.lower()) for cell in cells]
    other = "held_out" if "train" in known else "train"
    return np.array([other if one is None else one for one in known], dtype=object)


def _mapped(cells: np.ndarray, keys: SplitKeys) -> np.ndarray:
    """Give what the values of a column mean; one with ``*`` or ``?`` stands for several."""
    meaning: dict[str, str] = {}
    for split in SPLITS:
        for value in getattr(keys, split):
            if meaning.setdefault(as_text(value), split) != split:
                raise CohortError(f"the value {value!r} is in two splits", where="subjects.split")
    patterns = {one: split for one, split in meaning.items() if "*" in one or "?" in one}
    for cell in {cell for cell in cells if cell is not None and cell not in meaning}:
        fits = {split for one, split in patterns.items() if fnmatchcase(cell, one)}
        if len(fits) > 1:
            raise CohortError(f"the value {cell!r} is in two splits", where="subjects.split")
        if fits:
            meaning[cell] = fits.pop()
    return np.array([None if c is None else meaning.get(c) for c in cells], dtype=object)


def draw(subject: str, keys: RandomSplit) -> str:
    """Give the split of one subject: a function of seed and subject id, not of their order."""
    share = derive_seed(keys.seed, "split", subject) / 2.0**63
    if share < keys.held_out:
        return "held_out"
    return "tuning" if share < keys.held_out + keys.tuning else "train"


def filling_seed(subjects: Sequence[str], keys: RandomSplit) -> int | None:
    """Give the first seed that puts somebody in every split with a share; None if few do.

    Args:
        subjects: Ids of the subjects.
        keys: The shares; their seed is not among those that are tried.
    """
    shares = {"train": 1.0, "tuning": keys.tuning, "held_out": keys.held_out}
    wanted = {split for split, share in shares.items() if share}
    for seed in range(_TRIED):
        tried = keys.model_copy(update={"seed": seed})
        if seed != keys.seed and {draw(one, tried) for one in subjects} >= wanted:
            return seed
    return None


def subject_splits(
    ids: np.ndarray, splits: np.ndarray, lines: np.ndarray
) -> tuple[pd.Series, list[Finding]]:
    """Bring row splits together by subject; a subject in two splits is an error.

    Args:
        ids: Subject of each row. (N,) object.
        splits: Split of each row, None where it has none. (N,) object.
        lines: What messages call each row: its number in the file. (N,) int64.

    Returns:
        Split of each subject in order of first row, missing where it has none; and the findings.
    """
    everyone = pd.Index(ids, dtype=object, name="subject", copy=False)
    if everyone.is_unique and not (pd.isna(ids) | pd.isna(splits)).any():
        return pd.Series(splits, everyone, dtype=object, copy=False), []
    known = pd.DataFrame({"subject": ids, "split": splits}, dtype=object).assign(line=lines)
    known = known[known["subject"].notna()]
    given = known[known["split"].notna()]
    everyone = pd.Index(known["subject"].unique(), dtype=object, name="subject")
    each = given.drop_duplicates("subject")
    named = pd.Index(each["subject"], dtype=object)  # as text of Arrow it would be copied
    first = pd.Series(each["split"].to_numpy(), named, dtype=object).reindex(everyone)
    twice = given[given["subject"].duplicated(keep=False)]
    several = twice.groupby("subject", sort=False)["split"].nunique()
    findings = [
        cohort_error(
            "cohort.split_leak",
            f"subject {subject}",
            f"is in {'two' if count == 2 else count} splits: {_told(given, subject)}",
            "is one id wrong? If not, split by subject: give all rows of a subject the same split",
        )
        for subject, count in several[several > 1].items()
    ]
    without = int(first.isna().sum())
    if without:
        findings.append(
            cohort_warning(
                "cohort.no_split",
                "subjects.split",
                f"in no split, and left out: {without} of {counted(len(first), 'subject')}",
                "give them a split, or list their value under train, tuning or held_out",
            )
        )
    return first, findings


def _told(given: pd.DataFrame, subject: object) -> str:
    """Write the splits of one subject, each with its first row: ``held_out (row 6), train``."""
    mine = given[given["subject"] == subject].groupby("split")["line"].first()
    return ", ".join(f"{split} (row {line})" for split, line in mine.items())
