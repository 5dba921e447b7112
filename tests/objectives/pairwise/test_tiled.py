from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medmcl.objectives.pairwise import contrastive, tiles
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
    expected, got = plain(*leaves, weight), tiled_info_nce(*leaves, weight, tile=tile)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(2 * got, leaves), torch.autograd.grad(2 * expected, leaves),
        rtol=1e-10, atol=1e-13,
    )  # fmt: skip


def test_a_huge_scale_does_not_overflow():
    a, b, _ = draw(9, torch.float32)
    scale = torch.tensor([1e4], device="cpu")
    loss = tiled_info_nce(a, b, scale, 0.5, tile=4)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()


GROUPS = torch.arange(23, device="cpu") % 4


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("tile", [1, 7, 16, 50])
@pytest.mark.parametrize("loss", ["info_nce", "nt_xent", "sigmoid_loss"])
def test_every_loss_in_tiles_is_the_plain_one(loss, tile, groups, monkeypatch):
    """The plain ones are held to loops in test_contrastive.py."""
    a, b, scale = draw(23, torch.float64)
    bias = torch.tensor([-3.0], dtype=torch.float64, device="cpu", requires_grad=True)
    given = (0.3,) if loss == "info_nce" else (bias,) if loss == "sigmoid_loss" else ()
    leaves = (a, b, scale, *(one for one in given if one is bias))
    ask = getattr(contrastive, loss)
    expected = ask(a, b, scale, *given, groups=groups)
    monkeypatch.setitem(contrastive.TILE_FROM, "cpu", 2)
    taken = []
    for name in ("tiled_info_nce", "tiled_sigmoid"):
        real = getattr(tiles, name)

        def watched(*words, real=real, **more):
            taken.append(real)
            return real(*words, **more, tile=tile)

        monkeypatch.setattr(contrastive, name, watched)
    got = ask(a, b, scale, *given, groups=groups)
    assert len(taken) == 1
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(2 * got, leaves), torch.autograd.grad(2 * expected, leaves),
        rtol=1e-10, atol=1e-13,
    )  # fmt: skip
