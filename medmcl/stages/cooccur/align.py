"""`medmcl cooccur merge-embeddings`: vectors of sites with other vocabularies become one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.cooccurrence.embed.stacked import (
    MOST_RESIDUAL,
    PERMUTATIONS,
    WEAKEST,
    Merged,
    SiteMatrix,
    merge_embeddings,
)
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.cooccurrence.exchange.merging import refuse_twice
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import one_writer
from medmcl.stages.cooccur.embed import (
    ONE_DIMENSION,
    load_vectors,
    read_facts,
    refuse_used,
    write_vectors,
)

log = logging.getLogger(__name__)
_ALIKE = ("association", "shrink", "weighted", "window", "pairing", "versions")
"""What sites must agree in, as ``embedding.json`` names it."""
_KEPT = (
    "totals", "splits", "min_patients", "noise_sd", "known_cells", "release", "notes",
)  # fmt: skip
"""What is carried over of each site."""


@dataclass(frozen=True)
class _Site:
    name: str
    facts: Mapping[str, Any]
    table: TokenVectors


@one_writer("vectors are being merged")
def merge_embedded(
    folders: Sequence[Path], out: Path, *, rank: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Align and merge the vectors of sites, and write them as `medmcl.stages.cooccur.embed` does.

    A site enters with the product of its vectors, which is its association matrix as far as its
    rank goes, and weighs by the token pairs it saw. Tokens that have no vector at a site count as
    ones that it does not list.

    Args:
        folders: Two or more that ``cooccur embed`` wrote.
        out: New folder.
        rank: Dimensions; the smallest of the sites' if not given.
        seed: Of the permutations that judge each fit.

    Returns:
        What stands in ``embedding.json``; ``merged`` tells of each site how well it fitted.

    Raises:
        ArtefactError: If a folder is none of ``cooccur embed``, sites were embedded in different
            ways, or one cannot be aligned safely (`medmcl.cooccurrence.embed.stacked`).
    """
    refuse_used(out)
    sites = _opened(folders)
    first, second = _modalities(sites)
    most = min(int(site.facts["rank"]) for site in sites)
    if rank is not None and rank > most:
        raise ArtefactError(
            "no site has more dimensions than it was embedded in",
            got=f"rank {rank}",
            expected=f"at most {most}, the smallest of the sites'",
            fix=f"embed the sites with --set rank={rank} or more",
        )
    chosen = most if rank is None else rank
    merged = merge_embeddings([_matrix(site, first, second) for site in sites], chosen, seed=seed)
    tokens = {name: _all_tokens(sites, name) for name in (first, second)}
    vectors = {
        name: pd.DataFrame(own, index=list(known)).reindex(tokens[name], fill_value=0.0).to_numpy()
        for name, known, own in (
            (first, merged.first, merged.v1),
            (second, merged.second, merged.v2),
        )
    }
    table = TokenVectors.join(tokens, vectors)
    facts = {
        **{key: sites[0].facts.get(key) for key in ("association", "differs_from_claime")},
        "rank": chosen,
        "rank_rule": "given" if rank is not None else "the smallest of the sites'",
        **{key: sites[0].facts[key] for key in _ALIKE if key != "association"},
        "seed": seed,
        "sites": sum(int(site.facts["sites"]) for site in sites),
        "splits": _splits(sites),
        "pairs": {f"{first} x {second}": int(sum(_pairs(site) for site in sites))},
        "without_vector": int((~table.embedded).sum()),
        "merged": _told(sites, merged),
    }
    if chosen == 1:
        log.warning("%s", ONE_DIMENSION)
    return write_vectors(table, facts, out)


def _opened(folders: Sequence[Path]) -> list[_Site]:
    if len(folders) < 2:
        raise ArtefactError(
            "nothing to merge", got=f"{len(folders)} folder", expected="two folders or more"
        )
    refuse_twice(folders)
    sites = [_Site(str(folder), read_facts(folder), load_vectors(folder)) for folder in folders]
    for site in sites:
        _refuse_unfit(site)
    for one, other in combinations(sites, 2):
        _refuse_unlike(one, other)
    return sites


def _refuse_unfit(site: _Site) -> None:
    if "merged" in site.facts:
        raise ArtefactError(
            "was merged before, and no longer tells what each site saw",
            where=site.name,
            fix="name all sites' own embeddings in one merge-embeddings",
        )
    missing = [key for key in (*_ALIKE, "rank", "pairs", "sites") if key not in site.facts]
    if missing:
        raise ArtefactError(
            f"embedding.json does not say: {', '.join(missing)}",
            where=site.name,
            expected="an embedding of this version of medmcl",
            fix="embed the site's counts again: medmcl cooccur embed COUNTS --out FOLDER",
        )
    pairs, versions = site.facts["pairs"], site.facts["versions"]
    good = {
        **{key: type(site.facts[key]) is int and site.facts[key] > 0 for key in ("rank", "sites")},
        "pairs": isinstance(pairs, dict) and all(type(n) is int for n in pairs.values()),
        "versions": isinstance(versions, dict) and len(versions) > 1,
    }  # of the types that `embed` writes
    if faults := [key for key, fine in good.items() if not fine]:
        raise ArtefactError(
            f"embedding.json holds what it cannot: {', '.join(faults)}",
            where=site.name,
            got=", ".join(str(site.facts[key])[:60] for key in faults),
            fix="embed the site's counts again: medmcl cooccur embed COUNTS --out FOLDER",
        )
    if not (len(site.facts["pairs"]) == 1 and _pairs(site) > 0):
        raise ArtefactError(
            "embeddings of one pair of modalities are merged, with pairs that were seen",
            where=site.name,
            got=", ".join(f"{pair}: {n}" for pair, n in site.facts["pairs"].items()),
            expected="two modalities",
        )


def _refuse_unlike(one: _Site, other: _Site) -> None:
    for key in _ALIKE:
        mine, theirs = one.facts[key], other.facts[key]
        if mine != theirs:
            raise ArtefactError(
                f"the sites were not embedded alike: {key}",
                where=other.name,
                got=theirs,
                expected=f"{mine}, as {one.name}",
                fix="map the codes to one version before counting, and name it in every spec "
                "(vocabulary.version)"
                if key == "versions"
                else "count and embed every site in the same way",
            )
    same = one.table.rows.keys() == other.table.rows.keys()
    if same and np.array_equal(one.table.vectors, other.table.vectors):
        raise ArtefactError(
            "two sites hold exactly the same vectors",
            where=other.name,
            got=f"all of {one.name}",
            expected="an embedding of other patients",
            fix="leave out the copy",
        )


def _modalities(sites: Sequence[_Site]) -> tuple[str, str]:
    first, second = sites[0].facts["versions"]  # alike at all sites, in the order of the vectors
    for site in sites:
        names = list(dict.fromkeys(site.table.modalities))
        if names != [first, second]:
            raise ArtefactError(
                "has other modalities", where=site.name, got=", ".join(names),
                expected=f"{first}, {second}",
            )  # fmt: skip
    return first, second


def _splits(sites: Sequence[_Site]) -> list[str] | None:
    """Splits that any site counted; None if one does not say."""
    each = [site.facts.get("splits") for site in sites]
    known = [set(one) for one in each if one is not None]
    return sorted(set().union(*known)) if len(known) == len(each) else None


def _pairs(site: _Site) -> int:
    return int(next(iter(site.facts["pairs"].values())))


def _matrix(site: _Site, first: str, second: str) -> SiteMatrix:
    table, modality = site.table, np.array(site.table.modalities)
    rows, columns = (np.flatnonzero((modality == m) & table.embedded) for m in (first, second))
    return SiteMatrix(
        name=site.name,
        first=tuple(table.tokens[row] for row in rows),
        second=tuple(table.tokens[row] for row in columns),
        pmi=table.vectors[rows] @ table.vectors[columns].T,
        weight=float(_pairs(site)),
    )


def _all_tokens(sites: Sequence[_Site], modality: str) -> tuple[str, ...]:
    """Tokens of a modality at any site, also those that have a vector nowhere."""
    tables = [site.table for site in sites]
    return tuple(sorted({token for table in tables for m, token in table.rows if m == modality}))


def _told(sites: Sequence[_Site], merged: Merged) -> dict[str, Any]:
    told = []
    for site in sites:
        overlap = merged.overlaps.get(site.name)
        fit = (
            {"verdict": "the others were turned onto it"}
            if overlap is None
            else {"verdict": "safe", **asdict(overlap)}
        )
        kept = {key: site.facts.get(key) for key in _KEPT}
        tokens = int(site.table.embedded.sum())
        told.append(
            {"site": site.name, "tokens": tokens, "pairs": _pairs(site), **kept, "alignment": fit}
        )
    return {
        "method": "stacked Procrustes over shared tokens, unseen cells filled, SVD",
        "unseen_cells": merged.unseen,
        "safe_means": {
            "condition": f"{WEAKEST} or more",
            "residual": f"at most {MOST_RESIDUAL} of residual_by_chance",
            "p_value": f"at most {2 / (PERMUTATIONS + 1):g}",
        },
        "sites": told,
    }
