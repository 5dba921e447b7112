"""Which samples make a batch: a pure function of (seed, epoch), so a resumed run needs no state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.rng import numpy_generator


class UniformSampler:
    """Shuffle subjects; each gives one of its samples an epoch, drawn at random.

    No two rows of a batch come from one subject, so a contrastive loss never pushes a person's
    records apart as negatives. The last, incomplete batch is left out.

    Args:
        rows: Sample numbers to draw from, (N,).
        subjects: Subject code of each of those rows, (N,).
        batch_size: Rows of a batch; the number of subjects if there are fewer.
        seed: Seed of the run.
    """

    def __init__(
        self, rows: np.ndarray, subjects: np.ndarray, *, batch_size: int, seed: int
    ) -> None:
        if len(rows) == 0:
            raise CohortError(
                "there is no sample to train on",
                expected="at least one subject of the train split with the modalities asked for",
                fix="see `medmcl check`: splits, presence of the modalities, excluded records",
            )
        order = np.argsort(subjects, kind="stable")
        self.rows = np.asarray(rows)[order]
        _, self.starts, self.counts = np.unique(
            np.asarray(subjects)[order], return_index=True, return_counts=True
        )
        self.batch_size = min(batch_size, len(self.starts))
        self.seed = seed

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.starts) // self.batch_size

    def __call__(self, epoch: int) -> Iterator[np.ndarray]:
        """Give the batches of one epoch, each (batch_size,) sample numbers."""
        generator = numpy_generator(self.seed, "sampler", epoch)
        chosen = self.starts + generator.integers(0, self.counts)
        shuffled = self.rows[generator.permutation(chosen)]
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            yield shuffled[first : first + self.batch_size]


class WithinGroupSampler:
    """Deal the rows of every group into batches; every row is in one batch of an epoch.

    A group of n rows makes ceil(n / ``batch_size``) batches, as even as can be, so none is much
    smaller than the others of its group. Batches of all groups come in a random order. Rows of one
    subject go to different batches, so a contrastive loss never pushes a person's records apart;
    of a subject with more rows in a group than the group has batches, the surplus, drawn anew each
    epoch, waits. Which batch holds what depends on seed and epoch only; the engine deals each
    batch over the ranks, so ranks part an epoch exactly.

    Args:
        rows: Sample numbers to draw from, (N,).
        subjects: Subject code of each of those rows, (N,).
        groups: Group of each of those rows, (N,) int64.
        batch_size: The most rows of a batch; of 2, one more where a row would be left alone.
        seed: Seed of the run.

    Raises:
        CohortError: No group has two subjects: there would be no negative.

    Source:
        Zhang et al. 2024, arXiv 2402.11816. Differs from the authors' code: ranks part the data
        where theirs each shuffle for themselves; no group is dropped for being smaller than a
        batch of all ranks; groups are not visited in turn, so an epoch does not end in the largest.
    """

    def __init__(
        self,
        rows: np.ndarray,
        subjects: np.ndarray,
        groups: np.ndarray,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        rows, subjects, groups = (np.asarray(one) for one in (rows, subjects, groups))
        self.seed = seed
        self.groups: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Group to its rows and their subjects."""
        self.alone = 0
        """Rows of groups with one subject, which are in no batch."""
        for group in np.unique(groups):
            own = groups == group
            if len(np.unique(subjects[own])) < 2:
                self.alone += int(own.sum())
                continue
            self.groups[int(group)] = (rows[own], subjects[own])
        if not self.groups:
            raise CohortError(
                "no group has two subjects, so there would be no negative in any batch",
                got=f"{len(rows)} rows in {len(np.unique(groups))} groups",
                expected="groups of several subjects of the train split",
                fix="fewer clusters, or fewer columns",
            )
        largest = max(len(np.unique(theirs)) for _, theirs in self.groups.values())
        self.batch_size = min(batch_size, largest)
        self._counts = {
            group: batches_of(np.unique(theirs, return_counts=True)[1], self.batch_size)
            for group, (_, theirs) in self.groups.items()
        }

    def __len__(self) -> int:
        """Batches of an epoch."""
        return sum(self._counts.values())

    def __call__(self, epoch: int) -> Iterator[np.ndarray]:
        """Give the batches of one epoch: sample numbers of one group, each (2 to batch_size,)."""
        generator = numpy_generator(self.seed, "within_group", epoch)
        batches: list[np.ndarray] = []
        for group, (own, subjects) in self.groups.items():
            batches += _deal(own, subjects, self._counts[group], generator)
        for number in generator.permutation(len(batches)):
            yield batches[number]

    @property
    def waiting(self) -> int:
        """Rows that are in no batch of an epoch, as their subject is in every batch already."""
        left = 0
        for group, (_, subjects) in self.groups.items():
            records = np.unique(subjects, return_counts=True)[1]
            left += int(np.maximum(records - self._counts[group], 0).sum())
        return left


def batches_of(records: np.ndarray, batch_size: int) -> int:
    """Give the batches that a group makes, each of two rows at least and no two of one subject.

    Args:
        records: Records of each subject, (S,); two subjects at least.
        batch_size: The most rows of a batch, two at least.
    """
    count = -(-int(records.sum()) // batch_size)
    while count > 1:
        dealt = int(np.minimum(records, count).sum())
        fewer = min(-(-dealt // batch_size), dealt // 2)
        if fewer >= count:
            break
        count = max(fewer, 1)
    return count


def _deal(
    rows: np.ndarray, subjects: np.ndarray, count: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Deal rows in turn, those of a subject one after the other: no two to one batch."""
    names, code = np.unique(subjects, return_inverse=True)
    turn = generator.permutation(len(names))[code]
    order = np.lexsort((generator.random(len(rows)), turn))
    firsts = np.searchsorted(turn[order], turn[order], side="left")
    order = order[np.arange(len(order)) - firsts < count]
    return [rows[order[batch::count]] for batch in range(count)]
