"""From counts to embeddings of all codes and concepts, with what was done to get them.

A patient's embedding follows from their tokens and the embeddings of the tokens. Under CLAIME's
model a patient's state c ~ N(0, I) draws each token w with probability proportional to a_w
exp(<v_w, c>). To second order in c, the mode of c given the patient's T tokens is

    c = (I + T S)^-1 (sum of v_w over the tokens - T m),

m and S being mean and covariance of the v_w over the words as they occur. Few tokens are drawn
towards 0, many tend to the direction of their centred mean, and every modality adds to both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, PositiveInt

from medmcl.cooccurrence.count.counts import Counts, Pair, exact_sum
from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.embed.factorise import factorise, joint_factorise
from medmcl.cooccurrence.embed.pmi import ASSOCIATIONS, unpaired_tokens
from medmcl.cooccurrence.embed.ranks import can_draw, null_rank, signflip_rank
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.config import Config, lookup
from medmcl.core.errors import ArtefactError, ConfigError


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
    pairs = [pair for pair in counts.blocks if pair[0] != pair[1]]
    if not pairs:
        raise ArtefactError(
            "vectors are made of how two modalities meet, and these counts hold no such pair",
            got=", ".join(f"{a} x {b}" for a, b in counts.blocks),
            fix="part the codes into two modalities of the spec (by prefix), and count again",
        )
    matrices = {pair: association.matrix(counts, pair) for pair in pairs}
    rank, rule = _rank(counts, matrices, settings)
    vectors = _vectors(counts, matrices, rank, settings)
    table = TokenVectors.join({name: counts.vocabularies[name].tokens for name in vectors}, vectors)
    if not table.embedded.any():
        raise ArtefactError(
            f"no token has a vector: the association '{settings.association}' is 0 in every cell",
            got=f"{len(table.tokens):,} tokens",
            fix="another association, which 0 stands for less often (log, claime), or a narrower "
            "window",
        )
    without = {
        f"{a} x {b}": {m: list(tokens) for m, tokens in unpaired_tokens(counts, (a, b)).items()}
        for a, b in pairs
    }
    facts = {
        "association": settings.association,
        "differs_from_claime": association.differs,
        "rank": rank,
        "rank_rule": rule,
        **settings.model_dump(include={"shrink", "weighted", "seed"}),
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
        "no_vector": [table.tokens[row] for row in np.flatnonzero(~table.embedded)],
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


def embed_patients(
    tokens: Mapping[str, Any],
    table: TokenVectors,
    shares: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """States of patients, (n, p), and who has any token with a vector, (n,) bool.

    Args:
        tokens: Modality to token counts, (n, d), the columns in the order of ``table``; a patient
            without a modality has a row of zeros.
        table: Embeddings of the tokens.
        shares: Modality to how often each token occurs, (d,), from the train split: any scale,
            for example `Margin.tokens`.

    Raises:
        ArtefactError: If modalities or columns do not fit the table, or tables differ in patients.
    """
    tables = {name: whole(x, name) for name, x in tokens.items()}
    if len({x.shape[0] for x in tables.values()}) != 1:
        raise ArtefactError(
            "the tables hold different patients",
            got=", ".join(f"{x.shape[0]} rows of {n}" for n, x in tables.items()) or "no table",
        )
    p = table.vectors.shape[1]
    rows = next(iter(tables.values())).shape[0]
    evidence = np.zeros((rows, p))
    precision = np.broadcast_to(np.eye(p), (rows, p, p)).copy()
    has_any = np.zeros(rows, dtype=bool)
    for name, x in tables.items():
        vectors = table.vectors[np.array(table.modalities) == name]
        if x.shape[1] != len(vectors) or len(shares[name]) != len(vectors):
            raise ArtefactError(
                f"{name} does not fit the table of vectors",
                got=f"{x.shape[1]} columns, {len(shares[name])} shares",
                expected=f"{len(vectors)} of both",
            )
        known = vectors.any(axis=1)
        weight = np.where(known, shares[name], 0) / max(float(shares[name][known].sum()), 1.0)
        mean = weight @ vectors
        covariance = (vectors - mean).T @ ((vectors - mean) * weight[:, None])
        length = np.asarray(x @ known.astype(np.int64))
        evidence += x @ vectors - np.multiply.outer(length, mean)
        precision += np.multiply.outer(length, covariance)
        has_any |= length > 0
    return np.linalg.solve(precision, evidence[:, :, None])[:, :, 0], has_any
