"""The artefact `Groups`: which rows of a cohort share what was learned already, or a confounder.

Groups too small for a batch join the nearest one, and nobody is dropped. Whether another stage of
clusters is worth its time shows in what it adds to those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medmcl.core.cohort_rows import read_rows, write_rows
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError
from medmcl.grouping.clusters import unit_rows

SCHEMA = "medmcl/groups@1"
NOWHERE = -1
"""Group of a row that is in none."""
_LOOKED_AT = 4000
_RIDGE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Rows of a cohort to integers.

    Attributes:
        ids: Of each row, (N,), each once.
        groups: Group of each row, from which batches are made, (N,) int64.
        labels: Accumulated label of each row, before small groups were merged, (N,) int64.
        clusters: Cluster of each row in this stage, (N,) int64.
        cohort: Fingerprint of the cohort the ids are of.
        provenance: Plain JSON values: stage, modality, K, seed, what came before.
    """

    kept_in: ClassVar[str] = "groups"

    ids: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    cohort: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", np.asarray(self.ids).astype(str))
        for name in ("groups", "labels", "clusters"):
            value = np.asarray(getattr(self, name))
            if value.shape != self.ids.shape or value.dtype.kind not in "iu":
                raise ArtefactError(
                    f"'{name}' must be a whole number for each row",
                    got=f"{value.dtype}, shape {value.shape}",
                    expected=f"shape {self.ids.shape}",
                )
            object.__setattr__(self, name, value.astype(np.int64))
        if len(np.unique(self.ids)) < len(self.ids):
            raise ArtefactError("an id stands twice", expected="each once")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Short hash of who is in which group, label and cluster, of which cohort."""
        parts = (self.ids, self.groups, self.labels, self.clusters)
        rows = sorted(zip(*(part.tolist() for part in parts), strict=True))
        return fingerprint([self.cohort, rows])

    def of(self, ids: Sequence[Any], field_name: str = "groups") -> np.ndarray:
        """Give a number of each of ``ids``, (N,) int64; `NOWHERE` where it is not in any group."""
        values = getattr(self, field_name).tolist()
        known = dict(zip(self.ids.tolist(), values, strict=True))
        return np.array([known.get(str(one), NOWHERE) for one in ids], dtype=np.int64)

    def save(self, path: Path) -> None:
        """Write a parquet file (sample, group, label, cluster), whole or not at all."""
        columns = {
            "sample": self.ids.tolist(),
            "group": self.groups,
            "label": self.labels,
            "cluster": self.clusters,
        }
        about = {"schema": SCHEMA, "cohort": self.cohort, "provenance": dict(self.provenance)}
        write_rows(path, columns, about)

    @classmethod
    def load(cls, path: Path | str, cohort: str | None = None) -> Groups:
        """Read what `save` wrote.

        Args:
            path: The file.
            cohort: Fingerprint of the cohort that it must be of; any if not given.

        Raises:
            ArtefactError: It is missing, damaged, no groups file, or of another cohort.
        """
        names = ("sample", "group", "label", "cluster")
        table, about = read_rows(path, SCHEMA, "groups file", names, cohort)
        groups, labels, clusters = (table.column(name).to_numpy() for name in names[1:])
        return cls(
            ids=np.array(table.column("sample").to_pylist()),
            groups=groups,
            labels=labels,
            clusters=clusters,
            cohort=about["cohort"],
            provenance=about["provenance"],
        )


def accumulate(before: np.ndarray, clusters: np.ndarray, number: int) -> np.ndarray:
    """Give the label of each row over all partitions so far: y = K y_before + c, (N,) int64.

    Args:
        before: Labels of the stages before, (N,); zeros before the first.
        clusters: Cluster in this stage, 0 to K - 1, (N,); a negative one gives `NOWHERE`.
        number: K of this stage.

    Source:
        Zhang et al. 2024, arXiv 2402.11816. Differs from the authors' code, which adds up the
        clusters of the last stage over and over, so that only the last partition counts.
    """
    label = before.astype(np.int64) * number + clusters.astype(np.int64)
    return np.where((before < 0) | (clusters < 0), NOWHERE, label)


def product(parts: Sequence[np.ndarray], numbers: Sequence[int]) -> np.ndarray:
    """Give the cluster of each row in several partitions at once, (N,) int64.

    Args:
        parts: Cluster of each row in each partition, (N,) each.
        numbers: Clusters of each partition.
    """
    found = np.zeros(len(parts[0]), dtype=np.int64)
    for one, number in zip(parts, numbers, strict=True):
        found = accumulate(found, one, number)
    return found


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


def share_below(labels: np.ndarray, smallest: int) -> float:
    """Give the share of rows that lie in groups of fewer than ``smallest`` rows, 0 to 1."""
    _, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return float((sizes[own] < smallest).mean())


def added(new: np.ndarray, before: np.ndarray, seed: int) -> float:
    """Give the share of a stage's embedding that no linear map of earlier ones gives.

    A ridge regression is fitted on half of at most 4,000 rows and judged on the other half.

    Args:
        new: Embeddings of the stage, (N, D).
        before: Those of the stages before it, side by side, (N, E).
        seed: Of the halves.

    Returns:
        1 - R squared over all columns together, cut to 0 and 1: 0 = the stage adds nothing that is
        not there already, 1 = it has nothing in common with them.
    """
    order = np.random.default_rng(seed).permutation(len(new))[:_LOOKED_AT]
    fit, judge = order[: len(order) // 2], order[len(order) // 2 :]
    x = (before - before[fit].mean(axis=0)) / np.maximum(before[fit].std(axis=0), 1e-8)
    y = new - new[fit].mean(axis=0)
    gram = x[fit].T @ x[fit] + _RIDGE * len(fit) * np.eye(x.shape[1])
    left = y[judge] - x[judge] @ np.linalg.solve(gram, x[fit].T @ y[fit])
    total = float((y[judge] ** 2).sum())
    return float(np.clip((left**2).sum() / total, 0.0, 1.0)) if total > 0 else 0.0
