"""Text that sits on one expert: what each loss of a router does about it, by descent on it alone.

The code is that of `benchmarks/experts/router_collapse.py`, which draws these paths.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from benchmarks.experts import router_collapse
from medmcl.encoders.shared.moe import LoadBias
from medmcl.objectives.router import global_entropy, local_entropy

STEPS = 400
CLASSIC, WITH_GLOBAL, WITH_BOTH = (
    ("importance", "load"),
    ("importance", "load", "global"),
    ("importance", "load", "local", "global"),
)


@pytest.fixture(scope="module")
def collapse():
    return router_collapse


@pytest.fixture(scope="module")
def descent(collapse):
    return cache(lambda kind, charged: collapse.trajectory(kind, charged, STEPS))


@pytest.mark.parametrize("kind", ["logits", "router"])
def test_at_the_start_all_text_is_on_one_expert_and_balance_has_no_fault_to_find(collapse, kind):
    own = collapse.owners()
    assert collapse.IMAGES == 12 * collapse.TEXTS
    assert torch.bincount(own).unique().numel() == 1
    assert not own[: collapse.TEXTS].any()
    start = collapse.trajectory(kind, CLASSIC, 0)[0]
    assert start.first == 1
    assert start.top > 0.95
    assert start.importance < 1e-3
    assert start.load < 0.02  # of this order under any routing: the mean of so few draws of noise


@pytest.mark.parametrize("kind", ["logits", "router"])
def test_importance_and_load_leave_text_where_it_is(descent, kind):
    path = descent(kind, CLASSIC)
    assert all(seen.first == 1 for seen in path)
    assert all(seen.top > 0.95 for seen in path)
    assert path[-1].effective < 1.3


@pytest.mark.parametrize("kind", ["logits", "router"])
def test_global_entropy_leads_text_to_as_many_experts_as_were_asked_for(collapse, descent, kind):
    path = descent(kind, WITH_GLOBAL)
    assert path[0].effective < 1.3
    assert path[-1].effective >= collapse.LEAST
    assert path[-1].top < 0.8
    assert path[-1].unsure > 1.3  # it may do so by making every token unsure


def test_with_local_entropy_too_each_token_stays_sure(collapse, descent):
    path = descent("router", WITH_BOTH)
    assert max(seen.effective for seen in path) >= collapse.LEAST
    assert path[-1].effective > 0.98 * collapse.LEAST
    assert path[-1].first < 0.75
    only = descent("router", WITH_GLOBAL)[-1]
    assert path[-1].unsure < 1.3
    assert only.unsure > 2


def test_logits_that_are_free_become_sure_before_they_have_spread(collapse, descent):
    """A sure token has no gradient: local entropy then holds text below the threshold."""
    path = descent("logits", WITH_BOTH)
    assert path[-1].unsure < 1.05
    assert path[-1].first < 0.85
    assert 2 < path[-1].effective < collapse.LEAST


def test_where_tokens_are_all_alike_local_and_global_cancel():
    """Their sum is tau minus the mutual information of token and expert, which is flat there."""
    one = torch.tensor([2.0, 0.5, 0.0, -1.0], dtype=torch.float64, device="cpu")
    logits = one.repeat(6, 1).requires_grad_()
    gates = logits.softmax(-1)
    parts = (local_entropy(gates), global_entropy(gates, math.log(4)))
    grads = [torch.autograd.grad(x, logits, retain_graph=True)[0] for x in parts]
    assert grads[0].abs().max() > 0.01
    torch.testing.assert_close(grads[0], -grads[1])
    apart = (logits + torch.eye(6, 4, dtype=torch.float64, device="cpu")).softmax(-1)
    value = local_entropy(apart) + global_entropy(apart, math.log(4))
    assert torch.autograd.grad(value, logits)[0].abs().max() > 0.01


def test_a_bias_against_load_sees_no_fault_either(collapse):
    balance = LoadBias(collapse.EXPERTS, 0.1)
    balance.count(torch.bincount(collapse.owners()))
    balance.after_step(lambda x: x, taken=True)
    assert not balance.bias.any()
