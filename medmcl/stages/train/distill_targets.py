"""What a stage learns from: embeddings that an earlier stage makes of its rows, as targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmcl.core.batch import distill_target
from medmcl.core.errors import MedmclError
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.stage import Context
from medmcl.stages.train.spec import TowersSpec, TrainSpec

if TYPE_CHECKING:
    from medmcl.core.batch import InputShape
    from medmcl.stages.run.run import Run

_FLAT = 1e-10
"""Variance, as a share of the mean square of a row, that is rounding."""

TeacherEmbeddings = dict[str, tuple[np.ndarray, np.ndarray]]
"""Target to its values for every sample, (N, E) float32, and which are known, (N, 1) bool."""


def teacher_widths(run: Run, spec: TowersSpec, shapes: Mapping[str, InputShape]) -> dict[str, int]:
    """Give the width of the features that a stage learns from, by modality; none without teacher.

    Args:
        run: The run: a joined teacher may lack stages.
        spec: The stage.
        shapes: Modality to the shape of its input.
    """
    if not isinstance(spec, TrainSpec) or spec.teacher is None:
        return {}
    towers = run.stage(spec.teacher).build(run.recipe, shapes, 0)
    return {name: towers.tower(name).facts.width for name in spec.towers if name in towers.towers}


def teacher_embeddings(spec: TrainSpec, prepared: Prepared, context: Context) -> TeacherEmbeddings:
    """Embed the train and tuning rows with the teacher that a stage has, undisturbed.

    Features are scaled so that the variances of their columns over train rows sum to 1.

    Raises:
        MedmclError: The teacher says the same of every record.
    """
    from medmcl.stages.run.run import embed_samples

    assert spec.teacher is not None  # who calls asks for one
    device = context.world.device
    towers = context.run.towers(spec.teacher, device)
    rows = np.flatnonzero(np.isin(prepared.splits, ["train", "tuning"]))
    found: TeacherEmbeddings = {}
    for name in spec.towers:
        if name not in towers.towers:
            continue
        known = np.zeros((len(prepared.splits), 1), dtype=bool)
        known[rows, 0] = prepared.index(name)[rows] >= 0
        for space in ("features", "pooled"):
            context.stop.check_interrupt(f"{spec.name}: embedding with {spec.teacher}")
            vectors = embed_samples(towers, prepared, name, rows, space, device)
            if space == "features":
                train = known[rows, 0] & (prepared.splits[rows] == "train")
                vectors = vectors / _deviation(vectors[train], spec, name)
            full = np.zeros((len(known), vectors.shape[1]), dtype=np.float32)
            full[rows] = vectors
            found[distill_target(name, space)] = (full, known)
    return found


def _deviation(vectors: np.ndarray, spec: TrainSpec, name: str) -> float:
    """Root of the variances of the columns, summed."""
    variance = float(vectors.var(axis=0, dtype=np.float64).sum()) if len(vectors) else 0.0
    if variance <= _FLAT * float(np.square(vectors, dtype=np.float64).sum() / max(len(vectors), 1)):
        raise MedmclError(
            "the teacher says the same of every record: there is nothing to learn from it",
            where=f"stage {spec.name}, teacher",
            got=f"{spec.teacher}, {name}: variance {variance:.3g} of {len(vectors):,} train rows",
        )
    return variance**0.5


def as_targets(
    teacher_embeddings_: TeacherEmbeddings, rows: np.ndarray
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Give the targets of some samples, and which of them are known."""
    values = {name: torch.from_numpy(full[rows]) for name, (full, _) in teacher_embeddings_.items()}
    known = {
        name: torch.from_numpy(has[rows]).expand(len(rows), full.shape[1])
        for name, (full, has) in teacher_embeddings_.items()
    }
    return values, known
