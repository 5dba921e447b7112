from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medmcl.objectives.pairwise.tiles import tiled_info_nce


def draw(rows, dtype):
    generator = torch.Generator(device="cpu").manual_seed(rows)
    a, b = (
        functional.normalize(
            torch.randn(rows, 5, generator=generator, dtype=dtype, device="cpu"), dim=1
        ).requires_grad_()
        for _ in range(2)
    )
    return a, b, torch.tensor([30.0], dtype=dtype, device="cpu", requires_grad=True)


def plain(a, b, scale, weight):
    logits = scale * (a @ b.T)
    own = torch.arange(len(a), device="cpu")
    forth, back = functional.cross_entropy(logits, own), functional.cross_entropy(logits.T, own)
    return weight * forth + (1 - weight) * back


@pytest.mark.parametrize("tile", [1, 7, 16, 50])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_tiles_of_any_size_give_value_and_gradient_of_the_plain_formula(tile, weight):
    leaves = draw(23, torch.float64)
    expected, got = plain(*leaves, weight), tiled_info_nce(*leaves, weight, tile)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(2 * got, leaves), torch.autograd.grad(2 * expected, leaves),
        rtol=1e-10, atol=1e-13,
    )  # fmt: skip


def test_float32_gradients_agree_to_a_millionth():
    leaves = draw(130, torch.float32)
    expected = torch.autograd.grad(plain(*leaves, 0.5), leaves)
    got = torch.autograd.grad(tiled_info_nce(*leaves, 0.5, 32), leaves)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-6 * max(1.0, theirs.norm().item())


def test_gradients_are_those_of_finite_differences():
    leaves = draw(5, torch.float64)
    assert torch.autograd.gradcheck(lambda a, b, s: tiled_info_nce(a, b, s, 0.3, 2), leaves)


def test_a_huge_scale_does_not_overflow():
    a, b, _ = draw(9, torch.float32)
    scale = torch.tensor([1e4], device="cpu")
    loss = tiled_info_nce(a, b, scale, 0.5, 4)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()
