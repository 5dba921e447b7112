"""Which GPU a recipe needs: what a step of each of its stages computes and holds, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch

from medmcl.core.atomic import working_folder
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.stand_in import stand_in
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context
from medmcl.stages.train.rehearse import Footprint, rehearse
from medmcl.stages.train.spec import TrainSpec

CARDS_GB = (16, 24, 40, 80)
"""Memory of GPUs, in GB (10^9 bytes)."""
KEPT_GB = 1.5
"""Of it, what the driver and the libraries take, and what kernels borrow; an assumption."""


@dataclass(frozen=True)
class StageFootprint:
    """A stage by its name, at the batch of the recipe and at another, by which memory grows."""

    stage: str
    whole: Footprint
    other: Footprint

    @property
    def bytes_per_row(self) -> float:
        """Bytes that one more row of a batch takes at the peak."""
        return (self.whole.peak - self.other.peak) / (self.whole.rows - self.other.rows)

    def rows_in(self, memory_gb: float) -> int:
        """Rows of the largest batch that fits; along a line through both batches that were seen."""
        room = 1e9 * (memory_gb - KEPT_GB) - self.whole.peak
        return max(0, int(self.whole.rows + room / self.bytes_per_row))


def plausible(x: torch.Tensor, asked_by: str) -> np.ndarray:
    """Values of a tensor that has none: every flag is up, but of faults; every number is 1."""
    kind = {torch.bool: bool, torch.int64: np.int64}.get(x.dtype, np.float32)
    sound = asked_by.startswith("medmcl.selection.pools.")
    return np.full(tuple(x.shape), not sound, dtype=kind)


def alike(spec: TrainSpec, recipe: RecipeSpec) -> str:
    """Give what stages that compute alike have in common: all but names, sources and rates."""
    apart = ("name", "start_from", "vectors", "restart", "without_fold", "label_fraction", "folds",
             "selected_by", "poisoned_by", "steps", "epochs", "keep", "log_every", "patience",
             "evaluate_every", "draw", "for_each", "exceptions")  # fmt: skip
    rates = {"lr", "weight_decay", "betas", "layer_decay", "warmup", "min_lr", "schedule"}
    own = spec.model_dump_json(exclude={**dict.fromkeys(apart, True), "optimiser": rates})
    return own + repr([recipe.inputs, recipe.towers, recipe.shared, recipe.views])


def footprints(
    cohort: Cohort, recipe: RecipeSpec, precision: str, seen: set[str] | None = None
) -> Iterator[StageFootprint]:
    """Give the footprint of each train stage; of stages that compute alike, of one.

    Args:
        cohort: Of its records one of each modality is read.
        recipe: As it is for the cohort, of single stages.
        precision: ``fp32`` or ``bf16``.
        seen: Stages that are left out, by what computes alike; these are added.
    """
    seen = set() if seen is None else seen
    stages = {alike(one, recipe): one for one in recipe.stages if isinstance(one, TrainSpec)}
    stages = {key: one for key, one in stages.items() if key not in seen}
    seen |= stages.keys()
    prepared = stand_in(cohort, recipe.inputs) if stages else None
    if prepared is None:
        return
    with working_folder(Path(gettempdir()) / "medmcl-footprint") as folder:
        for spec in stages.values():
            config = {"seed": 0, "precision": precision}
            context = Context(run=Run.begun(folder, config, recipe), world=World(),
                              record=Record(folder, active=False), stop=StopRequest())  # fmt: skip
            full = spec.model_copy(update={"length_groups": None})  # the one record may be short
            own = (full, prepared.for_learning, context, plausible)
            size = spec.batch_size
            whole, other = (
                rehearse(*own, batch_size=rows, only_trains=True)
                for rows in (size, size // 2 if size > 3 else 2 * size)  # of one row is no loss
            )
            yield StageFootprint(spec.name, whole, other)


def as_row(one: StageFootprint) -> dict[str, Any]:
    """Give a footprint as a row of a table: numbers with their units in the names."""
    return {
        "stage": one.stage,
        "rows": one.whole.rows,
        "parameters": one.whole.parameters,
        "gflop": round(one.whole.flops / 1e9, 1),
        "held_mb": round(one.whole.held / 1e6, 1),
        "peak_mb": round(one.whole.peak / 1e6, 1),
        "row_mb": round(one.bytes_per_row / 1e6, 3),
        **{f"fits_{card}": one.rows_in(card) for card in CARDS_GB},
    }
