"""`medmcl cooccur embed`: from counts to a folder with the vectors of all codes and concepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import medmcl
from medmcl.cooccurrence.counts import Counts
from medmcl.cooccurrence.embed import EmbedSettings, embed_tokens
from medmcl.cooccurrence.token_vectors import TokenVectors
from medmcl.core.errors import ArtefactError
from medmcl.core.writing import refuse_unwritable

VECTORS, FACTS = "vectors.parquet", "embedding.json"
SCHEMA = "medmcl/token_vectors@1"


def embed(counts: Counts, out: Path, settings: EmbedSettings | None = None) -> dict[str, Any]:
    """Embed, and write ``vectors.parquet`` and ``embedding.json`` into a new folder.

    Args:
        counts: Exact or released.
        out: Folder; must be new or empty.
        settings: Defaults if not given.

    Returns:
        What was done, as `Embedded.facts`.

    Raises:
        ArtefactError: If the folder holds something, or the counts cannot be embedded.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtefactError("the folder is not empty", where=out, mend="choose a new folder")
    refuse_unwritable(out)
    found = embed_tokens(counts, settings)
    out.mkdir(parents=True, exist_ok=True)
    found.table.save(out / VECTORS)
    facts = {"schema": SCHEMA, "medmcl": medmcl.__version__, **found.facts}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    (out / FACTS).write_text(text, encoding="utf-8")
    return facts


def load_vectors(folder: Path) -> TokenVectors:
    """The vectors of an embedded folder.

    Raises:
        ArtefactError: If the folder is none that `embed` wrote.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"is no folder of token vectors: {error}", where=folder, mend="make it: cooccur embed"
        ) from None
    if facts.get("schema") != SCHEMA:
        raise ArtefactError(
            "is of another kind", where=folder / FACTS, got=facts.get("schema"), expected=SCHEMA
        )
    return TokenVectors.load(folder / VECTORS)
