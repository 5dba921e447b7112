"""The shared layers against slow loops, and under padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medmcl.core.errors import ConfigError
from medmcl.core.layers import (
    Attention,
    AttentionPool,
    Block,
    DropPath,
    masked_mean,
    sincos_1d,
    sincos_2d,
)


def tokens(rows: int = 2, length: int = 5, width: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(rows, length, width, generator=generator, device="cpu")


def test_attention_equals_a_slow_loop():
    torch.manual_seed(0)
    attention, x, heads = Attention(8, 2).double(), tokens().double(), 2
    slow = torch.zeros_like(x)
    for row in range(2):
        qkv = attention.qkv(x[row]).detach()
        for head in range(heads):
            span = slice(head * 4, head * 4 + 4)
            query, key, value = (qkv[:, part * 8 : part * 8 + 8][:, span] for part in range(3))
            for i in range(5):
                weights = [math.exp(float(query[i] @ key[j]) / 2) for j in range(5)]
                slow[row, i, span] = sum(w / sum(weights) * value[j] for j, w in enumerate(weights))
    torch.testing.assert_close(attention(x), attention.proj(slow))


def test_a_block_has_the_gradient_of_finite_differences():
    torch.manual_seed(0)
    block = Block(4, 2).double()
    x = tokens(1, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))


def test_nobody_attends_to_padding():
    torch.manual_seed(0)
    block, x = Block(8, 2), tokens()
    padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5], device="cpu")
    other = x.clone()
    other[0, 3:] = 1e3
    assert torch.equal(block(x, padding)[0, :3], block(other, padding)[0, :3])
    torch.testing.assert_close(block(x, padding)[0, :3], block(x[:1, :3])[0])


@pytest.mark.parametrize("layer", [Block(8, 2), AttentionPool(8, 2)], ids=["block", "pool"])
def test_a_row_of_padding_only_stays_finite_with_its_gradient(layer):
    x = tokens().requires_grad_()
    padding = torch.tensor([[True] * 5, [False] * 5], device="cpu")
    out = layer(x, padding)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_attention_pooling_equals_the_formula_and_ignores_padding():
    torch.manual_seed(0)
    pool, x = AttentionPool(8, 1).double(), tokens().double()
    weight, bias = pool.attention.in_proj_weight, pool.attention.in_proj_bias
    for row in range(2):
        query = weight[:8] @ x[row].mean(0) + bias[:8]
        key = x[row] @ weight[8:16].T + bias[8:16]
        value = x[row] @ weight[16:].T + bias[16:]
        mixed = (key @ query / math.sqrt(8)).softmax(0) @ value
        expected = pool.norm(pool.attention.out_proj(mixed))
        torch.testing.assert_close(pool(x)[row], expected)
    padding = torch.zeros(2, 5, dtype=torch.bool, device="cpu")
    padding[:, 3:] = True
    spoiled = x.clone()
    spoiled[:, 3:] = torch.nan
    torch.testing.assert_close(pool(spoiled, padding), pool(x[:, :3]))


def test_the_mean_leaves_padding_out():
    x = tokens()
    padding = torch.tensor([[False, False, True, True, True], [True] * 5], device="cpu")
    mean = masked_mean(x, padding)
    torch.testing.assert_close(mean[0], x[0, :2].mean(0))
    assert not mean[1].any()


def test_drop_path_keeps_the_mean_and_rests_in_evaluation():
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.ones(20000, 1, 1, device="cpu")
    out = drop(x)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert abs(float(out.mean()) - 1) < 0.02
    assert drop.eval()(x) is x


def test_positions_on_a_grid_equal_a_slow_loop():
    rows, cols, width = 3, 4, 8
    slow = torch.zeros(rows * cols, width, device="cpu")
    for row in range(rows):
        for col in range(cols):
            for half, place in enumerate((col, row)):
                for k in range(width // 4):
                    angle = place / 10000 ** (k / (width / 4))
                    slow[row * cols + col, half * 4 + k] = math.sin(angle)
                    slow[row * cols + col, half * 4 + 2 + k] = math.cos(angle)
    torch.testing.assert_close(sincos_2d(rows, cols, width, "cpu"), slow)
    torch.testing.assert_close(sincos_1d(4, 4, "cpu"), sincos_2d(1, 4, 8, "cpu")[:, :4])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Block(8, 3),
        lambda: AttentionPool(8, 3),
        lambda: DropPath(1.0),
        lambda: sincos_1d(3, 5, "cpu"),
        lambda: sincos_2d(3, 3, 6, "cpu"),
    ],
)
def test_impossible_sizes_are_refused(build):
    with pytest.raises(ConfigError):
        build()


def test_linear_layers_of_a_block_start_xavier_with_zero_bias():
    block = Block(64, 4)
    for layer in (m for m in block.modules() if isinstance(m, nn.Linear)):
        limit = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert float(layer.weight.detach().abs().max()) <= limit
        assert not layer.bias.detach().any()
