"""How well an embedding of codes and concepts knows what is related: AUC and Kendall's tau.

Intervals are bootstraps over tokens, not over pairs: all pairs with the same first token, known and
random, are drawn together, because they share that token's vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.cooccurrence.embed.relations import (
    Relations,
    code_system,
    cosines,
    random_pairs,
    read_columns,
    token_types,
)
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import CohortError
from medmcl.evaluation import Interval, bootstrap

ALL = "all"


@dataclass(frozen=True)
class RelationScore:
    """AUC of the cosine of one kind of relation against random pairs of the same types.

    Attributes:
        kind: Name of the relation; `ALL` for all together.
        auc: With its interval; 0.5 = chance, higher = related tokens are more alike.
        pairs: Known pairs that were scored.
        unmatched: Known pairs without a random counterpart, left out.
    """

    kind: str
    auc: Interval
    pairs: int
    unmatched: int


def score_relations(
    table: TokenVectors,
    relations: Relations,
    *,
    type_of: Callable[[str, str], str] = code_system,
    draws: int = 1000,
    seed: int = 0,
) -> list[RelationScore]:
    """Score every kind of relation, and all together.

    Args:
        table: Vectors.
        relations: Known pairs.
        type_of: From modality and token to a type; random pairs have the types of the known ones.
        draws: Of the bootstrap.
        seed: Of the random pairs and of the bootstrap.

    Raises:
        CohortError: If there is no pair to score.
    """
    if len(relations) == 0:
        raise CohortError(
            "no relation can be scored",
            got=f"{relations.unknown} pairs of tokens without a vector, "
            f"{relations.repeated} repeated",
            expected="pairs of tokens as they stand in the table",
        )
    types = token_types(table, type_of)
    second, exists = random_pairs(relations, types, table.embedded, seed=seed)
    known = cosines(table, relations.first, relations.second)
    random = cosines(table, relations.first, np.where(exists, second, relations.first))
    found = []
    kinds = sorted(set(relations.kinds.tolist()))
    for kind in [*kinds, *([ALL] if len(kinds) > 1 else [])]:
        chosen = (relations.kinds == kind) | (kind == ALL)
        rows = np.flatnonzero(chosen & exists)
        auc = bootstrap(
            "auroc",
            np.repeat([1, 0], len(rows)),
            np.concatenate([known[rows], random[rows]]),
            np.tile(relations.first[rows], 2),
            draws=draws,
            seed=seed,
        )
        found.append(RelationScore(kind, auc, len(rows), int(chosen.sum()) - len(rows)))
    return found


@dataclass(frozen=True)
class RelevanceScore:
    """Kendall's tau between the cosines of a query's candidates and their given relevance.

    Attributes:
        query: The token.
        tau: tau-b with its interval over candidates; higher = the same order.
        unknown: Candidates without a vector, left out.
    """

    query: str
    tau: Interval
    unknown: int


def score_relevance(
    table: TokenVectors, path: Path, *, draws: int = 500, seed: int = 0
) -> list[RelevanceScore]:
    """Score the order of candidates, query by query.

    Args:
        table: Vectors.
        path: CSV with the columns query, candidate, relevance (a number, higher = more relevant).
        draws: Of the bootstrap over candidates.
        seed: Of the bootstrap.

    Raises:
        CohortError: If the file has not these columns, or a relevance is no number.
    """
    columns = ("query", "candidate", "relevance")
    given = read_columns(path, columns, ", ".join(columns))
    relevance = pd.to_numeric(given["relevance"], errors="coerce")
    if relevance.isna().any():
        line = int(np.flatnonzero(relevance.isna())[0])
        raise CohortError(
            "a relevance is no number",
            where=f"{path}, row {line + 1}",
            got=given["relevance"][line],
        )
    embedded, found = table.embedded, []
    for query, asked in given.groupby("query", sort=False):
        row = table.find(str(query))
        if row is None or not embedded[row]:
            nothing = Interval(value=None, low=None, high=None, n=0, note="the query has no vector")
            found.append(RelevanceScore(str(query), nothing, len(asked)))
            continue
        places = [table.find(candidate) for candidate in asked["candidate"]]
        known = np.array([place is not None and bool(embedded[place]) for place in places])
        rows = np.array([p for p, k in zip(places, known, strict=True) if k], dtype=np.int64)
        alike = table.units[rows] @ table.units[row]
        truth = relevance[asked.index].to_numpy(dtype=float)[known]
        tau = bootstrap(kendall_tau, truth, alike, rows, draws=draws, seed=seed)
        found.append(RelevanceScore(str(query), tau, int((~known).sum())))
    return found


def kendall_tau(relevance: np.ndarray, cosine: np.ndarray) -> float:
    """tau-b; NaN where one of them does not vary."""
    from scipy.stats import kendalltau

    return float(kendalltau(relevance, cosine).statistic)
