"""A batch encoded in parts against the same batch encoded at once."""

from __future__ import annotations

import copy
import weakref
from contextlib import nullcontext

import pytest
import small_shared
import torch
from made_batches import batch_of
from torch import nn

from medmcl.core.batch import InputShape
from medmcl.core.rng import derive_seed
from medmcl.encoders import Towers
from medmcl.engine.gradient_cache import accumulate, encode_in_parts, join, split
from medmcl.engine.loop import Learner, autocast
from medmcl.engine.world import World
from medmcl.objectives import build_objective

ROWS, PARTS, HIDDEN = 7, 3, 8
KEY = (4, "contrast", "step", 11, 0)
INPUTS = {
    "ecg": InputShape(kind="ecg", shape=(2, 24)),
    "text": InputShape(kind="text", shape=(5,), vocabulary=9),
}
PRESENT = {
    "everybody": {"ecg": [1] * 7, "text": [1] * 7},
    "patchy": {"ecg": [1, 1, 0, 1, 1, 1, 1], "text": [1, 0, 1, 1, 1, 0, 1]},
    "no text in the second part": {"ecg": [1] * 7, "text": [1, 1, 1, 0, 0, 1, 1]},
    "nothing in the second part": {"ecg": [1, 1, 1, 0, 0, 1, 1], "text": [1, 1, 1, 0, 0, 1, 1]},
    "no text anywhere": {"ecg": [1] * 7, "text": [0] * 7},
}


def learner(*, dropout=0.0, norm=None, depth=2):
    """An ECG transformer and a text one, a contrastive objective and a masked one, in float64."""
    torch.manual_seed(1)
    head = {"layers": 2, "out": 6, **({"norm": norm} if norm else {})}
    towers = Towers.build(INPUTS, {
        "ecg": {"encoder": {"name": "ecg_vit", "patch": 4, "width": 8, "depth": depth, "heads": 2,
                            "drop_path": dropout},
                "head": head},
        "text": {"encoder": {"name": "text_transformer", "width": 8, "depth": depth, "heads": 2,
                             "dropout": dropout},
                 "head": head},
    })  # fmt: skip
    settings = {
        "cross_modal": {"view": "plain", "scale": {"init": 5.0, "learned": True}},
        "masked": {"modality": "ecg", "decoder": {"width": 8, "depth": 1, "heads": 2}},
    }
    shape = towers.shape(INPUTS)
    objectives = {kind: build_objective(kind, own, shape) for kind, own in settings.items()}
    return Learner(towers, objectives, {"cross_modal": 1.0, "masked": 0.7}).double()


def make_views(presence="everybody", rows=ROWS):
    """The plain view, and one that hides two thirds of the ECG."""
    generator = torch.Generator(device="cpu").manual_seed(3)
    present = {
        name: torch.tensor(flags[:rows], device="cpu").bool()
        for name, flags in PRESENT[presence].items()
    }
    ecg = torch.randn(ROWS, 2, 24, generator=generator, dtype=torch.float64, device="cpu")[:rows]
    text = torch.randint(1, 9, (ROWS, 5), generator=generator, device="cpu")[:rows]
    text[::2, 3:] = 0
    noise = torch.rand(ROWS, 12, generator=generator, device="cpu")[:rows]
    inputs = {
        "ecg": ecg * present["ecg"][:, None, None],
        "text": text * present["text"][:, None],
    }
    batch = batch_of(inputs, present)
    hidden = {"ecg": noise.argsort(1).argsort(1) < HIDDEN}
    return {"plain": batch, "masked": batch.with_inputs(batch.inputs, hidden)}


def charge_of(own, views):
    return lambda seen: own.charge(seen, views["plain"], World())


def at_once(own, views):
    torch.manual_seed(derive_seed(*KEY))
    loss, terms = own(views, views["plain"], World())
    if terms:
        loss.backward()
    return loss.detach(), terms


def in_parts(own, views, parts=PARTS, cast=nullcontext):
    charge = charge_of(own, views)
    return accumulate(own.model, charge, views, parts=parts, key=KEY, autocast=cast)


def joined_graph(own, views, parts=PARTS, cast=nullcontext):
    """The slow reference: every part with a graph, all of them kept until one backward pass."""
    seen = {}
    for name, view in views.items():
        pieces = []
        for number, rows in enumerate(torch.arange(len(view)).tensor_split(parts)):
            torch.manual_seed(derive_seed(*KEY, "part", name, number))
            with cast():
                pieces.append(own.model(view[rows]))
        seen[name] = join(pieces, view)
    torch.manual_seed(derive_seed(*KEY))
    with cast():
        loss, terms = charge_of(own, views)(seen)
    loss.backward()
    return loss.detach(), terms


def gradients(own):
    return {name: p.grad for name, p in own.named_parameters()}


def assert_alike(found, wanted, bound):
    """Same parameters without a gradient, and the others' gradients alike."""
    largest = max(grad.norm() for grad in wanted.values() if grad is not None)
    for name, grad in wanted.items():
        assert (found[name] is None) == (grad is None), name
        if grad is not None:
            assert (found[name] - grad).norm() <= bound * largest, name


@pytest.mark.parametrize("presence", PRESENT)
@pytest.mark.parametrize("rows", [ROWS, 2])
def test_loss_and_gradient_are_those_of_the_whole_batch(presence, rows):
    one, other, views = learner(), learner(), make_views(presence, rows)
    loss, terms = at_once(one, views)
    found, found_terms = in_parts(other, views)
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    assert {n: count for n, (_, count) in found_terms.items()} == {
        n: count for n, (_, count) in terms.items()
    }
    for name, (value, _) in terms.items():
        assert found_terms[name][0].item() == pytest.approx(value.item(), rel=1e-12)
    assert_alike(gradients(other), gradients(one), 1e-12)


def test_in_float32_as_well():
    one, other = learner().float(), learner().float()
    views = {
        name: view.with_inputs({**view.inputs, "ecg": view.inputs["ecg"].float()})
        for name, view in make_views("patchy").items()
    }
    loss, _ = at_once(one, views)
    found, _ = in_parts(other, views)
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    assert_alike(gradients(other), gradients(one), 1e-6)


def test_the_mean_of_losses_of_parts_would_have_been_another_loss():
    one, other, views = learner(), learner(), make_views()
    at_once(one, views)
    pieces = {name: split(view, PARTS) for name, view in views.items()}
    for number in range(PARTS):
        part = {name: found[number] for name, found in pieces.items()}
        loss, _ = other(part, part["plain"], World())
        (loss * len(part["plain"]) / ROWS).backward()
    with pytest.raises(AssertionError):
        assert_alike(gradients(other), gradients(one), 0.05)


def test_with_dropout_the_gradient_is_that_of_all_parts_in_one_graph():
    one, other, views = learner(dropout=0.4), learner(dropout=0.4), make_views("patchy")
    loss, _ = joined_graph(one, views)
    found, _ = in_parts(other, views)
    assert found.item() == pytest.approx(loss.item(), rel=1e-12)
    assert_alike(gradients(other), gradients(one), 1e-12)


def test_the_second_encoding_draws_what_the_first_drew(monkeypatch):
    own, views, seen = learner(dropout=0.4), make_views(), []

    def kept(module, given, encoded):
        seen.append((torch.is_grad_enabled(), encoded.pooled["text"].detach()))

    own.model.register_forward_hook(kept)
    in_parts(own, views)
    count = PARTS * len(views)
    assert [grad for grad, _ in seen] == [False] * count + [True] * count
    for (_, first), (_, second) in zip(seen[:count], seen[count:], strict=True):
        assert torch.equal(first, second)
    del seen[:]
    own.zero_grad()
    monkeypatch.setattr("medmcl.engine.gradient_cache.seed_torch", lambda seed, device: None)
    in_parts(own, views)
    pairs = zip(seen[:count], seen[count:], strict=True)
    assert not any(torch.equal(first, second) for (_, first), (_, second) in pairs)


def test_under_autocast_too_the_gradient_is_that_of_all_parts_in_one_graph():
    cast = lambda: autocast("bf16", torch.device("cpu"))  # noqa: E731  (made anew at each call)
    one, other = learner().float(), learner().float()
    views = {
        name: view.with_inputs({**view.inputs, "ecg": view.inputs["ecg"].float()})
        for name, view in make_views().items()
    }
    joined_graph(one, views, cast=cast)
    in_parts(other, views, cast=cast)
    assert all(grad is not None for grad in gradients(other).values())
    assert_alike(gradients(other), gradients(one), 1e-2)


def test_a_dense_shared_tower_takes_parts_even_without_rows():
    batch = small_shared.batch()
    towers = [small_shared.build(experts=None).double() for _ in range(2)]
    shape = towers[0].shape(small_shared.INPUTS)
    settings = {"view": "plain", "scale": {"init": 5.0, "learned": True}}
    views = {"plain": batch.with_inputs({**batch.inputs, "image": batch.inputs["image"].double()})}
    one, other = (
        Learner(t, {"align": build_objective("cross_modal", settings, shape)}, {"align": 1.0})
        for t in towers
    )
    at_once(one, views)
    in_parts(other.double(), views, parts=8)
    assert_alike(gradients(other), gradients(one), 1e-7)


def test_without_terms_nothing_is_learned():
    own = learner()
    own.objectives.pop("masked")
    views = make_views("no text anywhere")
    loss, terms = in_parts(own, views)
    assert terms == {}
    assert loss.item() == 0
    assert all(grad is None for grad in gradients(own).values())


def test_statistics_of_batch_norm_move_once():
    own = learner(norm="batch")
    before = copy.deepcopy(own.model)
    views = make_views()
    in_parts(own, views)
    with torch.no_grad():
        for view in views.values():
            for part in split(view, PARTS):
                before(part)
    norms = [m for m in own.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms
    assert all(norm.num_batches_tracked == PARTS * len(views) for norm in norms)
    for (name, x), y in zip(own.model.named_buffers(), before.buffers(), strict=True):
        assert torch.equal(x, y), name


def test_without_learning_the_parts_are_encoded_as_the_whole():
    own, view = learner(), make_views("patchy")["masked"]
    own.eval()
    whole, joined = own.model(view), encode_in_parts(own.model, view, PARTS)
    assert joined.batch is view
    for field in ("pooled", "features", "tokens", "padding"):
        assert list(getattr(joined, field)) == list(getattr(whole, field))
        for name, x in getattr(whole, field).items():
            torch.testing.assert_close(getattr(joined, field)[name], x)


def most_alive(learn):
    """Most bytes that graphs held for backward passes at any one time."""
    alive, most = 0, 0

    class Kept:
        def __init__(self, x):
            self.x = x.detach()  # or an output would keep its own graph alive

    def gone(size):
        nonlocal alive
        alive -= size

    def keep(x):
        nonlocal alive, most
        if isinstance(x, nn.Parameter):
            return x
        size = x.numel() * x.element_size()
        alive, most = alive + size, max(most, alive + size)
        kept = Kept(x)
        weakref.finalize(kept, gone, size)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: getattr(kept, "x", kept)):
        learn()
    return most


def test_activations_of_one_part_are_alive_at_a_time():
    one, other, views = learner(depth=6), learner(depth=6), make_views()
    whole = most_alive(lambda: at_once(one, views))
    parts = most_alive(lambda: in_parts(other, views, parts=ROWS))
    of_a_row = most_alive(lambda: other.model(views["plain"][:1]).pooled["ecg"].sum().backward())
    assert parts <= of_a_row  # the decoder's, of all rows, are fewer
    assert parts < whole / 4
