"""Towers in threads: the bits of one after another, whoever draws, is absent, or fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import pytest
import torch
from made_batches import batch_of
from torch import nn

from medmcl.encoders.encoded import Encoded, EncoderModule
from medmcl.encoders.settings import HeadSettings
from medmcl.encoders.tower_threads import towers_at_once
from medmcl.encoders.towers import Head, Tower, Towers

ROWS, STEPS = 6, 4
BEGIN = 20
"""Seed of the first step."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Plain(EncoderModule):
    """A linear map, which may do more."""

    def __init__(self, more=None) -> None:
        super().__init__()
        self.map, self.width, self.more, self.seen = nn.Linear(4, 5), 5, more, []

    def forward(self, x, mask=None):
        self.seen.append(threading.current_thread().name)
        if self.more is not None:
            x = self.more(x)
        return Encoded(features=self.map(x))


def plain(*more) -> Towers:
    torch.manual_seed(0)
    return Towers({f"m{k}": Tower(Plain(one), None, (4,)) for k, one in enumerate(more)})


def seen_of(model: Towers) -> list[list[str]]:
    return [model.tower(name).encoder.seen for name in model.towers]


def rows_of(model: Towers, shown=lambda name: True, seed: int = 1):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    inputs = {
        name: torch.randn((ROWS, *model.tower(name).shape), generator=generator, device="cpu")
        for name in model.towers
    }
    return batch_of(inputs, {name: [shown(name)] * ROWS for name in inputs})


def loss_of(embeddings) -> torch.Tensor:
    """A number that every output has a part in, some of them twice."""
    parts = [
        (number + 1.0) * (x.square().mean() + x.sin().mean())
        for field in ("pooled", "features", "tokens")
        for number, (_, x) in enumerate(sorted(getattr(embeddings, field).items()))
    ]
    for a in embeddings.pooled.values():
        parts += [(a @ b.T).exp().mean() for b in embeddings.pooled.values() if a.shape == b.shape]
    return torch.stack(parts).sum()


def trained(model: Towers, batches, count: int, loss=loss_of) -> dict[str, torch.Tensor]:
    """Weights and statistics after a few steps, and the losses of a training and a tuning pass."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    said = []
    with towers_at_once(model, count):
        for step, batch in enumerate(batches):
            model.train()
            torch.manual_seed(BEGIN + step)
            optimiser.zero_grad()
            value = loss(model(batch))
            value.backward()
            optimiser.step()
            model.eval()
            with torch.no_grad():
                said += [value.detach(), loss(model(batch))]
    assert model.threads is None
    assert not [one for one in threading.enumerate() if one.name.startswith("tower")]
    return {
        **{name: x.clone() for name, x in model.state_dict().items()},
        "said": torch.stack(said),
    }


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        assert torch.equal(x, theirs[name]), name


@contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="a tower drew")
        yield


def test_every_encoder_gives_in_threads_the_bits_that_it_gives_alone(case, cases):
    def build() -> Towers:
        torch.manual_seed(3)
        other = cases["ecg_vit"]
        encoders = {"one": case.build(), "two": other.build(), "three": other.build(1)}
        shapes = {"one": case.shape, "two": other.shape, "three": other.shape}
        return Towers({name: Tower(x, None, shapes[name].shape) for name, x in encoders.items()})

    other = cases["ecg_vit"]
    batches = [
        batch_of({
            "one": case.rows(ROWS, seed), "two": other.rows(ROWS, seed + 7),
            "three": other.rows(ROWS, seed + 9),
        })
        for seed in range(STEPS)
    ]  # fmt: skip
    model, where = build(), []
    model.tower("one").register_forward_pre_hook(
        lambda *_: where.append(threading.current_thread().name)
    )
    with no_warning():
        assert_same(trained(model, batches, 2), trained(build(), batches, 1))
    assert where[0] == "MainThread"
    assert where[-1] != "MainThread"  # in evaluation no encoder draws


def test_towers_are_encoded_in_threads_of_their_own_after_the_first_batch_of_all():
    met = threading.Barrier(2, timeout=20)

    def meet(x):
        if threading.current_thread() is not threading.main_thread():
            met.wait()  # passes only if both towers are encoded at the same time
        return x

    model = plain(meet, meet)
    trained(model, [rows_of(model)] * STEPS, 2)
    for seen in seen_of(model):
        here = [name == "MainThread" for name in seen]
        # the first pass of training, and of tuning, shows whether a tower draws
        assert here == [True, True] + [False] * (2 * STEPS - 2)


def test_towers_that_draw_are_encoded_one_after_another_to_the_same_bits():
    def build():
        return plain(nn.Dropout(0.5), nn.Dropout(0.5))

    model, batches = build(), [rows_of(build(), seed=seed) for seed in range(STEPS)]
    with no_warning():
        ours = trained(model, batches, 2)
    assert_same(ours, trained(build(), batches, 1))
    for seen in seen_of(model):  # in evaluation dropout draws nothing
        assert seen[0::2] == ["MainThread"] * STEPS
        assert seen[1] == "MainThread"
        assert "MainThread" not in seen[3::2]


def test_a_batch_that_lacks_a_modality_does_not_show_whether_its_tower_draws():
    def build():
        return plain(None, nn.Dropout(0.5))

    model = build()
    empty = rows_of(model, lambda name: name == "m0")
    batches = [empty, *(rows_of(model, seed=seed) for seed in range(STEPS))]
    with no_warning():
        assert_same(trained(model, batches, 2), trained(build(), batches, 1))


def test_a_tower_that_begins_to_draw_is_told_of_and_goes_on_alone():
    def sometimes(x):
        return x + torch.rand(()) if x.mean() > 5 else x

    model = plain(None, sometimes)
    usual, odd = rows_of(model), rows_of(model)
    odd.inputs["m1"].add_(9)
    with towers_at_once(model, 2):
        model(usual)
        model(usual)
        with pytest.warns(UserWarning, match="had drawn none of earlier batches"):
            model(odd)
        for _, seen in zip(range(2), seen_of(model), strict=True):
            seen.clear()
        with no_warning():
            model(odd)
    assert seen_of(model) == [["MainThread"], ["MainThread"]]


def test_towers_with_a_weight_in_common_have_no_threads():
    model = plain(None, None)
    model.tower("m1").encoder.map.weight = model.tower("m0").encoder.map.weight
    with towers_at_once(model, 2):
        assert model.threads is None


@pytest.mark.parametrize("which", ["m0", "m1"])
def test_gradients_go_only_where_they_went_before(which):
    """A tower that nobody charges for keeps none; a frozen one too."""

    def of_one(embeddings):
        return embeddings.features[which].square().mean()

    def build():
        model = plain(None, None, None)
        model.tower("m2").requires_grad_(False)
        return model

    for loss in (of_one, loss_of):
        model, other = build(), build()
        batch = rows_of(model)
        with towers_at_once(model, 2):
            for one in (model, other):
                for _ in range(2):
                    one.zero_grad()
                    loss(one(batch)).backward()
        ours, theirs = ({n: p.grad for n, p in one.named_parameters()} for one in (model, other))
        assert {n for n, x in ours.items() if x is None} == {
            n for n, x in theirs.items() if x is None
        }
        assert_same(*({n: x for n, x in g.items() if x is not None} for g in (ours, theirs)))


def test_a_second_backward_pass_is_refused():
    model = plain(None, None)
    batch = rows_of(model)
    with towers_at_once(model, 2):
        model(batch)
        loss = loss_of(model(batch))
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="one backward pass"):
            loss.backward()


def test_heads_that_an_objective_uses_beside_the_tower_get_both_gradients():
    """Tokens projected one by one: the weights of a head are charged for within, and beside."""

    def build():
        torch.manual_seed(0)
        return Towers({f"m{k}": Tower(Plain(), _head(), (4,)) for k in range(2)})

    def loss(model, embeddings):
        more = model.tower("m0").project(embeddings.features["m0"] * 2)
        return loss_of(embeddings) + more.square().sum() * more.sin().mean()

    model, other = build(), build()
    batch = rows_of(model)
    assert_same(
        trained(model, [batch] * STEPS, 2, lambda seen: loss(model, seen)),
        trained(other, [batch] * STEPS, 1, lambda seen: loss(other, seen)),
    )


def _head() -> Head:
    return Head(5, HeadSettings(hidden=6, out=3))


@pytest.mark.parametrize("backward", [False, True])
def test_what_a_tower_raises_comes_through_and_the_others_are_waited_for(backward):
    ended, fails = [], [False]

    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if fails[0] and not backward:
                raise ValueError("no such lead")
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            if fails[0]:
                raise ValueError("no such lead")
            return grad

    def late(x):
        if fails[0]:
            threading.Event().wait(0.2)
        ended.append(True)
        return x

    model = plain(None, late)
    encoder = model.tower("m0").encoder
    encoder.map = nn.Sequential(encoder.map, _Called(Breaks.apply))
    batch = rows_of(model)
    with towers_at_once(model, 2):
        loss_of(model(batch)).backward()
        fails[0] = True
        before = len(ended)
        with pytest.raises(ValueError, match="no such lead"):
            loss_of(model(batch)).backward()
        assert len(ended) == before + 1
        fails[0] = False
        loss_of(model(batch)).backward()  # the threads live on


class _Called(nn.Module):
    def __init__(self, work) -> None:
        super().__init__()
        self.work = work

    def forward(self, x):
        return self.work(x)


OWN_THREADS = """
import torch
from threadpoolctl import threadpool_info
from medmcl.encoders.tower_threads import TowerThreads
torch.set_num_threads(1)
threads = TowerThreads(1)
found = threads._all([threadpool_info])[0]
print(*{one["num_threads"] for one in found if one["user_api"] == "openmp"})
threads.close()
"""


def test_a_tower_computes_by_as_many_threads_as_torch_was_told():
    env = os.environ | {"OMP_NUM_THREADS": "2"}
    told = subprocess.run(
        [sys.executable, "-c", OWN_THREADS], env=env, check=True, capture_output=True, text=True
    )
    assert told.stdout.split() == ["1"]  # oneDNN asks OpenMP, which a new thread asks its setting
