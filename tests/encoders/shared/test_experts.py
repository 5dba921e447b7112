"""Dispatch: the golden buffers of V-MoE, what is dropped, symmetry, memory, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from golden_numbers import case, golden
from small_moe import by_rule
from torch.utils._python_dispatch import TorchDispatchMode

from medmcl.core.errors import MedmclError
from medmcl.encoders.shared.experts import route, route_experts, slots
from medmcl.encoders.shared.moe import MoE, Places, sum_rows
from medmcl.encoders.shared.settings import ExpertSettings

NUMBERS = golden("limoe_vmoe_router")


def gates(tokens, experts, seed=0, sharp=1.0):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    logits = torch.randn(tokens, experts, generator=generator, dtype=torch.float64, device="cpu")
    return (logits * sharp).softmax(-1)


def whole(values):
    return torch.tensor(values, device="cpu")


@pytest.mark.parametrize("number", range(5))
def test_kept_sets_combine_weights_and_capacity_are_those_of_vmoe(number):
    want = case(NUMBERS, f"disp{number}_")
    found = route(
        want["gates"], want["K"], int(want["capacity_used"]), bool(want["batch_priority"])
    )
    assert torch.equal(found.kept, want["kept_tokens"])
    assert torch.equal(found.combine(), want["combine_SEC"])
    assert torch.equal(found.combine() != 0, want["dispatch_SEC"])
    tokens, experts = want["gates"].shape
    given = (tokens, want["K"], want["capacity_factor"], experts)
    assert slots(*given) == want["capacity_ceil"]
    assert slots(*given, rounding="round") == want["capacity_round"]
    assert slots(*given, multiple_of=4) == want["capacity_ceil_mult4"]


@pytest.mark.parametrize(
    ("given", "least"), [((30, 1, 1.1, 1), 33), ((3, 1, 0.1, 8), 1), ((0, 1, 1.0, 4), 1)]
)
def test_capacity_is_whole_and_at_least_one(given, least):
    assert slots(*given) == least


def test_expert_choice_is_that_of_vmoe():
    want = case(NUMBERS, "ec_")
    found = route_experts(want["gates"], int(want["capacity"]))
    assert torch.equal(found.combine(), want["combine_SEC"])
    assert torch.equal(found.combine() != 0, want["dispatch_SEC"])


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("capacity", [1, 4, None])
@pytest.mark.parametrize("priority", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("bias", [None, [0.4, -0.2, 0.0, 0.1, 0.0]])
def test_dispatch_is_the_rule_applied_token_by_token(k, capacity, priority, grouped, bias):
    """A bias chooses and does not weigh."""
    g = gates(23, 5, seed=k)
    g[3:6] = g[2]  # ties
    g[9] = 0.2
    group = torch.arange(23, device="cpu") % 3 if grouped else None
    bias = None if bias is None else torch.tensor(bias, dtype=torch.float64, device="cpu")
    found = route(g, k, capacity, priority, group, bias)
    taken, asked = by_rule(g, k, capacity, priority, group, 0.0 if bias is None else bias)
    want = torch.zeros_like(found.combine())
    for (token, expert), slot in taken.items():
        want[token, expert, slot] = g[token, expert]
    assert torch.equal(found.combine(), want)
    assert grouped or found.asked.tolist() == asked


def test_groups_do_not_compete():
    g = gates(40, 4)
    group = torch.arange(40, device="cpu") % 2
    room = torch.tensor([2, 6], device="cpu")
    together = route(g, 1, room, True, group)
    chosen = route_experts(g, room, group)
    for number in (0, 1):
        mine = group == number
        alone = route(g[mine], 1, int(room[number]), True)
        assert torch.equal(together.kept[mine], alone.kept)
        alone = route_experts(g[mine], int(room[number])).combine()
        torch.testing.assert_close(chosen.combine()[mine].sum(2), alone.sum(2))


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return made


@pytest.mark.parametrize("settings", [{}, {"k": 2}, {"routing": "experts"}, {"bias_rate": 0.1}])
def test_a_layer_forward_and_backward_is_linear_in_tokens(settings):
    """No tensor of any operation is larger than the experts' hidden layer of their slots."""
    tokens, width, hidden, experts, factor = 3000, 4, 16, 8, 1.25
    torch.manual_seed(0)
    moe = MoE(width, hidden, ExpertSettings(experts=experts, capacity_factor=factor, **settings))
    every = torch.arange(tokens, device="cpu")
    places = Places(real=every, sequence=every // 100, sequences=30, group=None, sizes=(tokens,))
    x = torch.randn(tokens, width, device="cpu", requires_grad=True)
    with Largest() as largest:
        y, routing = moe(x, places)
        sums = sum_rows(routing, places, moe.settings)
        (y.sum() + sum(one.sum() for one in sums.values())).backward()
    k = settings.get("k", 1)
    columns = 5 * experts  # the sums of a row lie side by side
    assert largest.numbers <= tokens * max(k * factor * hidden, columns)
    assert largest.numbers < tokens * experts * slots(tokens, k, factor, experts) / 50
    assert x.grad.any()
    with Largest() as largest:
        routing.dispatch.combine()  # the form that is avoided, and the test sees it
    assert largest.numbers >= tokens * experts * slots(tokens, k, factor, experts) / 2


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_gates_of_few_bits_are_a_distribution(kind):
    logits = torch.randn(500, 64, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    few = logits.to(kind).softmax(-1)
    assert (few.double().sum(1) != 1).any()
    assert route(few, 1, None, False).count.sum() == 500


@pytest.mark.parametrize("given", [(4, 1, 0.0, 2), (4, 1, math.inf, 2), (4, 0, 1.0, 2)])
def test_capacity_from_nonsense_is_refused(given):
    with pytest.raises(MedmclError, match="no capacity"):
        slots(*given)


def test_no_tokens_are_no_trouble():
    found = route(gates(4, 3)[:0], 1, 2, True)
    assert found.count.tolist() == [0, 0, 0]
    assert found.combine().shape == (0, 3, 2)


@pytest.mark.parametrize("number", range(5))
def test_linear_experts_give_what_vmoe_gives(number):
    want = case(NUMBERS, f"disp{number}_")
    found = route(
        want["gates"], want["K"], int(want["capacity_used"]), bool(want["batch_priority"])
    )
    parts = want["x"][found.token].split(found.count.tolist())
    made = torch.cat([part @ w for part, w in zip(parts, want["W"], strict=True)])
    y = torch.zeros_like(want["x"]).index_add(0, found.token, made * found.weight[:, None])
    torch.testing.assert_close(y, want["y_linear_experts"], rtol=1e-5, atol=1e-5)
