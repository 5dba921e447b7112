"""Loss-free balance: the bias chooses and does not weigh, and moves by the rule, once a step."""

from __future__ import annotations

import pytest
import small_moe
import torch
from small_moe import by_rule, one_group, random
from torch.nn import functional

from medmcl.encoders.shared.moe import LoadBias

RATE = 0.01


def layer(**settings):
    return small_moe.layer(**{"bias_rate": RATE, **settings})


def alone(x):
    return x


def test_the_bias_moves_once_a_step_by_the_sign_of_what_was_asked_in_it():
    """Two views a step; passes without gradient, in evaluation or with a frozen router: no part."""
    moe = layer()
    bias = [0.0] * 4
    for step in range(5):
        views = [random(13, 6, seed=10 * step), random(9, 6, seed=10 * step + 1)]
        before = moe.balance.bias.clone()
        asked = [0] * 4
        for x in views:
            moe(x, one_group(len(x)))
            gates = functional.linear(x, moe.router.weight).softmax(-1)
            _, here = by_rule(gates, 1, 99, False, bias=before)
            asked = [a + b for a, b in zip(asked, here, strict=True)]
        other = random(40, 6, seed=99)
        with torch.no_grad():
            moe(other, one_group(40))
        moe.eval()(other, one_group(40))
        moe.train().router.weight.requires_grad_(False)
        moe(other.requires_grad_(), one_group(40))
        moe.router.weight.requires_grad_()
        assert torch.equal(moe.balance.bias, before)
        moe.balance.after_step(alone, taken=True)
        mean = sum(asked) / 4
        for expert, load in enumerate(asked):
            bias[expert] += RATE * ((mean > load) - (mean < load))
        assert moe.balance.bias.tolist() == pytest.approx(bias)
    assert any(bias)


def test_a_step_that_was_not_taken_moves_nothing_and_is_forgotten():
    moe = layer()
    moe(random(13, 6), one_group(13))
    moe.balance.after_step(alone, taken=False)
    assert not moe.balance.bias.any()
    moe.balance.after_step(alone, taken=True)
    assert not moe.balance.bias.any()


def test_loads_are_summed_over_ranks_before_the_sign_is_taken():
    one, other = LoadBias(2, 0.5), LoadBias(2, 0.5)
    one.count(torch.tensor([9, 1], device="cpu"))
    other.count(torch.tensor([0, 9], device="cpu"))
    whole = torch.tensor([9, 10], device="cpu")
    for part in (one, other):
        part.after_step(lambda _: whole, taken=True)
        assert part.bias.tolist() == [0.5, -0.5]


def test_a_router_that_likes_one_expert_is_brought_to_balance():
    """Tokens stay as they are and the router learns nothing: only the bias can do it."""
    moe = layer(bias_rate=0.005)
    x = random(400, 6)
    x[:, 0] = 1.0
    with torch.no_grad():
        moe.router.weight[:, 0] = torch.tensor([3.0, 1.0, 0.0, 0.0], device="cpu")
    largest = []
    for _ in range(150):
        _, routing = moe(x, one_group(400))
        largest.append(routing.dispatch.asked.max().item() / 100)
        moe.balance.after_step(alone, taken=True)
    assert largest[0] > 2.0
    assert max(largest[-10:]) < 1.1


def test_only_a_layer_that_is_asked_to_has_a_bias():
    assert "balance.bias" in layer().state_dict()
    assert "balance.bias" not in layer(bias_rate=0.0).state_dict()
