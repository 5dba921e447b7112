"""`medmcl cooccur embed`: from counts to a folder with the vectors of all codes and concepts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import medmcl
from medmcl.cooccurrence.count.counts import Counts
from medmcl.cooccurrence.embed.embed import EmbedSettings, embed_tokens
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.cooccurrence.exchange.folder import MANIFEST
from medmcl.cooccurrence.exchange.manifest import PrivateKeys, ThresholdKeys
from medmcl.cooccurrence.exchange.tables import sha256_of
from medmcl.core.atomic import folder_aside, write_atomically
from medmcl.core.errors import ArtefactError, damage
from medmcl.core.file_lock import one_writer
from medmcl.core.limits import parse_json
from medmcl.core.path_suggestions import instead_of
from medmcl.core.suppression import placeless

log = logging.getLogger(__name__)
VECTORS, FACTS = "vectors.parquet", "embedding.json"
SCHEMA = "medmcl/token_vectors@1"
DIGEST = "vectors_sha256"
FEWEST_KNOWN = 0.5
"""Share of known cells below which an embedding is warned of."""
ONE_DIMENSION = (
    "the vectors have one dimension: every cosine is 1 or -1, so that neighbours, their order and "
    "AUCs tell next to nothing; count more patients, fewer codes (vocabulary.min_occurrences) or a "
    "wider window (window: record), or embed with a rank of your own (--set rank=10), whose "
    "further dimensions these counts do not show to be more than chance"
)


@one_writer("vectors are being made")
def embed(
    counts: Counts,
    out: Path,
    settings: EmbedSettings | None = None,
    *,
    release: ThresholdKeys | PrivateKeys | None = None,
) -> dict[str, Any]:
    """Embed, and write ``vectors.parquet`` and ``embedding.json`` into a new folder.

    Args:
        counts: Exact or released.
        out: Folder; must be new or empty.
        settings: Defaults if not given.
        release: How the counts were made safe to leave a site, as their manifest says it; carried
            into ``embedding.json``. None says that the vectors are of exact counts, or, where
            there is noise, of a sum of private releases; its notes have the promise of each.

    Returns:
        What was done, as `Embedded.facts`.

    Raises:
        ArtefactError: If the folder holds something, or the counts cannot be embedded.
    """
    refuse_used(out)
    found = embed_tokens(counts, settings)
    known = known_cells(counts)
    said = None if release is None else release.model_dump(mode="json")
    notes = list(counts.notes) if counts.noise_sd is not None else []
    more = {"known_cells": known, "release": said, "notes": notes}
    facts = write_vectors(found.table, {**found.facts, **more}, out)
    if known < FEWEST_KNOWN:
        log.warning(
            "only %.0f %% of the cells are known: the others are 0 or of fewer than %s patients, "
            "and stand at what they are expected to hold below that; sum more sites before the "
            "release, or count coarser codes",
            100 * known, counts.min_patients,
        )  # fmt: skip
    if found.table.vectors.shape[1] == 1:
        log.warning("%s", ONE_DIMENSION)
    return facts


def refuse_used(out: Path) -> None:
    """Refuse a folder that holds something, or cannot be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtefactError("the folder is not empty", where=out, fix="choose a new folder")


def write_vectors(table: TokenVectors, facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write a folder of vectors; gives the facts as they stand in it, schema and version first."""
    with folder_aside(out) as aside:
        table.save(aside / VECTORS)
        digest = sha256_of(aside / VECTORS)
        told = placeless(facts)  # of sites that are merged it names the folders
        said = {"schema": SCHEMA, "medmcl": medmcl.__version__, **told, DIGEST: digest}
        text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
        write_atomically(aside / FACTS, text)
    return said


def known_cells(counts: Counts) -> float:
    """Share of the cells across modalities whose number is known, 0 to 1.

    A cell that a release by threshold left out may be 0 or not; of exact and of noisy counts all
    cells are known.
    """
    if counts.min_patients is None:
        return 1.0
    across = [b.pairs for pair, b in counts.blocks.items() if pair[0] != pair[1]]
    across = across or [block.pairs for block in counts.blocks.values()]
    cells = sum(pairs.shape[0] * pairs.shape[1] for pairs in across)
    return float(sum(pairs.nnz for pairs in across) / max(cells, 1))


def load_vectors(folder: Path) -> TokenVectors:
    """The vectors of an embedded folder.

    Raises:
        ArtefactError: If the folder is none that `embed` wrote, or its vectors are not those that
            ``embedding.json`` was written for.
    """
    said = read_facts(folder).get(DIGEST)  # older folders have none
    table = TokenVectors.load(folder / VECTORS)
    if said is not None and said != sha256_of(folder / VECTORS):
        raise ArtefactError(
            f"are not the vectors that {FACTS} was written for",
            where=folder / VECTORS,
            expected=f"sha256 {str(said)[:16]}…",
            fix="copy both files of one folder, or embed the counts again",
        )
    return table


def read_facts(folder: Path) -> dict[str, Any]:
    """What ``embedding.json`` of an embedded folder says.

    Raises:
        ArtefactError: If the folder is none that `embed` wrote.
    """
    if not (folder / FACTS).is_file():
        there = "" if folder.exists() else instead_of(folder, folders=True)
        counts = (folder / MANIFEST).is_file()
        raise ArtefactError(
            "is no folder of token vectors" if folder.exists() else f"is not there{there}",
            where=folder,
            got="a folder of counts" if counts else None,
            expected=f"a folder with {FACTS} and {VECTORS}",
            fix=f"embed them: medmcl cooccur embed {folder} --out VECTORS"
            if counts
            else f"make it: medmcl cooccur embed COUNTS --out {folder}",
        )
    fix = "make it: medmcl cooccur embed COUNTS --out FOLDER"
    with damage(folder, "is no folder of token vectors", error=ArtefactError, fix=fix):
        facts = parse_json((folder / FACTS).read_text(encoding="utf-8"))
    kind = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
    if kind != SCHEMA:
        raise ArtefactError("is of another kind", where=folder / FACTS, got=kind, expected=SCHEMA)
    return dict(facts)
