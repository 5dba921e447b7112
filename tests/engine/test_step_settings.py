"""Settings of a step: means of weights, Muon, blocks that are computed twice."""

from __future__ import annotations

import pytest
import torch
from small_shared import batch, build
from torch import nn

from medmcl.core.errors import ConfigError
from medmcl.engine.averaging import Average
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, set_rate, take_state
from medmcl.engine.recompute import recompute_blocks


def small():
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {
            "words": nn.Embedding(5, 4),
            "inner": nn.Linear(4, 6),
            "head": nn.Linear(6, 3),
            "frozen": nn.Linear(2, 2),
        }
    )
    made["frozen"].requires_grad_(False)
    return made


DEPTHS = {"words.weight": (1, 2), "inner.weight": (1, 2), "inner.bias": (1, 2)}


def learn(module, optimiser, steps=3, first=0):
    for step in range(first, first + steps):
        set_rate(optimiser, 1 / (step + 1))
        optimiser.zero_grad(set_to_none=True)
        words = module["words"](torch.tensor([0, 1, 2, step % 5], device="cpu"))
        module["head"](torch.relu(module["inner"](words))).square().sum().backward()
        optimiser.step()
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_the_mean_of_weights_is_that_of_a_slow_loop_and_skipped_steps_do_not_move_it():
    module, own = small(), []
    average = Average(module, 0.8)
    optimiser = build_optimiser(module, OptimiserSettings(lr=0.1), DEPTHS)
    want = {name: p.detach().double() for name, p in module.named_parameters()}
    for step in range(1, 9):
        bad = float(step == 4)
        own = learn(module, optimiser, 1, step)
        average.follow(step, torch.tensor(bad, device="cpu"))
        decay = min(0.8, (1 + step) / (10 + step))
        if not bad:
            want = {n: decay * x + (1 - decay) * own[n].double() for n, x in want.items()}
    with average.shown():
        seen = {name: p.detach().clone() for name, p in module.named_parameters()}
    for name, x in want.items():
        torch.testing.assert_close(seen[name].double(), x, rtol=1e-5, atol=1e-6)
        assert torch.equal(module.get_parameter(name), own[name])
    assert torch.equal(seen["frozen.weight"], own["frozen.weight"])
    other = small()
    other.load_state_dict(seen)
    again = Average(other, 0.8)
    again.resume(average.own_weights())
    assert all(torch.equal(p, own[name]) for name, p in other.named_parameters())
    with again.shown():
        assert all(torch.equal(p, seen[name]) for name, p in other.named_parameters())


def test_muon_moves_the_matrices_within_encoders_and_adamw_everything_else():
    settings = OptimiserSettings(name="muon", lr=0.02, weight_decay=0.1)
    made = learn(module := small(), build_optimiser(module, settings, DEPTHS))
    theirs = small()
    inner = [theirs["inner"].weight]
    others = [p for n, p in theirs.named_parameters() if p.requires_grad and n != "inner.weight"]
    muon = torch.optim.Muon(inner, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [p], "weight_decay": 0.1 if p.ndim > 1 else 0.0} for p in others]
    adamw = torch.optim.AdamW(groups)
    for step in range(3):
        for one in (muon, adamw):
            one.zero_grad(set_to_none=True)
            for group in one.param_groups:
                group["lr"] = 0.02 / (step + 1)
        words = theirs["words"](torch.tensor([0, 1, 2, step % 5], device="cpu"))
        theirs["head"](torch.relu(theirs["inner"](words))).square().sum().backward()
        muon.step()
        adamw.step()
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(made[name], p)


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
@pytest.mark.parametrize("fused", [None, True])
def test_an_optimiser_goes_on_where_it_stopped_also_by_other_kernels(name, fused):
    settings = OptimiserSettings(name=name, lr=0.02)
    through = learn(module := small(), build_optimiser(module, settings, DEPTHS), 6)
    module = small()
    optimiser = build_optimiser(module, settings, DEPTHS)
    learn(module, optimiser, 3)
    other = build_optimiser(module, settings.model_copy(update={"fused": fused}), DEPTHS)
    take_state(other, optimiser.state_dict())
    for group in other.param_groups:
        assert group.get("fused", fused) == (None if name == "sgd" else fused)
    seen = learn(module, other, 3, 3)
    for key, x in through.items():
        torch.testing.assert_close(seen[key], x)
        assert fused or torch.equal(seen[key], x)


def grads(tower):
    tower.train()
    torch.manual_seed(3)
    held = 0

    def kept(x):
        nonlocal held
        held += x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda x: x):
        seen = tower(batch())
        loss = sum(x.square().sum() for x in seen.features.values())
    loss.backward()
    return held, {name: p.grad for name, p in tower.named_parameters() if p.grad is not None}


def test_blocks_that_are_computed_twice_give_the_same_gradients_and_hold_less():
    held, plain = grads(build(depth=2))
    tower = build(depth=2)
    assert recompute_blocks(tower, "here") == 2
    less, again = grads(tower)
    assert less < held / 2
    assert set(again) == set(plain)
    assert all(torch.equal(x, plain[name]) for name, x in again.items())


def test_what_would_learn_twice_from_a_pass_is_not_computed_twice():
    block = nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2))
    with pytest.raises(ConfigError, match="batch norm"):
        recompute_blocks(nn.ModuleDict({"blocks": nn.ModuleList([block])}), "here")
