"""What two_ranks.py checks of an optimiser whose state ranks share out."""

from __future__ import annotations

import numpy as np
import torch
from judged_pairs import SAMPLES, learner, load
from stopping import Stop

from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Plan, fit
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, take_state
from medmcl.engine.record import Record, read_metrics
from medmcl.engine.sharded import Sharded
from medmcl.engine.signals import Interrupted
from medmcl.engine.world import World, barrier

STEPS, STOPPED = 8, 4
SETTINGS = {
    "adamw": {"sharded": True},
    "in parts, with a mean of weights": {"sharded": True, "clip_norm": 0.1, "fused": True},
    "muon": {"sharded": True, "name": "muon"},
}


def depths(module):
    return {name: (1, 2) for name, _ in module.named_parameters() if "encoder" in name}


def train(folder, world, name, *, after=STEPS + 1, **changes):
    """Train, or go on from where it stopped; give the lines of the record."""
    own = learner(dropout=0.0)
    plan = Plan(
        stage="s", steps=STEPS, steps_per_epoch=STEPS, evaluate_every=4, log_every=1, seed=0,
        optimiser=OptimiserSettings(lr=0.01, **{**SETTINGS[name], **changes}),
        **({"ema": 0.8, "accumulate": 2} if "parts" in name else {}),
    )  # fmt: skip

    def sampler(epoch):
        for step in range(STEPS):
            yield np.random.default_rng([epoch, step]).permutation(SAMPLES)[:13]

    fit(
        own,
        Feed(sampler=sampler, load=load, tuning=(np.arange(16),)),
        {"plain": lambda batch, *_, **__: batch},
        plan,
        record=Record(folder / "metrics.jsonl", active=world.leads),
        checkpoints=Checkpoints(folder / "checkpoint"),
        world=world,
        depths=depths(own),
        stop=Stop(after),
    )
    barrier(world)
    return own, read_metrics(folder / "metrics.jsonl")


def stopped(*given, **more):
    try:
        train(*given, after=STOPPED, **more)
    except Interrupted:
        return
    raise AssertionError("it did not stop")


def compare(folder, name, world):
    """Losses of two ranks beside those of one, in one go and from one number to another."""
    places = {how: folder / name / how for how in ("one", "two", "plain", "two-one", "one-two")}
    if world.leads:
        for place in places.values():
            place.mkdir(parents=True)
    barrier(world)
    found = {}
    own, found["two"] = train(places["two"], world, name)
    plain, _ = train(places["plain"], world, name, sharded=False)
    stopped(places["two-one"], world, name)
    if world.leads:
        _, found["one"] = train(places["one"], World(), name)
        stopped(places["one-two"], World(), name)
        _, found["two-one"] = train(places["two-one"], World(), name)
    barrier(world)
    _, found["one-two"] = train(places["one-two"], world, name)
    lines = {how: [line["loss"] for line in found[how]] for how in found}
    same = all(torch.equal(x, plain.state_dict()[key]) for key, x in own.state_dict().items())
    return {"losses": lines, "same as not sharded": same}


def check_state(folder, name, world):
    """What each rank remembers after a step, and what is saved of all."""
    made = {}
    for sharded in (False, True):
        own = learner(dropout=0.0)
        settings = OptimiserSettings(**SETTINGS[name])
        optimiser = build_optimiser(own, settings, depths(own))
        optimiser = Sharded(optimiser, world) if sharded else optimiser
        for parameter in own.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        optimiser.step()
        made[sharded] = own, optimiser
    (alone, plain), (own, shared) = made[False], made[True]
    inner = getattr(shared.inner, "members", [shared.inner])
    numbers = sum(p.numel() for one in inner for p in one.state)
    saved, expected = shared.state_dict(), plain.state_dict()
    again = Sharded(build_optimiser(own, OptimiserSettings(**SETTINGS[name]), depths(own)), world)
    if world.leads:
        torch.save(saved, folder / "state.pt")
    barrier(world)
    take_state(again, torch.load(folder / "state.pt", weights_only=True))
    kept = getattr(again.inner, "members", [again.inner])
    return {
        "numbers": numbers,
        "of": sum(p.numel() for p in own.parameters() if p.requires_grad),
        "kept": sum(p.numel() for one in kept for p in one.state),
        "weights": all(map(torch.equal, own.parameters(), alone.parameters())),
        "whole": not world.leads or plainly(saved) == plainly(expected),
    }  # fmt: skip


def plainly(state):
    """States with lists for tensors, to be compared."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: plainly(one) for key, one in state.items()}
    return [plainly(one) for one in state] if isinstance(state, (list, tuple)) else state


def check_sharded(folder, world):
    """All of it, for each optimiser."""
    return {
        name: {**compare(folder, name, world), "state": check_state(folder, name, world)}
        for name in SETTINGS
    }
