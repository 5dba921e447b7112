"""A stage as it would run on a GPU, without one: a step, a tuning loss, an embedding; and its size.

On the device that is not there (`medmcl.engine.absent_device`) a stage of any size takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, cast

import numpy as np
import torch

from medmcl.core.atomic import working_folder
from medmcl.core.batch import distill_target
from medmcl.core.errors import ContractError, MedmclError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.stand_in import stand_in
from medmcl.encoders.towers import Towers
from medmcl.engine.absent_device import Counts, Read, absent, move, undrawn
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Training
from medmcl.engine.optimiser import build_optimiser
from medmcl.engine.world import World
from medmcl.modalities.outside import raised_at
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import embed_records, vector_width
from medmcl.stages.run.training import idle_context
from medmcl.stages.stage import Context
from medmcl.stages.train.distill_targets import TeacherEmbeddings, teacher_widths
from medmcl.stages.train.parts import build_parts, loader, tuning_batches
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.train import depths_of, describe_geometry, plan_of


@dataclass(frozen=True)
class Footprint:
    """What a training step takes, by torch's own counters; memory without what kernels borrow.

    Attributes:
        rows: Rows of the batch.
        parameters: Of towers and objectives.
        flops: Of a step, forward and backward: what torch's counter knows (products, convolutions,
            attention).
        held: Bytes between steps: weights, buffers, gradients and the state of the optimiser.
        peak: Most bytes at any time of a step, what is held and the batch among them.
    """

    rows: int
    parameters: int
    flops: int
    held: int
    peak: int


def rehearse(
    spec: TrainSpec,
    prepared: Prepared,
    context: Context,
    reads: Read,
    *,
    batch_size: int | None = None,
    steps: int = 2,
    only_trains: bool = False,
) -> Footprint:
    """Take steps, the tuning loss of a batch, and embed a batch of each modality.

    Args:
        spec: The stage.
        prepared: Its cohort, real or standing in (`medmcl.data.loading.stand_in`).
        context: Of the run; its precision and seed are read.
        reads: Asked whenever the host asks for values (`medmcl.engine.absent_device.absent`).
        batch_size: Rows of a batch; those of the stage if not given.
        steps: The last is counted; of one step the optimiser has no state before.
        only_trains: Whether nothing follows the steps.

    Raises:
        HostRead: Or torch's own errors, for what a GPU would refuse or be waited for.
    """
    if batch_size is not None:
        spec = spec.model_copy(update={"batch_size": batch_size})
    with undrawn():
        parts = build_parts(spec, prepared, context, is_trained=True)
        untaught = _untaught(spec, prepared, context)
    plan, learner = plan_of(spec, len(parts.sampler), context), parts.learner
    load = loader(spec, prepared, untaught, parts, None)
    tuning = tuning_batches(spec, prepared, parts.sampler.batch_size, parts.groups)[:1]
    feed = Feed(
        sampler=parts.sampler, load=load, tuning=tuning, selector=parts.selector, probe=parts.probe
    )
    rows = next(iter(parts.sampler(0)))
    if batch_size is not None:
        rows = np.resize(rows, batch_size)
    with ExitStack() as stack:
        counted = Counts()
        world = World(device=stack.enter_context(absent(reads, counted)))
        move(learner, world.device)
        training = Training(
            learner=learner,
            feed=feed,
            views=parts.views,
            plan=plan,
            world=world,
            optimiser=build_optimiser(learner, plan.optimiser, depths_of(learner)),
            describe=describe_geometry,
        )
        flops = 0
        for _ in range(steps):
            counted.begin()
            training.step(rows, load(rows))
            flops, peak = counted.flops, counted.peak
        training.outcomes.settle(training.state, plan.tenth)
        held = counted.now
        if not only_trains:
            training.tuning_loss()
            if parts.probe is not None:
                training.encode_probe()
            for name in spec.towers:
                records = np.arange(min(len(rows), len(prepared.inputs(name))))
                towers = cast(Towers, learner.model)
                embed_records(towers, prepared, name, records, "pooled", world.device)
    return Footprint(
        rows=len(rows),
        parameters=sum(p.numel() for p in learner.parameters()),
        flops=flops,
        held=held,
        peak=peak,
    )


def _untaught(spec: TrainSpec, prepared: Prepared, context: Context) -> TeacherEmbeddings:
    """Zeros where the embeddings of a teacher will stand."""
    if spec.teacher is None:
        return {}
    shapes = {name: adapter.input_shape for name, adapter in prepared.adapters.items()}
    teacher = context.run.stage(spec.teacher).build(context.run.recipe, shapes, 0)
    found: TeacherEmbeddings = {}
    for name in teacher_widths(context.run, spec, shapes):
        known = (prepared.index(name) >= 0)[:, None]
        for space in ("features", "pooled"):
            width = vector_width(teacher, name, space)
            found[distill_target(name, space)] = (np.zeros((len(known), width), np.float32), known)
    return found


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
            context = idle_context(folder, recipe, precision)
            full = spec.model_copy(update={"length_groups": None})  # the one record may be short
            own = (full, prepared.for_learning, context, plausible)
            size = spec.batch_size
            sizes = (size, size // 2 if size > 3 else 2 * size)  # of one row is no loss
            try:
                whole, other = (rehearse(*own, batch_size=r, only_trains=True) for r in sizes)
            except MedmclError:
                raise
            except Exception as error:  # what torch raises of parts that medmcl does not know
                raise ContractError(
                    "what a step takes of a GPU cannot be counted: a part of it needs the numbers",
                    where=f"stage {spec.name}",
                    got=raised_at(error),
                    fix="try it on the card, or leave out --gpu",
                ) from error
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
