from __future__ import annotations

import math

import pytest
import torch
from golden_numbers import golden

from medmcl.core.errors import MedmclError
from medmcl.objectives import info_nce, nt_xent, sigmoid_loss
from medmcl.objectives.pairwise import contrastive


def draw(rows, width, seed=0, dtype=torch.float64):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return [
        torch.randn(rows, width, generator=generator, dtype=dtype, device="cpu") for _ in range(2)
    ]


def cosine(a, b):
    return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))


def slow_info_nce(a, b, scale, weight):
    total = 0.0
    for i in range(len(a)):
        forth = sum(math.exp(scale * cosine(a[i], b[j])) for j in range(len(b)))
        back = sum(math.exp(scale * cosine(a[j], b[i])) for j in range(len(a)))
        own = math.exp(scale * cosine(a[i], b[i]))
        total -= weight * math.log(own / forth) + (1 - weight) * math.log(own / back)
    return total / len(a)


def slow_nt_xent(a, b, scale):
    rows = [*a, *b]
    half, total = len(a), 0.0
    for i in range(2 * half):
        others = [math.exp(scale * cosine(rows[i], rows[j])) for j in range(2 * half) if j != i]
        own = math.exp(scale * cosine(rows[i], rows[(i + half) % (2 * half)]))
        total -= math.log(own / sum(others))
    return total / (2 * half)


def slow_sigmoid(a, b, scale, bias):
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            sign = 1 if i == j else -1
            total += math.log1p(math.exp(-sign * (scale * cosine(a[i], b[j]) + bias)))
    return total / len(a)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_info_nce_is_the_formula_as_loops(weight):
    a, b = draw(5, 3)
    assert info_nce(a, b, 4.0, weight).item() == pytest.approx(slow_info_nce(a, b, 4.0, weight))


def test_nt_xent_is_the_formula_as_loops():
    a, b = draw(5, 3)
    assert nt_xent(a, b, 4.0).item() == pytest.approx(slow_nt_xent(a, b, 4.0))


def test_sigmoid_loss_is_the_formula_as_loops():
    a, b = draw(5, 3)
    assert sigmoid_loss(a, b, 4.0, -2.0).item() == pytest.approx(slow_sigmoid(a, b, 4.0, -2.0))


@pytest.mark.parametrize(
    ("scale", "weight", "value"),
    [(10, 0.5, 3.831882), (10, 0.25, 3.831872), (1 / 0.07, 0.5, 4.207878)],
)
def test_info_nce_equals_what_the_authors_of_ecg_cmr_publish(scale, weight, value):
    torch.manual_seed(0)
    image = torch.randn(32, 128, device="cpu")
    ecg = torch.randn(32, 128, device="cpu")
    assert info_nce(image, ecg, scale, weight).item() == pytest.approx(value, abs=1e-5)


@pytest.fixture(name="golden")
def losses_of_open_clip():
    return golden("open_clip_losses")


def golden_leaves(golden, *numbers):
    leaves = [golden["oc_image"].clone(), golden["oc_text"].clone()]
    leaves += [golden[name].float().reshape(1) for name in numbers]
    return [leaf.requires_grad_() for leaf in leaves]


def test_info_nce_equals_open_clip_in_value_and_gradient(golden):
    image, text, scale = golden_leaves(golden, "oc_clip_scale")
    loss = info_nce(image, text, scale, normalise=False)
    loss.backward()
    assert loss.item() == pytest.approx(golden["oc_clip_loss"].item(), abs=1e-5)
    torch.testing.assert_close(image.grad, golden["oc_clip_grad_image"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(text.grad, golden["oc_clip_grad_text"], rtol=1e-4, atol=1e-6)
    assert scale.grad.item() == pytest.approx(golden["oc_clip_grad_scale"].item(), rel=1e-4)


def test_sigmoid_loss_equals_open_clip_in_value_and_gradient(golden):
    image, text, scale, bias = golden_leaves(golden, "oc_siglip_scale", "oc_siglip_bias")
    loss = sigmoid_loss(image, text, scale, bias, normalise=False)
    loss.backward()
    assert loss.item() == pytest.approx(golden["oc_siglip_loss"].item(), abs=1e-5)
    torch.testing.assert_close(image.grad, golden["oc_siglip_grad_image"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(text.grad, golden["oc_siglip_grad_text"], rtol=1e-4, atol=1e-6)
    assert scale.grad.item() == pytest.approx(golden["oc_siglip_grad_scale"].item(), rel=1e-4)
    assert bias.grad.item() == pytest.approx(golden["oc_siglip_grad_bias"].item(), rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, s: info_nce(a, b, s, 0.3),
        nt_xent,
        lambda a, b, s: sigmoid_loss(a, b, s, -s),
    ],
    ids=["info_nce", "nt_xent", "sigmoid"],
)
def test_gradients_are_those_of_finite_differences(loss):
    a, b = (x.requires_grad_() for x in draw(4, 3))
    scale = torch.tensor([3.0], dtype=torch.float64, device="cpu", requires_grad=True)
    assert torch.autograd.gradcheck(loss, (a, b, scale))


def test_tiles_take_over_for_many_rows(monkeypatch):
    a, b = draw(33, 4)
    calls = []
    monkeypatch.setattr(contrastive, "tiled_info_nce", lambda *_, **__: calls.append("tiled"))
    for most in (34, 33):
        monkeypatch.setitem(contrastive.TILE_FROM, "cpu", most)
        info_nce(a, b, 20.0)
        calls.append(most)
    assert calls == [34, "tiled", 33]


def test_half_precision_is_widened_also_under_autocast():
    a, b = draw(6, 4, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(a, b, 50.0)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, info_nce(a, b, 50.0))
    assert info_nce(a.bfloat16(), b.bfloat16(), 50.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("a", "b", "scale", "weight", "says"),
    [
        ((3, 2), (4, 2), 1.0, 0.5, "one shape"),
        ((3,), (3,), 1.0, 0.5, "one shape"),
        ((1, 2), (1, 2), 1.0, 0.5, "at least 2 rows"),
        ((0, 2), (0, 2), 1.0, 0.5, "at least 2 rows"),
        ((3, 2), (3, 2), math.nan, 0.5, "finite"),
        ((3, 2), (3, 2), math.inf, 0.5, "finite"),
        ((3, 2), (3, 2), -1.0, 0.5, "above 0"),
        ((3, 2), (3, 2), 1.0, 1.5, "weight"),
        ((3, 2), (3, 2), torch.ones(2, device="cpu"), 0.5, "one number"),
    ],
)
def test_what_cannot_be_a_contrast_is_refused(a, b, scale, weight, says):
    with pytest.raises(MedmclError, match=says):
        info_nce(torch.ones(a, device="cpu"), torch.ones(b, device="cpu"), scale, weight)


@pytest.mark.parametrize("loss", [info_nce, nt_xent, lambda a, b, s: sigmoid_loss(a, b, s, -2.0)])
def test_of_two_precisions_the_wider_is_taken(loss):
    a, b = (draw(6, 4, seed)[0] for seed in (0, 1))
    expected = loss(a, b.float().double(), 10.0)
    for mixed in (loss(a, b.float(), 10.0), loss(b.float(), a, 10.0)):
        assert mixed.dtype == torch.float64
    torch.testing.assert_close(loss(a, b.float(), 10.0), expected, rtol=0, atol=0)
    assert loss(a.float(), b.bfloat16(), 10.0).dtype == torch.float32
    with pytest.raises(MedmclError, match="floating-point"):
        loss(a, torch.ones(6, 4, dtype=torch.int64, device="cpu"), 10.0)


def test_the_scale_may_be_a_number_or_a_tensor_of_any_rank():
    a, b = draw(4, 3)
    expected = info_nce(a, b, 10)
    for shape in ((), (1,), (1, 1)):
        scale = torch.full(shape, 10.0, device="cpu")
        torch.testing.assert_close(info_nce(a, b, scale), expected)
