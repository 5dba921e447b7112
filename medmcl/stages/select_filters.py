"""What another filter keeps: a keep file, or a list of ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.data.cohort import Cohort
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
    try:
        lines = where.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactError(
            f"cannot be read: {error}",
            where=where,
            expected="a keep file (.parquet), or a text file with a sample id in each line",
        ) from None
    named = [line.strip() for line in lines if line.strip()]
    unknown = sorted(set(named) - set(ids))
    if unknown:
        raise ArtefactError(
            f"{len(unknown)} ids are unknown to the cohort",
            where=where,
            got=", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else ""),
            expected=f"ids of samples, as {ids[0] if ids else 'none'}",
        )
    there = set(pool.tolist())
    kept = [one for one in dict.fromkeys(named) if one in there]
    return kept, _note(len(set(named)) - len(kept), where)


def _note(left: int, where: Path) -> str:
    if not left:
        return ""
    what = "id of {} is" if left == 1 else "ids of {} are"
    return f"{left:,} {what.format(where.name)} not in the pool"
