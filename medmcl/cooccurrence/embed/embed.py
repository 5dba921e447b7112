"""From counts to embeddings of all codes and concepts, with what was done to get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from medmcl.cooccurrence.count.counts import Counts, Pair, exact_sum
from medmcl.cooccurrence.embed.associations import ASSOCIATIONS
from medmcl.cooccurrence.embed.factorise import factorise
from medmcl.cooccurrence.embed.joint import joint_factorise
from medmcl.cooccurrence.embed.null_rank import can_draw, null_rank
from medmcl.cooccurrence.embed.pmi import unpaired_tokens
from medmcl.cooccurrence.embed.ranks import signflip_rank
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.config import Config, lookup
from medmcl.core.errors import ConfigError


class EmbedSettings(Config):
    """How counts become embeddings; the defaults are CLAIME's, with a rank by rule."""

    association: str = Field(default="claime", description=", ".join(ASSOCIATIONS))
    rank: PositiveInt | Literal["auto"] = Field(
        default="auto", description="dimensions; auto: parallel analysis, see null_rank and ranks"
    )
    shrink: bool = Field(default=False, description="shrink the singular values; not CLAIME's")
    weighted: bool = Field(default=False, description="weight cells by margins; not CLAIME's")
    seed: int = Field(default=0, description="of start vectors and sign flips")


@dataclass(frozen=True)
class Embedded:
    """Embeddings and their story.

    Attributes:
        table: A vector for every token.
        facts: What was done, in plain values: association and how it differs from the paper, rank
            and where it came from, tokens without a vector, counts behind it.
    """

    table: TokenVectors
    facts: dict[str, Any]


def embed_tokens(counts: Counts, settings: EmbedSettings | None = None) -> Embedded:
    """Embed the tokens of all modalities; two by `factorise`, more by `joint_factorise`.

    Args:
        counts: Exact or released.
        settings: Defaults if not given.

    Raises:
        ArtefactError: If counts hold no block across modalities that can be embedded.
        ConfigError: Unknown association, impossible rank, or choices that do not go together.
    """
    settings = settings or EmbedSettings()
    association = lookup("association", settings.association, ASSOCIATIONS)
    pairs = [pair for pair in counts.blocks if pair[0] != pair[1]] or [counts.pair()]
    matrices = {pair: association.matrix(counts, pair) for pair in pairs}
    rank, rule = _rank(counts, matrices, settings)
    vectors = _vectors(counts, matrices, rank, settings)
    table = TokenVectors.join({name: counts.vocabularies[name].tokens for name in vectors}, vectors)
    without = {
        f"{a} x {b}": {m: list(tokens) for m, tokens in unpaired_tokens(counts, (a, b)).items()}
        for a, b in pairs
    }
    facts = {
        "association": settings.association,
        "differs_from_claime": association.differs,
        "rank": rank,
        "rank_rule": rule,
        "shrink": settings.shrink,
        "weighted": settings.weighted,
        "seed": settings.seed,
        "window": counts.window,
        "pairing": counts.pairing,
        "versions": {name: counts.vocabularies[name].version for name in vectors},
        "totals": counts.totals,
        "pairs": {f"{a} x {b}": exact_sum(counts.blocks[a, b].pairs.data) for a, b in pairs},
        "sites": counts.sites,
        "splits": counts.provenance.splits,
        "min_patients": counts.min_patients,
        "noise_sd": counts.noise_sd,
        "unpaired": without,
        "without_vector": int((~table.embedded).sum()),
    }
    return Embedded(table, facts)


def _vectors(
    counts: Counts, matrices: dict[Pair, np.ndarray], rank: int, settings: EmbedSettings
) -> dict[str, np.ndarray]:
    if len(matrices) > 1:
        if settings.shrink or settings.weighted:
            raise ConfigError(
                "shrink and weighted are for two modalities", got=f"{len(matrices)} pairs"
            )
        return joint_factorise(matrices, rank)
    (((first, second), matrix),) = matrices.items()
    margins = counts.margins[first].pairs, counts.margins[second].pairs
    v1, v2 = factorise(
        matrix,
        rank,
        weights=margins if settings.weighted else None,
        shrink=settings.shrink,
        seed=settings.seed,
    )
    return {first: v1, second: v2}


def _rank(
    counts: Counts, matrices: dict[Pair, np.ndarray], settings: EmbedSettings
) -> tuple[int, str]:
    """The given rank, or the largest that a rule finds in any pair; and which rule."""
    if settings.rank != "auto":
        return settings.rank, "given"
    if all(can_draw(counts.blocks[pair]) for pair in matrices):
        rank = max(null_rank(counts, pair, seed=settings.seed) for pair in matrices)
        return rank, "parallel analysis, tables drawn under independence"
    rank = max(signflip_rank(matrix, seed=settings.seed) for matrix in matrices.values())
    return rank, "parallel analysis, sign flips"
