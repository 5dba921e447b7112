"""Router losses reach the optimiser: what one step on them alone moves, and what it leaves."""

from __future__ import annotations

import pytest
import torch
from made_batches import batch_of

from medmcl.core.batch import InputShape
from medmcl.encoders.shared.tower import SharedTower
from medmcl.engine.loop import Learner
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser
from medmcl.engine.world import World
from medmcl.objectives import build_objective

ROWS = 6
INPUTS = {
    "ecg": InputShape(kind="ecg", shape=(3, 40)),
    "text": InputShape(kind="text", shape=(5,), vocabulary=9),
}
"""Patches of a signal and words: they share the tower as images and words do."""


def learner(weights):
    torch.manual_seed(0)
    tower = SharedTower.build(
        INPUTS,
        {"width": 16, "depth": 4, "heads": 2, "input_projections": {"ecg": {"patch": 10}},
         "experts": {"experts": 4}},
    )  # fmt: skip
    shape = tower.shape(INPUTS)
    given = {
        "cross_modal": {"view": "plain", "scale": {"learned": True}},
        "router": {"view": "plain", "gshard": True, "min_experts": {"text": 4, "ecg": 4}},
    }
    objectives = {name: build_objective(name, given[name], shape) for name in weights}
    return Learner(tower, objectives, weights).double()


def loss_of(own):
    generator = torch.Generator(device="cpu").manual_seed(4)
    text = torch.randint(1, 9, (ROWS, 5), generator=generator, device="cpu")
    text[2, 3:] = 0
    ecg = torch.randn(ROWS, 3, 40, generator=generator, dtype=torch.float64, device="cpu")
    batch = batch_of({"ecg": ecg, "text": text})
    torch.manual_seed(9)  # the noise of the routers
    return own({"plain": batch}, batch, World())


def moved_by_a_step(weights):
    own = learner(weights)
    before = {name: value.clone() for name, value in own.named_parameters()}
    optimiser = build_optimiser(own, OptimiserSettings(name="sgd", lr=0.1, weight_decay=0.0), {})
    loss, terms = loss_of(own)
    loss.backward()
    optimiser.step()
    moved = {n for n, value in own.named_parameters() if not torch.equal(value, before[n])}
    return moved, set(before), terms


def test_a_step_on_the_router_objective_alone_moves_routers_and_what_leads_to_them():
    moved, every, terms = moved_by_a_step({"router": 1.0})
    assert {name.split("/")[1] for name in terms} == {
        "importance", "load", "z", "gshard", "local", "global",
    }  # fmt: skip
    after = ("trunk.blocks.3.moe.mlps", "trunk.norm", ".head.")  # behind the last router
    left = {name for name in every if any(part in name for part in after)}
    assert left
    assert moved == every - left
    assert {f"model.trunk.blocks.{n}.moe.router.weight" for n in (1, 3)} < moved


def test_with_weight_zero_it_moves_nothing():
    moved, _, terms = moved_by_a_step({"router": 0.0})
    assert not moved
    assert all(value.item() for name, (value, _) in terms.items() if "global" not in name)


def test_beside_another_objective_its_gradient_is_added_with_its_weight():
    grads = {}
    for weights in ({"cross_modal": 1.0}, {"router": 1.0}, {"cross_modal": 1.0, "router": 0.04}):
        own = learner(weights)
        loss_of(own)[0].backward()
        grads[tuple(weights)] = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in own.model.named_parameters()
        }
    both, align, router = (
        grads[key] for key in (("cross_modal", "router"), ("cross_modal",), ("router",))
    )
    for name, grad in both.items():
        torch.testing.assert_close(grad, align[name] + 0.04 * router[name], msg=name)
    routed = [name for name in both if name.endswith("router.weight")]
    assert all(router[name].norm() > 0 for name in routed)
    assert len(routed) == 2
    assert both[routed[0]].norm() != pytest.approx(align[routed[0]].norm().item(), rel=1e-3)
