"""Folds of subjects, so that every pair can be scored by a teacher that never saw its subject.

A fold depends on seed and subject id only: the same in every process, and in every cohort that has
the subject.
"""

from __future__ import annotations

import numpy as np

from medmcl.core.rng import derive_seed
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.train.spec import TrainSpec


def folds_of(prepared: Prepared, folds: int, seed: int) -> np.ndarray:
    """Give the fold of each sample's subject, 0 to ``folds`` - 1, (N,) int64."""
    names = prepared.samples["subject"].astype(str)
    drawn = {one: derive_seed(seed, "fold", one) % folds for one in names.unique()}
    return names.map(drawn).to_numpy(np.int64)


def without_fold(rows: np.ndarray, spec: TrainSpec, prepared: Prepared, seed: int) -> np.ndarray:
    """Leave the rows of the fold out that a stage trains without; all rows if it names none."""
    if spec.without_fold is None:
        return rows
    return rows[folds_of(prepared, spec.folds, seed)[rows] != int(spec.without_fold)]
