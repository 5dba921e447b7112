"""`medmcl cooccur release`: counts leave a site, by threshold or with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.ledger import Ledger
from medmcl.cooccurrence.merging import Align, merge
from medmcl.cooccurrence.private import release_private
from medmcl.cooccurrence.release import FEWEST_PATIENTS, release_threshold
from medmcl.cooccurrence.token_rows import read_rows, read_vocabularies
from medmcl.core.errors import ArtefactError
from medmcl.core.writing import refuse_unwritable


def release_folders(
    sites: Sequence[Path],
    out: Path,
    *,
    below: int = FEWEST_PATIENTS,
    public_vocabulary: bool = False,
    allow_nested: bool = False,
    align: Align | None = None,
) -> dict[str, Any]:
    """Sum saved counts and release the sum without cells of few patients.

    Args:
        sites: Folders of exact counts; several are summed first, which loses fewer cells.
        out: New folder of the release.
        below: Fewest patients of a released cell.
        public_vocabulary: See `release_threshold`.
        allow_nested: See `release_threshold`.
        align: See `merge`.

    Returns:
        What to tell the site: cells and tokens left out. Not part of the release.
    """
    refuse_unwritable(out)
    counts = merge(*sites, align=align)
    release = release_threshold(
        counts, below, public_vocabulary=public_vocabulary, allow_nested=allow_nested
    )
    release.save(out)
    return {"out": str(out), **release.left_out, "warnings": list(release.keys.warnings)}


def release_rows(
    rows: Path,
    vocabulary: Path,
    out: Path,
    *,
    clip: Mapping[str, int],
    epsilon: float,
    delta: float,
    ledger: Path,
    window: str = "record",
) -> dict[str, Any]:
    """Release patients' token counts as noisy pairs under differential privacy.

    Args:
        rows: Long table of one site's patients (`medmcl.cooccurrence.token_rows.read_rows`).
        vocabulary: Table fixed in public (`read_vocabularies`).
        out: New folder of the release.
        clip: Longest counts of a patient for each modality, public constants.
        epsilon: Of this release.
        delta: Of this release.
        ledger: The budget of these patients, a file made by `Ledger.start`.
        window: Name of the window that ``rows`` has, if it has one.

    Returns:
        What to tell the site: budget spent, and occurrences that the vocabulary does not list.
    """
    refuse_unwritable(out)
    if out.exists() and any(out.iterdir()):  # before the budget is charged
        raise ArtefactError("a release is written to a new folder", where=out)
    vocabularies = read_vocabularies(vocabulary)
    if set(clip) != set(vocabularies):
        raise ArtefactError(
            "every modality needs a clip bound",
            got=", ".join(clip) or "none",
            expected=", ".join(vocabularies),
        )
    found = read_rows(rows, vocabularies)
    first, second = vocabularies
    release = release_private(
        found.x1,
        found.x2,
        vocabularies=vocabularies,
        clip=(clip[first], clip[second]),
        epsilon=epsilon,
        delta=delta,
        ledger=Ledger(ledger),
        patients=found.patients,
        window=window,
    )
    release.save(out)
    return {"out": str(out), "unlisted": found.unlisted, **release.keys.spent.model_dump()}
