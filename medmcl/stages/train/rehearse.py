"""A stage as it would run on a GPU, without one: a step, a tuning loss, an embedding; and its size.

On the device that is not there (`medmcl.engine.absent_device`) a stage of any size takes seconds.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np

from medmcl.core.batch import distill_target
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.towers import Towers
from medmcl.engine.absent_device import Counts, Read, absent, move, undrawn
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Training
from medmcl.engine.optimiser import build_optimiser
from medmcl.engine.world import World
from medmcl.stages.run.run import embed_records, vector_width
from medmcl.stages.stage import Context
from medmcl.stages.train.distill_targets import TeacherEmbeddings, teacher_widths
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.train import (
    build_parts,
    depths_of,
    describe_geometry,
    loader,
    plan_of,
    tuning_batches,
)


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
