"""Compiled blocks in the loop: with batches in parts, a mean of weights, and two ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_batches import batch_of
from processes import forked_ranks
from stopping import Stop

from medmcl.core.batch import InputShape
from medmcl.encoders.towers import Towers
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.compiling import compile_blocks
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Learner, Plan, fit
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.record import Record, read_metrics
from medmcl.engine.world import World, barrier
from medmcl.objectives import build_objective

SAMPLES, STEPS = 24, 3
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch, as it traces
BOTH = {"accumulate": 2, "ema": 0.8}


def load(rows):
    numbers = torch.as_tensor(rows, device="cpu").long()
    generator = torch.Generator(device="cpu").manual_seed(1)
    x = torch.randn(SAMPLES, 2, 12, generator=generator, device="cpu")[numbers]
    has_b = numbers % 5 != 4
    inputs = {"a": x, "b": x.flip(1) * has_b[:, None, None]}
    return batch_of(inputs, {"a": torch.ones_like(has_b), "b": has_b})


def made():
    torch.manual_seed(2)
    shape = {name: InputShape(kind="ecg", shape=(2, 12)) for name in "ab"}
    encoder = {"name": "ecg_vit", "patch": 4, "width": 8, "depth": 2, "heads": 2}
    tower = {"encoder": encoder, "head": {"out": 4}}
    towers = Towers.build(shape, dict.fromkeys(shape, tower))
    align = build_objective("cross_modal", {"view": "plain"}, towers.shape(shape))
    return Learner(towers, {"align": align}, {"align": 1.0})


def train(folder, world=None, *, compiled, **plan):
    """Losses of a few steps, and the weights that are kept at the end."""
    own, world = made(), world or World()
    if compiled:
        assert compile_blocks(own, "here", backend="aot_eager") == 4
    folder.mkdir(exist_ok=True)

    def sampler(epoch):
        for step in range(STEPS):
            yield np.random.default_rng([epoch, step]).permutation(SAMPLES)[: 11 + step]

    fit(
        own,
        Feed(sampler=sampler, load=load, tuning=(np.arange(8),)),
        {"plain": lambda batch, *_, **__: batch},
        Plan(stage="s", steps=STEPS, steps_per_epoch=STEPS, evaluate_every=STEPS, log_every=1,
             seed=0, optimiser=OptimiserSettings(name="sgd", lr=0.1), **plan),
        record=Record(folder / "metrics.jsonl", active=world.leads),
        checkpoints=Checkpoints(folder / "checkpoint"),
        world=world, depths={}, stop=Stop(STEPS + 1),
    )  # fmt: skip
    barrier(world)
    losses = [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]
    kept = Checkpoints(folder / "checkpoint").weights("last")
    return losses, {name: x.tolist() for name, x in sorted(kept.items())}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What nobody compiled, by the settings of the loop."""
    folder = tmp_path_factory.mktemp("plain")
    asked = {"alone": {}, "accumulate": {"accumulate": 2}, "ema": {"ema": 0.8}, "both": BOTH}
    return {
        name: (more, train(folder / name, compiled=False, **more)) for name, more in asked.items()
    }


def assert_alike(found, expected):
    assert len(set(expected[0])) == STEPS + 1  # that of the tuning rows, too
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    assert found[1].keys() == expected[1].keys()
    for name, x in found[1].items():
        np.testing.assert_allclose(x, expected[1][name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", ["alone", "accumulate", "ema"])
def test_a_compiled_loop_learns_what_a_plain_one_learns(name, plain, tmp_path):
    more, expected = plain[name]
    assert_alike(train(tmp_path / "run", compiled=True, **more), expected)
    if name == "ema":
        assert expected[1] != plain["alone"][1][1]


@pytest.mark.dist
def test_two_compiled_ranks_learn_what_one_plain_process_learns(plain, tmp_path):
    def find(world):
        return train(tmp_path / "run", world, compiled=True, **BOTH)

    assert_alike(forked_ranks(2, tmp_path, find)[0], plain["both"][1])
