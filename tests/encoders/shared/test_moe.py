"""The layer of experts: golden blocks, a slow dense twin, gradients, padding, NaN."""

from __future__ import annotations

import math

import pytest
import torch
from golden_numbers import case, golden
from small_moe import assert_same_gradients, layer, one_group, random
from torch import nn
from torch.nn import functional

from medmcl.core.config import check
from medmcl.core.errors import ConfigError
from medmcl.core.layers import ProbePool
from medmcl.encoders.shared.experts import route, route_experts, slots
from medmcl.encoders.shared.moe import ExpertMLPs, Places, sum_rows
from medmcl.encoders.shared.settings import ExpertSettings

NUMBERS = golden("limoe_vmoe_router")


def test_a_layer_is_that_of_vmoe():
    want = case(NUMBERS, "moeblock0_")
    experts, width, hidden = want["Dense_0_W"].shape
    moe = layer(width, hidden, experts=experts, k=want["K"],
                capacity_factor=want["capacity_factor"]).float()  # fmt: skip
    with torch.no_grad():
        moe.router.weight.copy_(want["router_W"].T)
        moe.mlps.weight1.copy_(want["Dense_0_W"].transpose(1, 2))
        moe.mlps.bias1.copy_(want["Dense_0_b"])
        moe.mlps.weight2.copy_(want["Dense_1_W"].transpose(1, 2))
        moe.mlps.bias2.copy_(want["Dense_1_b"])
    x = want["x"].flatten(0, 1)
    y, routing = moe(x, one_group(len(x)))
    torch.testing.assert_close(y, want["y"].flatten(0, 1), rtol=1e-5, atol=1e-5)
    assert not routing.dispatch.kept.all()


def test_pooling_by_a_probe_is_that_of_vmoe():
    want = case(NUMBERS, "map_")
    attention = "param/MultiHeadDotProductAttention"
    width, heads, _ = want[f"{attention}/query/kernel"].shape
    pool = ProbePool(width, heads, want["param/Mlp/Dense_0/kernel"].shape[1])
    parts = ("query", "key", "value")
    with torch.no_grad():
        pool.probe.copy_(want["param/probe"])
        kernels = [want[f"{attention}/{p}/kernel"].reshape(width, width).T for p in parts]
        pool.attention.in_proj_weight.copy_(torch.cat(kernels))
        biases = [want[f"{attention}/{p}/bias"].reshape(-1) for p in parts]
        pool.attention.in_proj_bias.copy_(torch.cat(biases))
        pool.attention.out_proj.weight.copy_(
            want[f"{attention}/out/kernel"].reshape(width, width).T
        )
        pool.attention.out_proj.bias.copy_(want[f"{attention}/out/bias"])
        pool.norm.weight.copy_(want["param/LayerNorm/scale"])
        pool.norm.bias.copy_(want["param/LayerNorm/bias"])
        for number, linear in enumerate((pool.mlp.fc1, pool.mlp.fc2)):
            linear.weight.copy_(want[f"param/Mlp/Dense_{number}/kernel"].T)
            linear.bias.copy_(want[f"param/Mlp/Dense_{number}/bias"])
    torch.testing.assert_close(pool(want["x"]), want["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"k": 2, "priority": False},
        {"k": 3, "normalise": True},
        {"k": 4, "capacity_factor": 0.5},
        {"routing": "experts"},
        {"bias_rate": 0.01},
        {"k": 2, "normalise": True, "bias_rate": 0.01},
    ],
)
def test_values_and_gradients_are_those_of_a_slow_dense_layer(settings):
    """Every expert on every token, then weighed; the bias of loads has no gradient."""
    moe = layer(**settings)
    x = random(21, 6).requires_grad_()
    own, mlps, bias = moe.settings, moe.mlps, torch.zeros(4, device="cpu")
    if own.bias_rate:
        bias = moe.balance.bias.copy_(torch.tensor([0.5, -0.3, 0.0, 0.1], device="cpu"))
    y, routing = moe(x, one_group(21))
    gates = functional.linear(x, moe.router.weight).softmax(-1)
    room = slots(21, own.k, own.capacity_factor, own.experts)
    routed = (
        route_experts(gates, room)
        if own.routing == "experts"
        else route(gates, own.k, room, own.priority, bias=bias)
    )
    combine = routed.combine()
    liked = gates + bias
    if own.normalise:
        combine = combine / gates.gather(1, liked.topk(own.k).indices).sum(1)[:, None, None]
    outcomes = []
    for e in range(own.experts):
        hidden = functional.linear(x, mlps.weight1[e], mlps.bias1[e])
        hidden = functional.gelu(hidden, approximate="tanh")
        outcomes.append(functional.linear(hidden, mlps.weight2[e], mlps.bias2[e]))
    want = torch.einsum("sec,esd->sd", combine, torch.stack(outcomes))
    torch.testing.assert_close(y, want)
    assert_same_gradients(y, want, (x, *moe.parameters()))
    first = sum_rows(routing, one_group(21), own)["first"][0]
    assert first.tolist() == torch.bincount(liked.argmax(1), minlength=4).tolist()


def test_grouped_matmul_gives_what_the_loop_gives():
    if not hasattr(functional, "grouped_mm"):
        pytest.skip("this torch has no public grouped matmul")
    torch.manual_seed(0)
    mlps = ExpertMLPs(3, 16, 32)
    nn.init.normal_(mlps.bias1)
    count = torch.tensor([5, 0, 7], device="cpu")
    x = random(12, 16, dtype=torch.float32).requires_grad_()
    weights = random(12, 16, seed=1, dtype=torch.float32)
    outcomes = [run(x, count) for run in (mlps.one_by_one, mlps.grouped)]
    torch.testing.assert_close(*outcomes, rtol=1e-4, atol=1e-5)
    given = (x, *mlps.parameters())
    one, other = (torch.autograd.grad((y * weights).sum(), given) for y in outcomes)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_padding_takes_no_slot_and_gives_zero():
    moe = layer()
    x = random(12, 6)
    real = torch.tensor([0, 2, 3, 7, 8, 11], device="cpu")
    y, routing = moe(x, Places(real=real, sequence=real * 0, sequences=1, group=None, sizes=(6,)))
    alone, _ = moe(x[real], one_group(6))
    assert torch.equal(y[real], alone)
    assert int((y != 0).any(1).sum()) == int((alone != 0).any(1).sum()) <= 6
    assert routing.dispatch.tokens == 6


def test_evaluation_drops_nothing_and_rows_do_not_compete():
    for routing in ("tokens", "experts"):
        moe = layer(routing=routing, capacity_factor=0.5, noise=1.0).eval()
        x = random(24, 6)
        order = torch.arange(24, device="cpu")
        places = Places(real=order, sequence=order // 6, sequences=4, group=None, sizes=(24,))
        whole, found = moe(x, places)
        alone, _ = moe(x[6:12], one_group(6))
        torch.testing.assert_close(whole[6:12], alone)
        assert routing == "experts" or found.dispatch.kept.all()


def test_noise_is_drawn_in_training_only_with_the_sigma_that_was_said():
    moe = layer(experts=4, noise=2.0)
    _, routing = moe(random(4000, 6), one_group(4000))
    noise = routing.noisy - routing.logits
    assert noise.std().item() == pytest.approx(0.5, rel=0.03)
    assert moe.eval()(random(5, 6), one_group(5))[1].noisy is None


def test_what_is_not_a_number_is_passed_on():
    x = random(8, 6)
    x[3, 0] = math.nan
    y, routing = layer()(x, one_group(8))
    assert routing.logits[3].isnan().all()
    assert y.isnan().any()
    assert y[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()


def test_router_computes_in_float32_under_autocast():
    moe = layer().float()
    x = random(16, 6, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, routing = moe(x, one_group(16))
    assert routing.logits.dtype == torch.float32
    torch.testing.assert_close(routing.logits, functional.linear(x, moe.router.weight))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"experts": 2, "k": 3}, "k 3"),
        ({"capacity_factor": 0}, "capacity_factor"),
        ({"bias_rate": 0.1, "routing": "experts"}, "experts that choose are balanced"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        check(ExpertSettings, settings, where="experts", error=ConfigError)
    assert words in str(error.value)
