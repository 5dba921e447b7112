"""`medmcl cooccur release`: counts leave a site, by threshold or with noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.ledger import Ledger
from medmcl.cooccurrence.merging import Align, merge
from medmcl.cooccurrence.private import release_private
from medmcl.cooccurrence.release import FEWEST_PATIENTS, release_threshold
from medmcl.cooccurrence.token_rows import TokenRows, read_rows, read_vocabularies
from medmcl.core.errors import ArtefactError, ConfigError
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
        What to tell the site: cells and tokens left out, and the share. Not part of the release.
    """
    refuse_unwritable(out)
    counts = merge(*sites, align=align)
    release = release_threshold(
        counts, below, public_vocabulary=public_vocabulary, allow_nested=allow_nested
    )
    release.save(out)
    cells = sum(block.pairs.nnz for block in counts.blocks.values())
    gone = release.left_out["cells suppressed"]
    return {
        "out": str(out),
        **release.left_out,
        "cells": cells,
        "share suppressed": gone / cells,  # a release without cells is refused
        "warnings": list(release.keys.warnings),
    }


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
    allow_unlisted: bool = False,
) -> dict[str, Any]:
    """Release patients' token counts as noisy pairs under differential privacy.

    Args:
        rows: Long table of one site's patients (`medmcl.cooccurrence.token_rows.read_rows`).
        vocabulary: Table fixed in public (`read_vocabularies`).
        out: New folder of the release.
        clip: Longest counts of a patient for each modality, public constants.
        epsilon: Of this release.
        delta: Of this release.
        ledger: The budget of these patients, a file that `start_budget` made.
        window: Name of the window that ``rows`` has, if it has one.
        allow_unlisted: Release also where the vocabulary lists fewer than half of the occurrences.

    Returns:
        What to tell the site: budget spent, and occurrences that the vocabulary does not list.

    Raises:
        ArtefactError: A file that cannot be used, no budget, or a vocabulary that hardly lists
            what the rows hold; nothing is charged then.
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
    kept = open_budget(ledger)
    found = read_rows(rows, vocabularies)
    if not allow_unlisted:
        _refuse_unlisted(found, vocabulary)
    first, second = vocabularies
    release = release_private(
        found.x1,
        found.x2,
        vocabularies=vocabularies,
        clip=(clip[first], clip[second]),
        epsilon=epsilon,
        delta=delta,
        ledger=kept,
        patients=found.patients,
        window=window,
    )
    release.save(out)
    return {"out": str(out), "unlisted": found.unlisted, **release.keys.spent.model_dump()}


def _refuse_unlisted(found: TokenRows, vocabulary: Path) -> None:
    """Refuse rows that the vocabulary hardly knows: their release would be paid for noise."""
    for name, listed in found.listed.items():
        whole = listed + found.unlisted[name]
        if listed and 2 * listed >= whole:
            continue
        seen = ", ".join(found.examples.get(name, ())) or "none: the rows have none of it"
        raise ArtefactError(
            f"the vocabulary lists too few occurrences of {name}; nothing was charged",
            where=vocabulary,
            got=f"{listed:,} of {whole:,} occurrences listed; not listed, for example: {seen}",
            expected="at least half",
            mend="write codes in both as they stand in the public vocabulary, prefix and capitals "
            "included; --allow-unlisted releases all the same",
        )


def open_budget(path: Path) -> Ledger:
    """The budget of a site's patients.

    Raises:
        ArtefactError: There is none.
    """
    if not path.is_file():
        raise ArtefactError(
            "there is no budget here",
            where=path,
            mend=f"start one: medmcl cooccur budget {path} --epsilon E --delta D",
        )
    return Ledger(path)


def start_budget(path: Path, epsilon: float | None, delta: float | None) -> Ledger:
    """The budget of a site's patients: started if epsilon and delta are given, or as it is.

    Raises:
        ConfigError: One of the two is missing.
        ArtefactError: There is one already, or none to be read.
    """
    if (epsilon is None) != (delta is None):
        raise ConfigError("a budget is an epsilon and a delta", expected="both, or none to read it")
    if epsilon is None or delta is None:
        return open_budget(path)
    if path.exists():
        raise ArtefactError(
            "there is a budget already, and it is fixed once",
            where=path,
            mend=f"read it: medmcl cooccur budget {path}; another file for other patients only",
        )
    return Ledger.start(path, epsilon=epsilon, delta=delta)
