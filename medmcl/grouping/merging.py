"""Groups too small for a batch join the nearest one; nobody is dropped."""

from __future__ import annotations

import numpy as np

from medmcl.grouping.clusters import unit_rows


def merge_small(
    vectors: np.ndarray, labels: np.ndarray, smallest: int, parents: np.ndarray | None = None
) -> np.ndarray:
    """Join groups of fewer than ``smallest`` rows to the nearest, the smallest group first.

    Args:
        vectors: Embedding of each row, (N, D); the nearness of groups is the cosine of their
            means.
        labels: Group of each row, (N,) int64.
        smallest: Rows that a group must have, unless all rows together are fewer.
        parents: Group of each row one stage earlier, (N,): a group joins one of its own parent if
            there is one, since its rows share what earlier stages learned.

    Returns:
        Group of each row after joining, (N,) int64: always one of the values of ``labels``.
    """
    names, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    unit = unit_rows(vectors)
    sums = np.zeros((len(names), unit.shape[1]))
    np.add.at(sums, own, unit)
    parent = np.zeros(len(names), dtype=np.int64)
    if parents is not None:
        parent[own] = np.unique(parents, return_inverse=True)[1]
    sizes = sizes.astype(np.int64)
    becomes = np.arange(len(names))
    alive = np.ones(len(names), dtype=bool)
    while alive.sum() > 1:
        living = np.flatnonzero(alive)
        least = living[np.argmin(sizes[living])]
        if sizes[least] >= smallest:
            break
        others = living[living != least]
        kin = others[parent[others] == parent[least]]
        others = kin if len(kin) else others
        means = sums[others] / np.maximum(np.linalg.norm(sums[others], axis=1), 1e-12)[:, None]
        target = others[np.argmax(means @ sums[least])]
        sums[target] += sums[least]
        sizes[target] += sizes[least]
        alive[least] = False
        becomes[becomes == least] = target
    return np.asarray(names[becomes[own]], dtype=np.int64)


def pool_small(labels: np.ndarray, smallest: int) -> np.ndarray:
    """Pool groups of fewer than ``smallest`` rows into one; where that is small, into the least.

    For groups between which there is no nearness, as those of columns. The pool takes the label of
    the first of the groups in it.
    """
    names, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(names)), sizes))
    pooled: list[int] = []
    for group in order:
        total = int(sizes[pooled].sum())
        if sizes[group] >= smallest and (not pooled or total >= smallest):
            break
        pooled.append(int(group))
    becomes = np.arange(len(names))
    if pooled:
        becomes[pooled] = min(pooled)
    return np.asarray(names[becomes[own]])
