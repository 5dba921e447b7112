import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, rate_at, set_rate


def test_the_rate_rises_linearly_from_above_zero_and_falls_along_half_a_cosine():
    settings = OptimiserSettings(lr=2.0, warmup=0.2, min_lr=0.5)
    rates = [rate_at(step, 10, settings) for step in range(11)]
    assert rates[:2] == [0.5, 1.0]
    for step in range(2, 11):
        half = 0.5 * (1 + math.cos(math.pi * (step - 2) / 8))
        assert rates[step] == pytest.approx(0.25 + 0.75 * half)


def test_the_rate_is_what_the_authors_of_cleanclip_mean_at_both_ends_not_what_their_loop_sets():
    golden = np.load(Path(__file__).parents[1] / "golden" / "cleanclip.npz")
    steps, warm = int(golden["sched_total"]), int(golden["sched_warmup"])
    settings = OptimiserSettings(lr=float(golden["sched_base_lr"]), warmup=warm / steps)
    ours = settings.lr * np.array([rate_at(step, steps, settings) for step in range(steps)])
    assert ours == pytest.approx(golden["sched_intended_lr"], rel=1e-9)
    assert ours[0] == pytest.approx(1e-4)
    assert ours[-1] < 1e-6
    assert np.diff(ours[-5:]).max() < 0 < np.diff(golden["sched_official_called_lr"][-5:]).min()


def test_layers_further_down_move_more_slowly_and_norms_are_not_decayed():
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    depths = {name: (0, 2) for name, _ in net[0].named_parameters(prefix="0")}
    settings = OptimiserSettings(lr=1.0, layer_decay=0.5, weight_decay=0.1)
    optimiser = build_optimiser(net, settings, depths)
    by_parameter = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert by_parameter[id(net[0].weight)] == (0.25, 0.1)
    assert by_parameter[id(net[0].bias)] == (0.25, 0.0)
    assert by_parameter[id(net[1].weight)] == (1.0, 0.0)
    assert by_parameter[id(net[2].weight)] == (1.0, 0.1)
    set_rate(optimiser, 0.1)
    assert sorted({round(group["lr"], 6) for group in optimiser.param_groups}) == [0.025, 0.1]


def test_frozen_parameters_are_left_out():
    net = nn.Linear(2, 2)
    net.weight.requires_grad_(False)
    optimiser = build_optimiser(net, OptimiserSettings(), {})
    assert [len(group["params"]) for group in optimiser.param_groups] == [1]
    assert isinstance(optimiser, torch.optim.AdamW)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_weight_may_have_its_first_gradient_late(name):
    """A modality that no row of the first batches has."""
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    optimiser = build_optimiser(net, OptimiserSettings(name=name, lr=0.1, fused=True), {})
    first = net[1].weight.detach().clone()
    for used in (1, 1, 2, 2):
        optimiser.zero_grad()
        sum(one(torch.ones(2, 3)).sum() for one in list(net)[:used]).backward()
        optimiser.step()
        assert torch.equal(net[1].weight, first) == (used == 1)


def test_gradients_that_lie_otherwise_in_memory_move_the_same_weights():
    """Torch's fused kernels read weight and gradient in one order, whatever their strides."""
    moved = []
    for fused in (False, True):
        torch.manual_seed(0)
        net = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
        optimiser = build_optimiser(net, OptimiserSettings(lr=0.1, fused=fused), {})
        for step in (1.0, 2.0):
            net.weight.grad = torch.arange(48.0).view(4, 3, 2, 2).sub(20).mul(step)
            optimiser.step()
        moved.append(net.weight.detach())
    torch.testing.assert_close(moved[1], moved[0])
