"""Counts leave a site, by threshold or with noise: `medmcl cooccur release`, and its kind."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.exchange.merging import Align, merge
from medmcl.cooccurrence.release.accounting import rho_for
from medmcl.cooccurrence.release.clipping import PrivateQuantile
from medmcl.cooccurrence.release.dominance import LARGEST_SHARE
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import CLIP_SHARE, Bound, names_of, release_private
from medmcl.cooccurrence.release.register import unseen
from medmcl.cooccurrence.release.release import FEWEST_PATIENTS, release_threshold
from medmcl.cooccurrence.release.token_rows import (
    TokenRows,
    columns_of,
    read_rows,
    read_vocabularies,
    refuse_other_window,
)
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.file_lock import one_writer


@one_writer("a release is being written")
def release_folders(
    sites: Sequence[Path],
    out: Path,
    *,
    min_patients: int = FEWEST_PATIENTS,
    public_vocabulary: bool = False,
    allow_nested: bool = False,
    align: Align | None = None,
    largest_share: float = LARGEST_SHARE,
    beside_private: bool = False,
    beside_sums: bool = False,
    other_people: bool = False,
) -> dict[str, Any]:
    """Sum saved counts and release the sum without cells of few patients.

    Args:
        sites: Folders of exact counts; several are summed first, which loses fewer cells.
        out: New folder of the release.
        min_patients: Fewest patients of a released cell.
        public_vocabulary: See `release_threshold`.
        allow_nested: See `release_threshold`.
        align: See `merge`.
        largest_share: See `release_threshold`.
        beside_private: See `release_threshold`.
        beside_sums: See `release_threshold`.
        other_people: See `merge`.

    Returns:
        What to tell the site: cells and tokens left out, and the share. Not part of the release.
    """
    counts = merge(*sites, align=align, other_people=other_people)
    release = release_threshold(
        counts,
        min_patients,
        public_vocabulary=public_vocabulary,
        allow_nested=allow_nested,
        largest_share=largest_share,
        beside=sites,
        beside_private=beside_private,
        beside_sums=beside_sums,
    )
    release.save(out)
    cells = sum(block.pairs.nnz for block in counts.blocks.values())
    gone = release.left_out["cells suppressed"]
    return {
        "out": str(out),
        **release.left_out,
        "cells": cells,
        "share suppressed": gone / cells,  # a release without cells is refused
        "warnings": [*release.keys.warnings, *unseen()],
    }


@one_writer("a release is being written")
def release_rows(
    rows: Path,
    vocabulary: Path,
    out: Path,
    *,
    clip: Mapping[str, Bound],
    epsilon: float,
    delta: float,
    ledger: Path,
    window: str = "record",
    clip_share: float = CLIP_SHARE,
    allow_noise: bool = False,
    other_people: bool = False,
) -> dict[str, Any]:
    """Release patients' token counts as noisy pairs under differential privacy.

    Args:
        rows: Long table of one site's patients
        (`medmcl.cooccurrence.release.token_rows.read_rows`).
        vocabulary: Table fixed in public (`read_vocabularies`).
        out: New folder of the release.
        clip: Longest counts of a patient for each modality: public constants, or quantiles to be
            chosen from these patients.
        epsilon: Of this release.
        delta: Of this release.
        ledger: The budget of these patients, a file that `start_budget` made.
        window: Name of the window that ``rows`` has, if it has one.
        clip_share: Share of the cost that goes for bounds that are chosen from the patients.
        allow_noise: See `medmcl.cooccurrence.release.private.release_private`.
        other_people: See `Ledger`.

    Returns:
        What to tell the site: bounds, noise, budget spent, and occurrences that the vocabulary does
        not list.

    Raises:
        ArtefactError: No table with these columns, settings that cannot be used, or no budget that
            covers it; nothing is charged then. Rows that cannot be used are charged as the release
            would have been: that it is refused tells of them. Other patients' ledgers are named
            unpaid, so what a refusal says stays at the site.
    """
    if out.exists() and any(out.iterdir()):  # before the budget is charged
        raise ArtefactError("a release is written to a new folder", where=out)
    vocabularies = read_vocabularies(vocabulary)
    refuse_unbounded(clip, vocabularies)
    kept = open_budget(ledger, rows, other_people=other_people)
    first, second = names_of(vocabularies)
    columns_of(rows)
    with kept.paying(rho_for(epsilon, delta)):
        found = read_rows(rows, vocabularies)
    refuse_other_window(found, window, rows, "name it: --window month, or --window record")
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
        clip_share=clip_share,
        allow_noise=allow_noise,
    )
    release.save(out)
    keys = release.keys
    ends = [
        f"{name}: the bound is that of the search, {one.longest}; the quantile may lie beyond it"
        for name, one in keys.clip_chosen.items()
        if keys.clip[name] == one.longest
    ]
    return {
        "out": str(out),
        "clip": keys.clip,
        "noise": f"{keys.sigma:.4g} pairs in every cell (standard deviation); one patient adds at "
        f"most {keys.sensitivity} to a cell",
        "unlisted": found.unlisted,
        **kept.spent().model_dump(),
        "warnings": [*ends, *unlisted_rows(found), *repeated_rows(found), *unseen()],
    }


def read_bounds(pairs: Sequence[str], longest: int) -> dict[str, Bound]:
    """Bounds as the command line gives them: ``codes=7``, ``codes=quantile:0.5``.

    Raises:
        ConfigError: What is no bound, or a modality that is given twice.
        ArtefactError: No such quantile.
    """
    found: dict[str, Bound] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        kind, _, share = text.partition(":")
        known = text.isdecimal() and int(text) > 0
        if not name or not (known or (kind == "quantile" and _is_number(share))):
            raise ConfigError(
                "is no bound", where="--clip", got=pair,
                expected="codes=7, a public constant, or codes=quantile:0.5",
            )  # fmt: skip
        if name in found:
            raise ConfigError(f"gives {name} twice", where="--clip", got=", ".join(pairs))
        found[name] = int(text) if known else PrivateQuantile(float(share), longest)
    return found


def refuse_unbounded(clip: Collection[str], vocabularies: Collection[str]) -> None:
    """Refuse bounds that are not one of each modality."""
    if set(clip) != set(vocabularies):
        raise ArtefactError(
            "every modality needs a clip bound",
            got=", ".join(clip) or "none",
            expected=", ".join(vocabularies),
            fix=" ".join(f"--clip {name}=N" for name in vocabularies),
        )


def repeated_rows(found: TokenRows) -> list[str]:
    """What to say of rows that stand twice."""
    if not found.repeated:
        return []
    return [
        f"{found.repeated:,} rows repeat the subject, window, modality and code of another: their "
        "counts were added up; make sure that no row is a copy"
    ]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def unlisted_rows(found: TokenRows) -> list[str]:
    """What to say of rows that the vocabulary hardly knows: their release is mostly noise."""
    return [
        f"the vocabulary lists {listed:,} of {listed + found.unlisted[name]:,} occurrences of "
        f"{name}; not listed, for example: {', '.join(found.examples.get(name, ())) or 'none'}. "
        "Write codes in both as they stand in the public vocabulary, prefix and capitals included"
        for name, listed in found.listed.items()
        if not listed or 2 * listed < listed + found.unlisted[name]
    ]


def listed_rows(rows: Path, vocabulary: Path) -> dict[str, Any]:
    """How much of a ROWS table a public vocabulary lists; the answer stays at the site.

    Rows that cannot be used are said, and refused by the release alone, which is charged for it:
    whether this command ends well says nothing of them.
    """
    vocabularies = read_vocabularies(vocabulary)
    names = names_of(vocabularies)
    columns_of(rows)
    try:
        found = read_rows(rows, vocabularies)
        for name, counts in zip(names, (found.x1, found.x2), strict=True):
            whole(counts, name)
    except ArtefactError as error:
        return {"warnings": [f"would be refused, and charged: {' '.join(str(error).split())}"]}
    return {
        **{
            f"occurrences of {name}": f"{listed:,} of {listed + found.unlisted[name]:,} listed"
            for name, listed in found.listed.items()
        },
        "warnings": [*unlisted_rows(found), *repeated_rows(found)],
    }


def open_budget(path: Path, rows: Path | None = None, *, other_people: bool = False) -> Ledger:
    """The budget of the patients of a table ``rows``; `ArtefactError` if there is none."""
    ledger = Ledger(path, rows=rows, other_people=other_people)
    ledger.read()
    return ledger


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
    return Ledger.start(path, epsilon=epsilon, delta=delta)
