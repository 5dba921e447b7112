"""Rows that repeat: equal to the last bit, or so near that they are one thing said twice.

Medical reports repeat ("sinus rhythm, normal ECG"): what is flagged here is for the user to judge.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import MedmclError
from medmcl.selection.pools import Pool, Rows, full_precision

NEAR = 0.99
"""Cosine from which two rows are flagged."""
BLOCK = 2048


def exact_duplicates(rows: Rows | Sequence[str]) -> Tensor:
    """Find rows of equal content.

    Args:
        rows: Embeddings (N, D), compared bit by bit, or N texts, compared as they are.

    Returns:
        (N,) int64: the first row of the same content; a row's own number where none came before.
    """
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(mark, row) for row, mark in enumerate(_digests(rows))]
    return torch.tensor(first, dtype=torch.int64, device="cpu")


def near_duplicates(
    rows: Rows, threshold: float = NEAR, *, device: torch.device | str | None = None
) -> Tensor:
    """Find rows that are alike, exactly: every pair that could be is compared.

    Rows are ordered along the direction in which they vary most; two rows of cosine c differ by at
    most sqrt(2 - 2 c) along it, so that most pairs need no look. What is left grows with N squared:
    minutes for 100,000 rows on a CPU.

    Args:
        rows: Embeddings (N, D); may be memory-mapped.
        threshold: Cosine from which two rows are alike, in (0, 1].
        device: Where to compute; where the tensors are if not given.

    Returns:
        (N,) int64 on the CPU: the first row of its group; a row's own number where it is alone.
        Groups are chains: a and c may be in one because both are like b.

    Raises:
        MedmclError: If the threshold is out of range, or a row is NaN, infinite or zero.
    """
    if not 0 < threshold <= 1:
        raise MedmclError("a threshold of cosines must lie in (0, 1]", got=threshold)
    pool = Pool(rows, "rows", device)
    first = exact_duplicates(rows)
    own = (first == torch.arange(len(first), device="cpu")).nonzero().flatten()
    edges = [np.zeros((2, 0), dtype=np.int64)]
    if len(own) > 1:
        with full_precision(pool.device):
            edges += _alike(pool, own, threshold)
    label = _chains(np.concatenate(edges, axis=1), len(first))
    _, chief = np.unique(label, return_index=True)
    return torch.from_numpy(chief[label[first.numpy()]]).long()


def _alike(pool: Pool, own: Tensor, threshold: float) -> Iterator[np.ndarray]:
    """Give pairs of rows that say which are alike, (2, E) at a time: a chain for each group."""
    along = _along(pool)[own]
    order = along.argsort()
    own, place = own[order], along[order].tolist()
    reach = math.sqrt(max(0.0, 2 - 2 * threshold)) + 1e-4
    for i in range(0, len(own), BLOCK):
        here = own[i : i + BLOCK]
        rows = pool.take(here)
        last = place[i + len(here) - 1] + reach
        for j in range(i, len(own), BLOCK):
            if place[j] > last:
                break
            there = own[j : j + BLOCK]
            alike = rows @ (rows if i == j else pool.take(there)).T >= threshold
            left, right = np.nonzero((alike.triu(1) if i == j else alike).cpu().numpy())
            numbers = torch.cat([here, there]).numpy()
            label = _chains(np.stack([left, right + len(here)]), len(numbers))
            _, chief = np.unique(label, return_index=True)
            edges = np.stack([numbers[chief[label]], numbers])  # no more than rows, however alike
            yield edges[:, edges[0] != edges[1]]


def _chains(edges: np.ndarray, size: int) -> np.ndarray:
    """The number of each row's group where rows of an edge (2, E) are of one, (size,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1])


def _along(pool: Pool) -> Tensor:
    """Where each row lies along the direction of most variance, (N,) on the CPU."""
    total = torch.zeros(pool.width, dtype=torch.float64, device=pool.device)
    square = torch.zeros(pool.width, pool.width, dtype=torch.float64, device=pool.device)
    for at in pool.slices():
        block = pool.block(at)
        total += block.sum(0)
        square += block.T @ block
    mean = total / len(pool)
    direction = torch.linalg.eigh(square / len(pool) - mean.outer(mean)).eigenvectors[:, -1]
    return torch.cat([pool.block(at) @ direction.to(pool.dtype) for at in pool.slices()]).cpu()


def _digests(rows: Rows | Sequence[str]) -> Iterable[bytes]:
    if isinstance(rows, Tensor | np.ndarray):
        for start in range(0, len(rows), BLOCK):
            for row in _array(rows[start : start + BLOCK]) + 0:  # -0.0 becomes 0.0
                yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        return
    for text in rows:
        yield hashlib.blake2b(text.encode(), digest_size=16).digest()


def _array(part: Rows) -> np.ndarray:
    if isinstance(part, Tensor):
        part = part.detach().cpu()
        return (part.float() if part.dtype == torch.bfloat16 else part).numpy()
    return np.asarray(part)
