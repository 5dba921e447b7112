"""What a rule moves after a step: once, on what the step saw, and alike when a run is resumed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from stopping import Stop, plain

from medmcl.core.batch import Batch, InputShape
from medmcl.encoders.shared.tower import SharedTower
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.feed import Feed
from medmcl.engine.loop import Learner, Plan, fit
from medmcl.engine.optimiser import OptimiserSettings
from medmcl.engine.record import Record
from medmcl.engine.signals import Interrupted
from medmcl.engine.world import World
from medmcl.objectives import build_objective

ROWS, STEPS = 6, 5
INPUTS = {
    "image": InputShape(kind="image", shape=(1, 4, 8)),
    "text": InputShape(kind="text", shape=(5,), vocabulary=9),
}


def load(rows):
    """Rows that only their numbers decide; number 99 stands for a broken one, 88 for an empty."""
    generator = torch.Generator(device="cpu").manual_seed(int(rows.sum()))
    image = torch.randn(len(rows), 1, 4, 8, generator=generator, device="cpu")
    if (rows == 99).any():
        image[0] = math.inf
    present = torch.tensor(rows != 88, device="cpu")
    return Batch(
        ids=torch.tensor(rows, device="cpu"),
        inputs={
            "image": image * present[:, None, None, None],
            "text": torch.randint(1, 9, (len(rows), 5), generator=generator, device="cpu"),
        },
        present={"image": present, "text": present},
    )


def learner():
    torch.manual_seed(3)
    tower = SharedTower.build(
        INPUTS,
        {"width": 8, "depth": 4, "heads": 2, "input_projections": {"image": {"patch": 4}},
         "experts": {"experts": 3, "bias_rate": 0.01}},
    )  # fmt: skip
    shape = tower.shape(INPUTS)
    objectives = {"align": build_objective("cross_modal", {"view": "plain"}, shape)}
    return Learner(tower, objectives, {"align": 1.0})


def train(own, folder, sampler=None, stop_after=math.inf):
    def usual(epoch):
        return iter([np.arange(ROWS) + ROWS * step for step in range(STEPS)])

    folder.mkdir(exist_ok=True)
    plan = Plan(
        stage="pretrain", steps=STEPS, steps_per_epoch=STEPS, evaluate_every=99, log_every=99,
        seed=1, optimiser=OptimiserSettings(),
    )  # fmt: skip
    return fit(
        own, Feed(sampler=sampler or usual, load=load), {"plain": plain}, plan,
        record=Record(folder / "metrics.jsonl", active=True), checkpoints=Checkpoints(folder),
        world=World(), stop=Stop(stop_after),
    )  # fmt: skip


def biases(own):
    return torch.stack([moe.balance.bias for moe in own.model.trunk.moes])


def test_a_run_that_was_killed_and_resumed_is_one_that_never_was(tmp_path):
    whole, killed, resumed = learner(), learner(), learner()
    train(whole, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(killed, tmp_path / "parts", stop_after=3)
    assert biases(killed).any()
    assert not torch.equal(biases(killed), biases(whole))
    assert train(resumed, tmp_path / "parts").step == STEPS
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_steps_that_are_not_taken_move_no_bias(tmp_path):
    def broken(epoch):
        return iter([np.full(ROWS, 88), np.array([99, 1, 2, 3, 4, 5])] * STEPS)

    own = learner()
    state = train(own, tmp_path, broken)
    assert (state.empty_steps, state.skipped_steps) == (3, 2)
    assert not biases(own).any()


def test_every_step_moves_each_bias_by_the_rate_or_not_at_all(tmp_path):
    own = learner()
    train(own, tmp_path)
    moved = biases(own) / 0.01
    torch.testing.assert_close(moved, moved.round(), atol=1e-4, rtol=0)
    assert 0 < moved.abs().max() <= STEPS
