"""What another filter keeps: a keep file, or a list of ids."""

from __future__ import annotations

from pathlib import Path

from medmcl.core.errors import ArtefactError
from medmcl.data.cohort import Cohort
from medmcl.selection.keep import Keep


def read_filter(path: str | Path, cohort: Cohort) -> Keep | list[str]:
    """Read a keep file of this cohort (.parquet), or a text file with an id in each line.

    Raises:
        ArtefactError: It cannot be read, is of another cohort, or names ids unknown to this one.
    """
    where = Path(path)
    ids = [str(one) for one in cohort.samples["sample"]]
    if where.suffix.lower() == ".parquet":
        keep = Keep.load(where, cohort=cohort.fingerprint)
        keep.among(ids, cohort.fingerprint)
        return keep
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
    return named
