"""A patient's embedding from their tokens and the embeddings of the tokens.

Under CLAIME's model a patient's state c ~ N(0, I) draws each token w with probability proportional
to a_w exp(<v_w, c>). To second order in c, the mode of c given the patient's T tokens is

    c = (I + T S)^-1 (sum of v_w over the tokens - T m),

m and S being mean and covariance of the v_w over the words as they occur. Few tokens are drawn
towards 0, many tend to the direction of their centred mean, and every modality adds to both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medmcl.cooccurrence.count.tokens import whole
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import ArtefactError


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
