"""Loss-free balance: the bias chooses and does not weigh, and moves by the rule, once a step."""

from __future__ import annotations

import pytest
import small_moe
import torch
from small_moe import assert_same_gradients, by_rule, one_group, random
from torch.nn import functional

from medmcl.core.config import check
from medmcl.core.errors import ConfigError
from medmcl.encoders.shared.experts import route, slots
from medmcl.encoders.shared.moe import LoadBias, sum_rows
from medmcl.encoders.shared.settings import ExpertSettings

RATE = 0.01


def layer(bias=None, **settings):
    made = small_moe.layer(**{"bias_rate": RATE, **settings})
    if bias is not None:
        made.balance.bias.copy_(torch.tensor(bias, device="cpu"))
    return made


def alone(x):
    return x


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("priority", [False, True])
def test_the_bias_chooses_and_gates_weigh(k, priority):
    gates = random(31, 4, seed=k).softmax(-1)
    gates[4] = gates[3]  # a tie
    bias = torch.tensor([0.4, -0.2, 0.0, 0.1], dtype=torch.float64, device="cpu")
    found = route(gates, k, 7, priority, bias=bias)
    taken, asked = by_rule(gates, k, 7, priority, bias=bias)
    want = torch.zeros(31, 4, 7, dtype=torch.float64, device="cpu")
    for (token, expert), slot in taken.items():
        want[token, expert, slot] = gates[token, expert]
    assert torch.equal(found.combine(), want)
    assert found.asked.tolist() == asked
    assert max(asked) > 7
    assert not torch.equal(route(gates, k, 7, priority).combine(), want)


@pytest.mark.parametrize("settings", [{}, {"k": 2, "normalise": True}])
def test_a_biased_layer_is_a_slow_dense_one_and_the_bias_has_no_gradient(settings):
    moe = layer(bias=[0.5, -0.3, 0.0, 0.1], **settings)
    own, x = moe.settings, random(21, 6)
    y, routing = moe(x, one_group(21))
    gates = functional.linear(x, moe.router.weight).softmax(-1)
    room = slots(21, own.k, own.capacity_factor, own.experts)
    taken, _ = by_rule(gates, own.k, room, True, bias=moe.balance.bias)
    want = torch.zeros_like(x)
    for token, expert in taken:
        liked = gates[token].detach() + moe.balance.bias
        whole = gates[token, liked.topk(own.k).indices].sum() if own.normalise else 1.0
        hidden = moe.mlps.weight1[expert] @ x[token] + moe.mlps.bias1[expert]
        hidden = functional.gelu(hidden, approximate="tanh")
        made = moe.mlps.weight2[expert] @ hidden + moe.mlps.bias2[expert]
        want = want.index_add(
            0, torch.tensor([token], device="cpu"), (made * gates[token, expert] / whole)[None]
        )
    torch.testing.assert_close(y, want)
    assert_same_gradients(y, want, list(moe.parameters()))
    assert "balance.bias" not in dict(moe.named_parameters())
    first = sum_rows(routing, one_group(21), own)["first"][0]
    liked = (gates + moe.balance.bias).argmax(1)
    assert first.tolist() == torch.bincount(liked, minlength=4).tolist()


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
    with pytest.raises(ConfigError, match="experts that choose are balanced"):
        check(ExpertSettings, {"bias_rate": 0.1, "routing": "experts"},
              where="experts", error=ConfigError)  # fmt: skip
