"""One rank of two (or more): trains one step with its part of the rows, and compares.

Started by test_distributed.py as a process of its own: ``python two_ranks.py FOLDER``, with RANK
and WORLD_SIZE set. Writes what it found to ``FOLDER/rank-N.json``.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import judged_pairs
import numpy as np
import torch
from made_targets import targets_of
from sharded_ranks import check_sharded
from shared_rank import CASES, compare_shared, gradients_apart
from torch import nn
from torch.nn import functional

from medmcl.core import host
from medmcl.core.batch import GROUPS, Batch, Embeddings, InputShape, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import MedmclError
from medmcl.engine import gathering
from medmcl.engine.distributed import (
    World,
    any_rank,
    barrier,
    broadcast,
    charge,
    gather_embeddings,
    gather_rows,
    start_world,
    stop_world,
    wrap,
)
from medmcl.engine.gradient_cache import accumulate, average_gradients
from medmcl.engine.probe_hooks import watch
from medmcl.engine.selecting import keep_rows
from medmcl.engine.state import Progress
from medmcl.engine.world import own_part
from medmcl.objectives import build_objective
from medmcl.objectives.pairwise import contrastive, tiles

PARTS = 3
"""In which a rank encodes its rows, where it does."""
ROWS, FIRST = 13, 8
"""Rows of the global batch, and how many of them rank 0 usually holds."""
CUTS = {1: (), 2: (FIRST,), 3: (5, FIRST)}
"""Number of ranks to the rows at which the batch is cut."""
LEADS, SAMPLES, PATCH, WIDTH, SHARED = 2, 12, 3, 8, 6
TOKENS = LEADS * SAMPLES // PATCH
VISIBLE = 3
MODALITIES = ("ecg", "cmr", "report")
VIEWS = ("augmented", "augmented_2", "masked")

PATCHY = {
    "ecg": [1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 0],
    "cmr": [1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 1, 0],
    "report": [0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1],
}
PRESENCE = {
    "everybody": {name: [1] * ROWS for name in MODALITIES},
    "patchy": PATCHY,
    "one pair only on rank 0": {
        "ecg": [1] * ROWS,
        "cmr": [1] * FIRST + [0] * (ROWS - FIRST),
        "report": [1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1],
    },
    "nothing on rank 1": {name: [1] * FIRST + [0] * (ROWS - FIRST) for name in MODALITIES},
    "no row on rank 1": PATCHY,
    "dropped in one view, not in another": {
        **PATCHY,
        "drops": {"augmented": "ecg", "augmented_2": "cmr", "masked": "report"},
    },
    "negatives of a row's own group": {
        **PATCHY,
        "cmr": [1] * ROWS,
        "groups": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 5, 0],
    },
    "one modality nowhere": {"ecg": [1] * ROWS, "cmr": [0] * ROWS, "report": [1] * ROWS},
}
SCALE = {"init": 5.0, "learned": True}
MIX = {
    "align": ("cross_modal", {"scale": SCALE, "weight": 0.3}, 1.0),
    "siglip": ("cross_modal", {"loss": "siglip", "pairs": {"star": "ecg"}, "scale": SCALE}, 0.5),
    "in": ("in_modal", {"modality": "ecg", "scale": SCALE}, 0.7),
    "rebuild": (
        "masked",
        {"modality": "ecg", "decoder": {"width": 8, "depth": 1, "heads": 2}, "ncc_weight": 0.4},
        1.5,
    ),
    "rebuild_hidden": (
        "masked",
        {"modality": "cmr", "decoder": {"width": 8, "depth": 1, "heads": 2}, "over": "masked"},
        0.5,
    ),
    "labels": ("supervised", {"task": "multilabel", "modalities": "ecg"}, 1.0),
    "classes": (
        "supervised",
        {"task": "multiclass", "modalities": "cmr", "class_weights": "balanced",
         "label_smoothing": 0.1},
        1.0,
    ),
    "numbers": (
        "supervised",
        {"task": "regression", "modalities": ["ecg", "cmr"], "pooling": "attention", "heads": 2},
        1.0,
    ),
    "tree": ("cross_modal", {"pairs": {"learn": "tree"}, "min_rows": 2, "scale_per_pair": True,
                             "scale": SCALE}, 1.0),
    "symile": ("symile", {"scale": SCALE}, 0.5),
    "gram": ("gram", {"scale": SCALE}, 0.5),
    "centre": ("centrobind", {"scale": SCALE}, 0.5),
    "distil": ("distil", {"view": "augmented_2", "relations": 2.0}, 0.5),
    "hazard": ("supervised", {"task": "survival", "modalities": "ecg", "pooling": "mean"}, 1.0),
}  # fmt: skip


class Towers(nn.Module):
    """Linear towers that compute present rows only; without any, nothing of them is used."""

    def __init__(self):
        super().__init__()
        self.cut = nn.ModuleDict({m: nn.Linear(PATCH, WIDTH) for m in MODALITIES})
        self.head = nn.ModuleDict({m: nn.Linear(WIDTH, SHARED) for m in MODALITIES})

    def forward(self, batch):
        pooled, features, tokens = {}, {}, {}
        for name, x in batch.inputs.items():
            rows = batch.present[name].nonzero().squeeze(1)
            count = VISIBLE if name in batch.masks else TOKENS
            pooled[name] = x.new_zeros(len(x), SHARED)
            features[name] = x.new_zeros(len(x), WIDTH)
            tokens[name] = x.new_zeros(len(x), count, WIDTH)
            if len(rows) == 0:
                continue
            patches = x[rows].reshape(len(rows), TOKENS, PATCH)
            if name in batch.masks:
                patches = patches[~batch.masks[name][rows]].reshape(len(rows), VISIBLE, PATCH)
            seen = torch.tanh(self.cut[name](patches))
            mean = seen.mean(1)
            point = functional.normalize(self.head[name](mean), dim=1)
            tokens[name] = tokens[name].index_copy(0, rows, seen)
            features[name] = features[name].index_copy(0, rows, mean)
            pooled[name] = pooled[name].index_copy(0, rows, point)
        return Embeddings(batch=batch, pooled=pooled, features=features, tokens=tokens)


class Learner(nn.Module):
    def __init__(self, mix, shape):
        super().__init__()
        self.model = Towers()
        self.objectives = nn.ModuleDict(
            {
                name: build_objective(kind, settings, shape)
                for name, (kind, settings, _) in mix.items()
            }
        )
        self.weights = {name: weight for name, (_, _, weight) in mix.items()}

    def forward(self, views, batch, world):
        return self.charge({name: self.model(view) for name, view in views.items()}, batch, world)

    def charge(self, seen, batch, world):
        charged = {name: (o, self.weights[name]) for name, o in self.objectives.items()}
        return charge(charged, seen, batch, world)


def make_tasks():
    rng = np.random.default_rng(3)
    known = rng.random((ROWS, 2)) < 0.7
    known[:3] = True
    known[FIRST:, 1] = False
    survival = np.stack([rng.integers(1, 6, ROWS), rng.random(ROWS) < 0.6], 1)
    values = {
        "multilabel": (rng.random((ROWS, 2)) < 0.5, known),
        "multiclass": (np.arange(ROWS) % 3,),
        "regression": (rng.normal(50, 9, (ROWS, 2)), known),
        "survival": (survival,),
    }
    return {kind: targets_of(kind, *given, name=kind) for kind, given in values.items()}


def make_shape(tasks):
    signal = InputShape(kind="ecg", shape=(LEADS, SAMPLES))
    return ModelShape(
        inputs=dict.fromkeys(MODALITIES, signal),
        widths=dict.fromkeys(MODALITIES, WIDTH),
        num_tokens=dict.fromkeys(MODALITIES, TOKENS),
        patch=dict.fromkeys(MODALITIES, PATCH),
        tasks=tasks,
        teacher_widths={"ecg": 3, "report": 4},
    )


def make_views(presence, tasks, dtype):
    generator = torch.Generator(device="cpu").manual_seed(0)
    present = {m: torch.tensor(presence[m], dtype=torch.bool, device="cpu") for m in MODALITIES}
    whole, views = present, {}
    lessons = {
        distill_target(name, space): torch.randn(ROWS, width, generator=generator, device="cpu")
        for name, width in (("ecg", 3), ("report", 4))
        for space, width in (("features", width), ("pooled", SHARED))
    }
    groups = {}
    if "groups" in presence:
        numbers = torch.tensor(presence["groups"], dtype=torch.float32, device="cpu")[:, None]
        groups = {GROUPS: (numbers, numbers < 5)}
    for view in VIEWS:
        inputs, present = {}, dict(whole)
        dropped = presence.get("drops", {}).get(view)
        if dropped is not None:  # as modality dropout does: other rows in each view
            present[dropped] = whole[dropped] & (torch.arange(ROWS, device="cpu") % 3 > 0)
        for name in MODALITIES:
            x = torch.randn(ROWS, LEADS, SAMPLES, generator=generator, dtype=dtype, device="cpu")
            inputs[name] = x * present[name][:, None, None]
        noise = torch.rand(ROWS, TOKENS, generator=generator, device="cpu")
        mask = noise.argsort(1).argsort(1) >= VISIBLE
        views[view] = Batch(
            ids=torch.arange(ROWS, device="cpu") + 100,
            inputs=inputs,
            present=present,
            targets={
                name: torch.tensor(task.values, dtype=torch.float32, device="cpu")
                for name, task in tasks.items()
            }
            | lessons
            | {name: values for name, (values, _) in groups.items()},
            known={name: torch.tensor(task.known, device="cpu") for name, task in tasks.items()}
            | {name: torch.ones_like(x, dtype=torch.bool) for name, x in lessons.items()}
            | {name: known for name, (_, known) in groups.items()},
            masks={"ecg": mask, "cmr": mask} if view == "masked" else {},
        )
    return views


def part(world, presence=None):
    cuts = CUTS[world.size]
    if presence == "no row on rank 1":
        cuts = (ROWS,) * len(cuts)
    return torch.arange(ROWS, device="cpu").tensor_split(cuts)[world.rank]


def step(module, views, world):
    """Give (loss, terms) after a backward pass."""
    loss, terms = module(views, views["augmented"], world)
    if terms:
        loss.backward()
    return loss.item(), {name: (value.item(), count) for name, (value, count) in terms.items()}


def step_in_parts(learner, views, world):
    """Give (loss, terms) after the gradients of a batch that was encoded in parts."""
    loss, terms = accumulate(
        learner.model, lambda seen: learner.charge(seen, views["augmented"], world), views,
        parts=PARTS, key=(0, "step", world.rank), autocast=nullcontext,
    )  # fmt: skip
    average_gradients(learner, world)
    return loss.item(), {name: (value.item(), count) for name, (value, count) in terms.items()}


def compare(mix, presence, dtype, world, *, in_parts=False):
    """Take one step on all ranks and one alone on all rows; give how far apart they are."""
    tasks = make_tasks()
    torch.manual_seed(1)
    alone = Learner(mix, make_shape(tasks)).to(dtype)
    shared = copy.deepcopy(alone)
    views = make_views(PRESENCE[presence], tasks, dtype)
    loss, terms = step(alone, views, World())
    rows = part(world, presence)
    own = {name: view[rows] for name, view in views.items()}
    shared_loss, shared_terms = (
        step_in_parts(shared, own, world) if in_parts else step(wrap(shared, world), own, world)
    )
    worst, untouched = gradients_apart(shared, alone)
    return {
        "gradient": worst,
        "loss": abs(loss - shared_loss) / abs(loss),
        "terms": max(
            abs(value - shared_terms[name][0]) / max(abs(value), 1e-3)
            for name, (value, _) in terms.items()
        ),
        "counts": {name: count for name, (_, count) in terms.items()}
        == {name: count for name, (_, count) in shared_terms.items()},
        "charged": list(terms),
        "untouched": untouched,
    }


def compare_in_tiles(world):
    """As `compare`, where contrastive losses are computed in tiles, and blocks go round."""
    taken, gathered = {}, []

    def watched(name, real):
        def tiled(*arguments, **more):
            if tiles.is_in_ring():
                taken[name] = max(len(arguments[0]), taken.get(name, 0))
            return real(*arguments, **more, tile=3)

        return patch.object(contrastive, name, tiled)

    with (
        patch.dict(contrastive.TILE_FROM, {"cpu": 3}),
        watched("tiled_info_nce", tiles.tiled_info_nce),
        watched("tiled_sigmoid", tiles.tiled_sigmoid),
    ):
        found = {p: compare(MIX, p, torch.float64, world) for p in PRESENCE}
        streams = {name: MIX[name] for name in ("align", "siglip", "in", "tree", "centre")}

        def seen(x, world):
            gathered.append(x.requires_grad)
            return gather_rows(x, world)

        with patch.object(gathering, "gather_rows", seen):
            in_parts = compare(streams, "patchy", torch.float64, world, in_parts=True)
    return found | {"tiled": taken, "gathered": gathered, "in parts": in_parts}


def train(learner, module, tasks, world):
    """Take steps whose presence changes from one to the next; one has nothing to charge."""
    nobody = {name: [0] * ROWS for name in MODALITIES}
    optimiser = torch.optim.AdamW(learner.parameters(), lr=0.01, weight_decay=0.1)
    for presence in ("nothing on rank 1", None, "patchy", "one modality nowhere", "everybody"):
        views = make_views(PRESENCE.get(presence, nobody), tasks, torch.float64)
        rows = part(world)
        optimiser.zero_grad(set_to_none=True)
        _, terms = step(module, {name: view[rows] for name, view in views.items()}, world)
        if terms:
            optimiser.step()


def training_error(world):
    """How far apart weights are after some steps on all ranks and alone."""
    tasks = make_tasks()
    torch.manual_seed(1)
    alone = Learner(MIX, make_shape(tasks)).double()
    shared = copy.deepcopy(alone)
    train(alone, alone, tasks, World())
    train(shared, wrap(shared, world), tasks, world)
    return max(
        (ours - theirs).abs().max().item()
        for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True)
    )


def naive_error(world):
    """Gradient error of per-rank means, averaged: what this module is there to avoid."""
    mix = {"labels": MIX["labels"]}
    tasks = make_tasks()
    torch.manual_seed(1)
    alone = Learner(mix, make_shape(tasks)).double()
    shared = copy.deepcopy(alone)
    views = make_views(PRESENCE["patchy"], tasks, torch.float64)
    step(alone, views, World())
    rows = part(world)
    step(shared, {name: view[rows] for name, view in views.items()}, World())
    total = 0.0
    for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
        if theirs.grad is not None:
            mean = gather_rows(ours.grad[None], world).mean(0)
            total = max(total, ((mean - theirs.grad).norm() / theirs.grad.norm()).item())
    return total


def check_watching(world):
    """What the watcher of each rank concludes, though ranks other than the first see nonsense."""
    learner = Learner({"tree": MIX["tree"]}, make_shape(make_tasks()))
    graph = learner.objectives["tree"].graph
    graph.settings = graph.settings.model_copy(update={"min_rows": 2, "warm_up": 0.0})
    torch.manual_seed(5 + world.rank)

    def encode():
        batch = make_views(PRESENCE["patchy"], {}, torch.float32)["augmented"]
        with torch.no_grad():
            return [learner.model(batch[part(World(rank, 2))]) for rank in range(2)]

    found = [row for row, _ in watch(learner.objectives, encode, 0, 10, world)]
    quiet = list(watch(learner.objectives, encode, 3, 10, world))
    return {"row": found[0], "rows": len(found), "quiet": quiet,
            "history": len(graph.history)}  # fmt: skip


def check_gathering(world):
    tasks = make_tasks()
    views = make_views(PRESENCE["patchy"], tasks, torch.float64)
    torch.manual_seed(1)
    towers = Towers().double()
    parts = [
        towers(views["augmented"][part(World(rank, world.size))]) for rank in range(world.size)
    ]
    mine, batch = parts[world.rank], views["augmented"]
    fields = ("pooled", "features", "tokens")
    padding = torch.arange(ROWS * TOKENS, device="cpu").reshape(ROWS, TOKENS) % 3 == 0
    mine = replace(mine, padding={"ecg": padding[part(world)]})
    got = gather_embeddings(mine, fields, world)
    named = [
        torch.equal(getattr(got, field)[m], torch.cat([getattr(p, field)[m] for p in parts]))
        for field in fields
        for m in MODALITIES
    ]
    facts = [
        torch.equal(got.batch.ids, batch.ids),
        torch.equal(got.padding["ecg"], padding),
        *(torch.equal(got.batch.present[m], batch.present[m]) for m in MODALITIES),
        *(torch.equal(got.batch.targets[t], batch.targets[t]) for t in tasks),
        *(torch.equal(got.batch.known[t], batch.known[t]) for t in tasks),
    ]
    with torch.no_grad():
        quiet = gather_embeddings(mine, ("pooled",), world)
    with patch.object(host, "read", side_effect=AssertionError("read one by one")):
        shown = got.batch.have(*MODALITIES)
    return {
        "equal": all(named) and all(facts),
        "presence is known here": shown.tolist()
        == np.all([PATCHY[m] for m in MODALITIES], 0).tolist(),
        "order": list(got.pooled) == list(MODALITIES),
        "no_gradient_without_need": not quiet.pooled["ecg"].requires_grad,
        "only_asked_for": not quiet.tokens and not quiet.features,
    }


def unlike_ranks_say(world, fields):
    """What is raised when rank 1 lacks a tower that rank 0 has, whatever is gathered."""
    views = make_views(PRESENCE["patchy"], make_tasks(), torch.float32)
    seen = Towers()(views["augmented"])
    if world.rank == 1:
        seen = replace(seen, pooled={"ecg": seen.pooled["ecg"]})
    try:
        gather_embeddings(seen, fields, world)
    except MedmclError as error:
        return str(error)
    return "nothing"


def gradient_reaches_its_rank(world):
    """Each rank weighs all rows by its own factor; a row's gradient is the sum of the factors."""
    x = torch.full((2, 3), float(world.rank), device="cpu", requires_grad=True)
    rows = gather_rows(x, world)
    (rows * (world.rank + 1)).sum().backward()
    ranks = [float(r) for r in range(world.size) for _ in range(2)]
    return rows[:, 0].tolist() == ranks and bool((x.grad == sum(range(1, world.size + 1))).all())


def batch_norm_says(world):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), world)
    return [str(warning.message) for warning in caught]


def check_selecting(world):
    """Whether ranks keep what one process alone would keep, three times over.

    What is remembered is equal up to rounding: a row encoded among fewer may differ in its last bit
    on some machines.
    """
    own, load = judged_pairs.learner(), judged_pairs.load
    alone, together = judged_pairs.selector(), judged_pairs.selector()
    found = []
    for epoch in range(3):
        rows = np.random.default_rng(epoch).permutation(judged_pairs.SAMPLES)[:ROWS]
        mine, _ = own_part(rows, world)
        whole = keep_rows(rows, load(rows), own.model, alone, Progress(), World(), epoch=epoch)
        kept = keep_rows(
            rows, load(mine), own.model, together, Progress(), world, epoch=epoch, parts=PARTS
        )
        found.append(kept.tolist() == whole.tolist())
    theirs = together.state_dict()
    same = [
        torch.allclose(x.double(), theirs[n].double(), rtol=1e-5, atol=1e-6, equal_nan=True)
        for n, x in alone.state_dict().items()
    ]
    return {"kept": found, "history": same, "rows": len(own_part(kept, world)[0])}


def main(folder):
    torch.set_num_threads(1)
    world = start_world("cpu", init_method=f"file://{folder}/rendezvous")
    found = {
        "rank": world.rank,
        "any": [any_rank(world.rank == 1, world), any_rank(False, world)],
        "broadcast": broadcast({"from": world.rank}, world),
        "gathering": check_gathering(world),
        "watching": check_watching(world),
        "unlike": [unlike_ranks_say(world, fields) for fields in (("pooled",), ())],
        "rows": gradient_reaches_its_rank(world),
        "naive": naive_error(world),
        "training": training_error(world),
        "batch_norm": batch_norm_says(world),
        "selecting": check_selecting(world),
        "sharded": check_sharded(folder, world),
        "shared": {case: compare_shared(case, world) for case in CASES},
        "float64": {p: compare(MIX, p, torch.float64, world) for p in PRESENCE},
        "float32": {p: compare(MIX, p, torch.float32, world) for p in PRESENCE},
        "in parts": {p: compare(MIX, p, torch.float64, world, in_parts=True) for p in PRESENCE},
        "in tiles": compare_in_tiles(world),
        "alone": {
            name: compare({name: case}, "patchy", torch.float64, world)
            for name, case in MIX.items()
        },
    }
    barrier(world)
    stop_world(world)
    (folder / f"rank-{world.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
