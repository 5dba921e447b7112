"""A shared tower with experts on one rank of several, against the same on one process."""

from __future__ import annotations

import copy

import torch
from made_batches import batch_of

from medmcl.core.batch import InputShape
from medmcl.encoders.shared.tower import SharedTower
from medmcl.engine.distributed import World, gather_embeddings, wrap
from medmcl.engine.gathering import routed_as_one
from medmcl.engine.loop import Learner
from medmcl.engine.post_step_hooks import move, moves
from medmcl.engine.recompute import recompute_blocks
from medmcl.engine.running_sums import on_the_first, over_ranks
from medmcl.objectives import build_objective

ROWS, FIRST = 8, 5
"""Rows of the global batch, and how many of them rank 0 holds."""
SEED = 6
INPUTS = {
    "image": InputShape(kind="image", shape=(1, 8, 8)),
    "text": InputShape(kind="text", shape=(5,), vocabulary=11),
}
SHARED_PRESENCE = {
    "patchy": {"image": [1, 1, 0, 1, 1, 0, 1, 1], "text": [1, 0, 1, 1, 1, 1, 1, 0]},
    "no text on rank 1": {"image": [1] * 8, "text": [1, 1, 1, 1, 0, 0, 0, 0]},
    "nothing on rank 1": {"image": [1, 1, 1, 1, 0, 0, 0, 0], "text": [1, 0, 1, 1, 0, 0, 0, 0]},
}


CASES = {
    **{presence: (presence, {}) for presence in SHARED_PRESENCE},
    "no row on rank 1": ("patchy", {}),
    "without noise": ("patchy", {"noise": 0.0}),
    "groups that lie on both ranks": ("patchy", {"group_rows": 3, "grouping": "per_modality"}),
    "experts choose": ("patchy", {"routing": "experts", "bias_rate": 0.0}),
    "two experts, first come": ("patchy", {"k": 2, "normalise": True, "priority": False}),
    "blocks run again": ("no text on rank 1", {"bias_rate": 0.0}),
}
"""Name to presence, and settings of experts."""


def make_learner(**given):
    torch.manual_seed(2)
    experts = {"experts": 4, "capacity_factor": 0.8, "bias_rate": 0.05, **given}
    tower = SharedTower.build(
        INPUTS,
        {"width": 16, "depth": 4, "heads": 2, "out": 6, "experts": experts,
         "input_projections": {"image": {"patch": 4}}},
    )  # fmt: skip
    shape = tower.shape(INPUTS)
    settings = {
        "cross_modal": {"view": "plain", "scale": {"init": 5.0, "learned": True}},
        "router": {"view": "plain", "gshard": True},
    }
    objectives = {name: build_objective(name, own, shape) for name, own in settings.items()}
    return Learner(tower, objectives, {"cross_modal": 1.0, "router": 0.3}).double()


def make_batch(presence):
    generator = torch.Generator(device="cpu").manual_seed(4)
    present = {
        n: torch.tensor(p, device="cpu").bool() for n, p in SHARED_PRESENCE[presence].items()
    }
    image = torch.randn(
        ROWS, *INPUTS["image"].shape, generator=generator, dtype=torch.float64, device="cpu"
    )
    text = torch.randint(1, 11, (ROWS, 5), generator=generator, device="cpu")
    text[1::3, 3:] = 0
    inputs = {
        "image": image * present["image"][:, None, None, None],
        "text": text * present["text"][:, None],
    }
    return batch_of(inputs, present)


def compare_shared(case, world):
    """Take one step on all ranks and one alone on all rows; give how far apart they are."""
    presence, settings = CASES[case]
    alone = make_learner(**settings)
    shared = copy.deepcopy(alone)
    if case == "blocks run again":
        recompute_blocks(shared.model, case)
    cut = ROWS if case == "no row on rank 1" else FIRST
    batch = make_batch(presence)
    mine = batch[torch.arange(ROWS, device="cpu").tensor_split((cut,))[world.rank]]
    noise = torch.Generator(device="cpu").manual_seed(SEED)
    torch.manual_seed(SEED)
    loss, terms = alone({"plain": batch}, batch, World())
    loss.backward()
    module = wrap(shared, world)
    with routed_as_one(world, cut * world.rank, noise):
        shared_loss, _ = module({"plain": mine}, mine, world)
        shared_loss.backward()
    worst, untouched = gradients_apart(shared, alone)
    move(moves(alone), World(), taken=True)
    move(moves(shared), world, taken=True)
    steps = [torch.cat([torch.zeros(1), *(x for n, x in own.named_buffers() if "balance" in n)])
             for own in (alone, shared)]  # fmt: skip
    torch.manual_seed(SEED)
    with torch.no_grad():
        whole = alone.model(batch).stats
    with torch.no_grad(), routed_as_one(world, cut * world.rank, noise.manual_seed(SEED)):
        gathered = gather_embeddings(shared.model(mine), ("stats",), world).stats
    offered = sum(whole[f"router/tokens/{name}"].sum().item() for name in INPUTS)
    kept = sum(whole[f"router/kept/{name}"].sum().item() for name in INPUTS)
    return {
        "gradient": worst,
        "terms": sorted(terms),
        "loss": abs(loss.item() - shared_loss.item()) / abs(loss.item()),
        "sums": compare_sums(alone.row_sums, shared.row_sums, world),
        "routing": max((gathered[key] - x).abs().max().item() for key, x in whole.items()),
        "untouched": untouched,
        "dropped": offered - kept,
        "bias": (steps[0] - steps[1]).abs().max().item(),
        "moved": steps[0].abs().max().item(),
    }


def compare_sums(alone, shared, world):
    """How far what all ranks report of rows is from what one process does, added up both ways."""
    first = on_the_first(shared, world)
    if world.rank and any(x.any() for x in first.values()):
        return float("inf")  # it would be counted twice
    both = over_ranks(shared, world), over_ranks(first, world)
    return max((found[key] - x).abs().max().item() for found in both for key, x in alone.items())


def gradients_apart(shared, alone):
    """Give how far gradients are apart, and the names of those that only one of them has."""
    worst, untouched = 0.0, []
    largest = max(p.grad.norm().item() for p in alone.parameters() if p.grad is not None)
    for (name, ours), theirs in zip(shared.named_parameters(), alone.parameters(), strict=True):
        if (ours.grad is None) != (theirs.grad is None):
            untouched.append(name)
        elif ours.grad is not None:
            gap = (ours.grad - theirs.grad).norm().item()
            worst = max(worst, gap / max(theirs.grad.norm().item(), 1e-3 * largest))
    return worst, untouched
