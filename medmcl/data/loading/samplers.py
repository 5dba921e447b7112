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
