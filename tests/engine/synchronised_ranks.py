"""One rank of two: a step with batch norm over all ranks' rows, against one process on all rows.

Started by test_synchronised.py as a process of its own: ``python synchronised_ranks.py FOLDER``,
with RANK and WORLD_SIZE set. Writes what it found to ``FOLDER/rank-N.json``.

torch's synchronised batch norm computes on GPUs only. `OnCpu` stands in for it: it keeps its
statistics over the rows of all ranks by sums that are collectives, forward and backward.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from made_batches import batch_of
from made_targets import targets_of
from torch import nn

from medmcl.core.batch import InputShape
from medmcl.encoders import Towers
from medmcl.engine.distributed import World, barrier, start_world, stop_world, wrap
from medmcl.engine.gradient_cache import accumulate, average_gradients, join
from medmcl.engine.loop import Learner
from medmcl.objectives import build_objective

ROWS, FIRST = 11, 6
PARTS = 2
SHAPES = {
    "ecg": InputShape(kind="ecg", shape=(2, 24)),
    "cmr": InputShape(kind="cmr", shape=(2, 8, 8)),
}
HEAD = {"hidden": 8, "out": 4, "norm": "batch"}
TOWERS = {
    "ecg": {"encoder": {"name": "resnet1d", "widths": [6, 8], "kernel": 3}, "head": HEAD},
    "cmr": {
        "encoder": {
            "name": "cine",
            "frame": {"widths": [6, 8], "norm": "batch"},
            "width": 8,
            "heads": 2,
        },
        "head": HEAD,
    },
}
MIX = {
    "align": ("cross_modal", {"view": "plain", "scale": {"init": 5.0}}, 1.0),
    "ecg_labels": ("supervised", {"view": "plain", "task": "labels", "modalities": "ecg"}, 1.0),
    "cmr_numbers": ("supervised", {"view": "plain", "task": "numbers", "modalities": "cmr"}, 0.5),
}
ALL, ON_FIRST = [1] * ROWS, [1] * FIRST + [0] * (ROWS - FIRST)
CASES = {
    "everybody": (MIX, {"ecg": ALL, "cmr": ALL}, False),
    "cmr on rank 0 only": (MIX, {"ecg": ALL, "cmr": ON_FIRST}, False),
    "nothing on rank 1": (MIX, {"ecg": ON_FIRST, "cmr": ON_FIRST}, False),
    "cmr nowhere": (MIX, {"ecg": ALL, "cmr": [0] * ROWS}, False),
    "one cmr on rank 1": (MIX, {"ecg": ALL, "cmr": [0] * (ROWS - 1) + [1]}, False),
    "no row on rank 1": (MIX, {"ecg": ALL, "cmr": [1, 0] * 5 + [1]}, True),
    "labels on rank 0 only": ({"ecg_labels": MIX["ecg_labels"]}, {"ecg": ALL, "cmr": ALL}, False),
}


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, grad):
        total = grad.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


class OnCpu(nn.SyncBatchNorm):
    """Batch norm over all ranks, on CPUs."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.num_batches_tracked += 1
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = x.new_full((1,), x.numel() // x.shape[1])
        sums = torch.cat([x.sum(axes), (x * x).sum(axes), count])
        total = _SumOverRanks.apply(sums, self.process_group)
        number = total[-1].detach()
        mean, square = total[:-1].chunk(2)
        mean, square = mean / number, square / number
        variance = square - mean**2
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * number / (number - 1), self.momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = self.weight / (variance + self.eps).sqrt()
        return x * scale.reshape(shape) + (self.bias - mean * scale).reshape(shape)


def on_cpu(module, group):
    """Replace every batch norm by its stand-in, as `wrap` does with torch's on GPUs."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            norm = OnCpu(child.num_features, child.eps, child.momentum, process_group=group)
            norm.weight, norm.bias = child.weight, child.bias
            for buffer in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(norm, buffer, getattr(child, buffer))
            setattr(module, name, norm)
        else:
            on_cpu(child, group)


def make_tasks(known_on_first):
    rng = np.random.default_rng(3)
    known = np.ones((ROWS, 1), bool)
    if known_on_first:
        known[FIRST:] = False
    labels = np.where(known, rng.random((ROWS, 1)) < 0.5, 0).astype(float)
    labels[:2] = [[0.0], [1.0]]
    numbers = rng.normal(50, 9, (ROWS, 1))
    return {
        "labels": targets_of("binary", labels, known, name="labels"),
        "numbers": targets_of("regression", numbers, name="numbers"),
    }


def make_batch(presence, tasks):
    generator = torch.Generator(device="cpu").manual_seed(0)
    return batch_of(
        {
            name: torch.randn(
                (ROWS, *shape.shape), generator=generator, dtype=torch.float64, device="cpu"
            )
            for name, shape in SHAPES.items()
        },
        presence,
        targets={n: torch.tensor(t.values, device="cpu").float() for n, t in tasks.items()},
        known={n: torch.tensor(t.known, device="cpu") for n, t in tasks.items()},
    )


def make_learner(mix, tasks):
    torch.manual_seed(1)
    towers = Towers.build(SHAPES, TOWERS)
    shape = towers.shape(SHAPES, tasks)
    objectives = {
        name: build_objective(kind, given, shape) for name, (kind, given, _) in mix.items()
    }
    return Learner(
        towers, objectives, {name: weight for name, (*_, weight) in mix.items()}
    ).double()


def step(module, batch, world):
    loss, terms = module({"plain": batch}, batch, world)
    loss.backward()
    return loss.item(), sorted(terms)


def compare(case, world):
    """Take one step on all ranks and one alone on all rows; give how far apart they are."""
    mix, presence, nobody_on_second = CASES[case]
    tasks = make_tasks(known_on_first=case.startswith("labels"))
    alone = make_learner(mix, tasks)
    shared = copy.deepcopy(alone)
    with warnings.catch_warnings(action="ignore"):  # of batch norm on CPU ranks, which ends here
        module = wrap(shared, world)
    on_cpu(shared, world.group)  # DDP itself refuses synchronised norms that are not on a GPU
    batch = make_batch(presence, tasks)
    cut = ROWS if nobody_on_second else FIRST
    rows = torch.arange(ROWS, device="cpu").tensor_split([cut])[world.rank]
    loss, terms = step(alone, batch, World())
    shared_loss, shared_terms = step(module, batch[rows], world)
    found = _apart(shared, alone)
    return {"loss": abs(loss - shared_loss), "terms": terms == shared_terms, **found}


def _apart(shared, alone):
    """How far gradients and running statistics are apart."""
    gradient = max(
        (_or_zeros(ours) - _or_zeros(theirs)).abs().max().item()
        for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True)
    )
    statistics = max(
        (ours - theirs).abs().max().item()
        for (name, ours), theirs in zip(shared.named_buffers(), alone.buffers(), strict=True)
        if "running" in name
    )
    largest = max(_or_zeros(p).abs().max().item() for p in alone.parameters())
    return {"gradient": gradient / largest, "statistics": statistics}


def compare_in_parts(case, world):
    """The same with each rank's rows in parts; alone, a part is that of all ranks together."""
    mix, presence, nobody_on_second = CASES[case]
    tasks = make_tasks(known_on_first=case.startswith("labels"))
    alone = make_learner(mix, tasks)
    shared = copy.deepcopy(alone)
    on_cpu(shared, world.group)
    batch = make_batch(presence, tasks)
    cut = ROWS if nobody_on_second else FIRST
    ranks = torch.arange(ROWS, device="cpu").tensor_split([cut])
    parts = [torch.cat(part) for part in zip(*(r.tensor_split(PARTS) for r in ranks), strict=True)]
    turned = batch[torch.cat(parts)]
    encoded = join([alone.model(batch[rows]) for rows in parts], turned)
    loss, _ = alone.charge({"plain": encoded}, turned, World())
    loss.backward()
    own = batch[ranks[world.rank]]
    shared_loss, _ = accumulate(
        shared.model, lambda seen: shared.charge(seen, own, world), {"plain": own},
        parts=PARTS, key=(0, world.rank), autocast=nullcontext,
    )  # fmt: skip
    average_gradients(shared, world)
    return {"loss": abs(loss.item() - shared_loss.item()), **_apart(shared, alone)}


def _or_zeros(parameter):
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def main(folder):
    torch.set_num_threads(1)
    world = start_world("cpu", init_method=f"file://{folder}/rendezvous")
    found = {name: compare(name, world) for name in CASES}
    found["in parts"] = {name: compare_in_parts(name, world) for name in CASES}
    barrier(world)
    stop_world(world)
    (folder / f"rank-{world.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
