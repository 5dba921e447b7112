"""Cross-modal retrieval: does a query find its own partner among all others?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from medmcl.core.findings import counted
from medmcl.evaluation.metrics.intervals import PLAIN, Resampling
from medmcl.evaluation.metrics.metric import Metric
from medmcl.evaluation.protocol.results import Result

BLOCK = 8_000_000  # similarities held at once


def ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_identity: np.ndarray | None = None,
    gallery_identity: np.ndarray | None = None,
) -> np.ndarray:
    """Give the rank of each query's best right answer, (N,), 1 = first; exact, in blocks.

    Every gallery item with the query's identity is a right answer (equal reports, the records of
    one subject). A wrong item with the same similarity counts as ranked before the right one, so a
    collapsed embedding scores nothing.

    Args:
        queries: Unit-norm embeddings, (N, D).
        gallery: Unit-norm embeddings, (M, D).
        query_identity: Codes; default the row number. (N,)
        gallery_identity: Codes; default the row number. (M,)

    Raises:
        ValueError: If a query has no right answer in the gallery.
    Source:
        Recall@k as in Radford et al. 2021, arXiv 2103.00020. Differs: equal items all count as
        hits; ties count against the model.
    """
    own = np.arange(len(queries)) if query_identity is None else np.asarray(query_identity)
    theirs = np.arange(len(gallery)) if gallery_identity is None else np.asarray(gallery_identity)
    orphan = ~np.isin(own, theirs)
    if orphan.any():
        raise ValueError(f"{orphan.sum()} queries have no item of their identity in the gallery")
    found = np.empty(len(queries), dtype=np.int64)
    step = max(1, BLOCK // max(1, len(gallery)))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        similarity = queries[block] @ gallery.T
        right = own[block, None] == theirs[None]
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        found[block] = 1 + ((similarity >= best) & ~right).sum(axis=1)
    return found


def recall_at_k(rank: np.ndarray, k: int) -> float:
    """Give the share of queries whose right answer is among the first k; higher is better."""
    return float((rank <= k).mean())


def chance_recall(right: np.ndarray, size: int, k: int) -> float:
    """Give recall@k of a random ranking: mean of 1 - C(M - m, k) / C(M, k).

    Args:
        right: Right answers m of each query. (N,)
        size: Items in the gallery M.
        k: Items looked at.
    """
    wrong = size - np.asarray(right, dtype=np.float64)
    k = min(k, size)
    possible = wrong >= k
    safe = np.where(possible, wrong, k)
    log_missed = gammaln(safe + 1) - gammaln(safe - k + 1) - gammaln(size + 1)
    log_missed += gammaln(size - k + 1)
    return float(1 - np.where(possible, np.exp(log_missed), 0.0).mean())


def _weighted_median(rank: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median of ``rank`` in each column of weights; the mean of the middle two if even."""
    order = np.argsort(rank, kind="stable")
    cumulated = weights[order].cumsum(axis=0)
    half = cumulated[-1] / 2
    low = (cumulated >= half).argmax(axis=0)
    high = (cumulated > half).argmax(axis=0)
    return np.asarray((rank[order][low] + rank[order][high]) / 2)


def _rank_metric(k: int | None) -> Metric:
    if k is None:
        return Metric("median_rank", "lower", _weighted_median, "no queries")
    return Metric(
        f"recall@{k}",
        "higher",
        lambda rank, weights: ((rank <= k) @ weights) / np.maximum(weights.sum(axis=0), 1e-300),
        "no queries",
    )


def retrieval(
    a: np.ndarray,
    b: np.ndarray,
    *,
    names: tuple[str, str] = ("a", "b"),
    identity: np.ndarray | tuple[np.ndarray | None, np.ndarray | None] | None = None,
    resampling: Resampling = PLAIN,
    ks: Sequence[int] = (1, 5, 10),
    method: str = "model",
    split: str = "held_out",
) -> list[Result]:
    """Score retrieval both ways: recall@k (higher is better), median rank (lower), and chance.

    Intervals draw the queries' subjects; the gallery stays as it is.

    Args:
        a: Unit-norm embeddings of the first modality, (N, D).
        b: Unit-norm embeddings of the second, row i the partner of row i of ``a``. (N, D)
        names: Names of the two modalities.
        identity: Codes of equal items; one array (N,) for both sides, or one a side: ``(of a, of
            b)``, either None for "all different". Two rows are each other's right answers if they
            are equal on the gallery's side.
        resampling: How rows are drawn.
        ks: Numbers of items looked at.
        method: Name for the rows.
        split: Name of the split for the rows.

    Returns:
        Rows with ``target`` such as ``ecg → cmr``, and rows of the method ``chance``. Among one
        person's records, or where all items are equal, nothing is retrieved: rows without a value,
        their note says so.
    """
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} rows, b has {len(b)}")
    codes = identity if isinstance(identity, tuple) else (identity, identity)
    how = resampling.over(a)
    rows: list[Result] = []
    for way, queries, gallery, of_gallery in (
        (f"{names[0]} → {names[1]}", a, b, codes[1]),
        (f"{names[1]} → {names[0]}", b, a, codes[0]),
    ):
        about = {"task": "retrieval", "target": way, "kind": "retrieval", "split": split}
        about["protocol"] = "retrieval"
        about["resampling"] = how.kind
        same = np.arange(len(a)) if of_gallery is None else np.asarray(of_gallery)
        _, inverse, counts = np.unique(same, return_inverse=True, return_counts=True)
        rank = ranks(queries, gallery, same, same).astype(np.float64)
        alone = _alone(how.codes, same)
        for k in (*ks, None):
            metric = _rank_metric(k)
            named = {**about, "metric": metric.name, "direction": metric.direction}
            if alone:
                counts_of = {"n": len(a), "subjects": how.num_subjects}
                rows.append(Result(method=method, note=alone, **counts_of, **named))  # type: ignore[arg-type]  # a literal held in a dict
                continue
            interval = how.sample(metric, [], [rank]).interval(how.level)
            rows.append(Result.of(interval, method=method, **named))
            if k is not None and len(a):
                value = chance_recall(counts[inverse], len(gallery), k)
                rows.append(Result(method="chance", value=value, n=len(a), **named))  # type: ignore[arg-type]  # a literal held in a dict
    return rows


def _alone(subjects: np.ndarray, items: np.ndarray) -> str:
    """Say why nothing can be retrieved: one person, or one item, is always found; else empty."""
    people, different = len(np.unique(subjects)), len(np.unique(items))
    if not people or (people > 1 and different > 1):
        return ""
    what = counted(people, "person", "people")
    if people > 1:
        what = f"{counted(different, 'item')} that differs"
    return f"not estimable: retrieval among {what}; it needs two at least"
