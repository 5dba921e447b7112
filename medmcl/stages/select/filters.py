"""What another filter keeps: a keep file, or a list of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.data.cohort.cohort import Cohort
from medmcl.selection.keep import Keep


def read_filter(path: str | Path, cohort: Cohort, pool: np.ndarray) -> tuple[Keep | list[str], str]:
    """Read a keep file of this cohort (.parquet), or a text file with an id in each line.

    Args:
        path: The file.
        cohort: The cohort that is selected from.
        pool: Ids of the samples that are scored, (N,) str.

    Returns:
        What the filter keeps of the pool, and a note of how many ids are not in it; empty if none.

    Raises:
        ArtefactError: It cannot be read, is of another cohort, or names ids unknown to this one.
    """
    where = Path(path)
    ids = [str(one) for one in cohort.samples["sample"]]
    if where.suffix.lower() == ".parquet":
        keep = Keep.load(where, cohort=cohort.fingerprint)
        keep.among(ids, cohort.fingerprint)
        texts = keep.ids.astype(str)
        here = np.isin(texts, pool)
        part = replace(keep, ids=texts[here], kept=keep.kept[here], scores={}, copies={})
        return part, _note(int(keep.kept[~here].sum()), where)
    named = listed_ids(where, ids, "a keep file (.parquet), or a text file with a sample id a line")
    there = set(pool.tolist())
    kept = [one for one in dict.fromkeys(named) if one in there]
    return kept, _note(len(set(named)) - len(kept), where)


def listed_ids(where: Path, known: Sequence[str], expected: str) -> list[str]:
    """Read a text file with an id in each line.

    Args:
        where: The file.
        known: Ids of the cohort.
        expected: What an error says the file should be.

    Raises:
        ArtefactError: It cannot be read, or names ids unknown to the cohort.
    """
    try:
        lines = where.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(f"cannot be read: {error}", where=where, expected=expected) from None
    named = [line.strip() for line in lines if line.strip()]
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ArtefactError(
            f"{len(unknown)} ids are unknown to the cohort",
            where=where,
            got=", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else ""),
            expected=f"ids of the cohort, as {known[0] if known else 'none'}",
        )
    return named


def _note(left: int, where: Path) -> str:
    if not left:
        return ""
    what = "id of {} is" if left == 1 else "ids of {} are"
    return f"{left:,} {what.format(where.name)} not in the pool"
