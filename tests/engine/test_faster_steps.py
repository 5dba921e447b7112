"""What makes a step faster computes the same: compiled, channels last, oneDNN."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.layers import Block, attend
from medmcl.encoders import Towers
from medmcl.engine.compiling import compile_blocks
from medmcl.engine.layout import is_faster, lies_channels_last
from medmcl.engine.onednn import linear_by_onednn
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, take_state
from medmcl.engine.recompute import recompute_blocks
from medmcl.engine.world import World
from medmcl.stages.train import step_settings

TRACED = "ignore:The .grad attribute"
"""A warning of torch itself, as it traces."""


def draw(*shape, seed=0):
    return torch.randn(
        *shape, generator=torch.Generator(device="cpu").manual_seed(seed), device="cpu"
    )


def deep(depth=2, drop_path=0.0):
    torch.manual_seed(1)
    blocks = [Block(16, 2, drop_path=drop_path) for _ in range(depth)]
    return nn.ModuleDict({"blocks": nn.Sequential(*blocks), "head": nn.Linear(16, 3)})


def grads(model, rows=4, seed=3):
    model.zero_grad()
    torch.manual_seed(seed)
    model["head"](model["blocks"](draw(rows, 5, 16))).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def alike(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, x in one.items():
        torch.testing.assert_close(x, other[name], **tolerance)


class Narrow(nn.Module):
    """A block that is compiled in seconds."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        return x + functional.gelu(self.linear(x))


@pytest.mark.filterwarnings(TRACED)
@pytest.mark.parametrize(("backend", "rows"), [("inductor", (4,)), ("aot_eager", (4, 7, 5))])
def test_compiled_steps_are_those_of_eager_ones_whatever_the_rows_and_names_stay(backend, rows):
    plain = deep()
    if backend == "inductor":
        plain["blocks"] = nn.Sequential(Narrow(), Narrow())
    compiled = copy.deepcopy(plain)
    if backend == "inductor":  # which has no kernel of its own for what oneDNN computes
        assert linear_by_onednn(compiled) == 3
    assert compile_blocks(compiled, "here", backend=backend) == 2
    for count in rows:
        alike(grads(compiled, count), grads(plain, count), rtol=1e-4, atol=1e-5)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    x = draw(2, 5, 16)
    assert torch.equal(compiled.eval()["blocks"](x), plain.eval()["blocks"](x))


@pytest.mark.filterwarnings(TRACED)
def test_compiled_blocks_are_recomputed_with_the_same_drop_paths():
    twice = deep(drop_path=0.5)
    compile_blocks(twice, "here", backend="aot_eager")
    once = grads(twice)
    assert recompute_blocks(twice, "here") == 2
    alike(grads(twice), once)


class Prints(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        torch._dynamo.graph_break()
        return self.linear(x)


def test_a_block_that_is_no_single_graph_is_told_of_and_runs_as_it_is():
    torch.manual_seed(1)
    model = nn.ModuleDict({"blocks": nn.Sequential(Prints()), "head": nn.Linear(16, 3)})
    want = grads(copy.deepcopy(model))
    compile_blocks(model, "here", backend="eager")
    with pytest.warns(UserWarning, match=r"block \(Prints\) runs as it is"):
        alike(grads(model), want)
    alike(grads(model), want)


def image_towers():
    torch.manual_seed(2)
    shape = InputShape(kind="image", shape=(3, 32, 32))
    encoder = {"name": "small_cnn"}
    return Towers.build({"image": shape}, {"image": {"encoder": encoder, "head": {"out": 4}}})


def lies_last(module):
    """Whether weights of convolutions lie channels last: all of them, or none."""
    found = {
        x.weight.is_contiguous(memory_format=torch.channels_last)
        for x in module.modules()
        if isinstance(x, nn.Conv2d)
    }
    assert len(found) == 1
    return found.pop()


def learn(towers, optimiser, steps):
    for step in range(steps):
        optimiser.zero_grad()
        encoded, points = towers.tower("image")(draw(4, 3, 32, 32, seed=step))
        (points[:, 0].sum() + encoded.features.square().mean()).backward()
        optimiser.step()


def test_channels_last_has_the_same_gradients_and_goes_on_from_a_checkpoint():
    plain, last = image_towers(), image_towers()
    assert lies_channels_last(last)
    assert (lies_last(plain), lies_last(last)) == (False, True)
    still = OptimiserSettings(name="sgd", lr=0.0)
    for towers in (plain, last):
        learn(towers, build_optimiser(towers, still, {}), 1)
    found = [{n: p.grad for n, p in one.named_parameters()} for one in (plain, last)]
    alike(*found, rtol=1e-3, atol=1e-4)
    settings = OptimiserSettings(lr=1e-3, fused=True)
    learn(last, through := build_optimiser(last, settings, {}), 2)
    weights = {n: x.contiguous().clone() for n, x in last.state_dict().items()}
    state = copy.deepcopy(through.state_dict())
    for kept in state["state"].values():
        kept.update({n: x.contiguous() for n, x in kept.items()})
    again = image_towers()
    lies_channels_last(again)
    again.load_state_dict(weights)
    optimiser = build_optimiser(again, settings, {})
    take_state(optimiser, state)
    learn(again, optimiser, 2)
    learn(last, through, 2)
    alike(again.state_dict(), last.state_dict(), rtol=0, atol=0)


def test_volumes_too_lie_channels_last_and_only_convolutions_do():
    volume = nn.Conv3d(3, 4, 2)
    before = volume.weight.detach().clone()
    assert lies_channels_last(nn.Sequential(volume))
    assert volume.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not volume.weight.is_contiguous()
    assert torch.equal(volume.weight, before)
    assert not lies_channels_last(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1)))


@pytest.mark.parametrize("frozen", [False, True])
def test_timing_both_layouts_leaves_the_tower_as_it_is(frozen):
    tower = image_towers().tower("image").requires_grad_(not frozen)
    before = copy.deepcopy(tower.state_dict())
    ticks = iter(range(100))
    x = draw(2, 3, 32, 32)
    assert is_faster(
        tower, x, lambda: torch.autocast("cpu", enabled=False), lambda: next(ticks)
    ) == (1, 1)
    assert all(torch.equal(x, before[name]) for name, x in tower.state_dict().items())
    assert all(p.grad is None and p.is_contiguous() for p in tower.parameters())


def test_linear_layers_by_onednn_are_the_same_and_leave_half_precision_alone():
    plain, other = deep(drop_path=0.3), deep(drop_path=0.3)
    assert linear_by_onednn(other) == 2 * 4 + 1
    alike(grads(other), grads(plain), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alike(grads(other), grads(plain), rtol=0, atol=0)
    x = draw(0, 16)
    assert other["head"](x).shape == (0, 3)


def test_attention_in_half_precision_is_that_of_full_within_its_error():
    query, key, value = (draw(2, 3, 6, 8, seed=n) for n in range(3))
    allowed = (draw(2, 6, seed=4) > -0.5)[:, None, None, :]
    for mask in (None, allowed):
        want = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = []
        for narrow in (torch.float32, torch.bfloat16):
            q, k, v = (x.detach().to(narrow).requires_grad_() for x in (query, key, value))
            out = attend(q, k, v, mask)
            torch.testing.assert_close(out.float(), want, rtol=0.03, atol=0.03)
            out.float().square().sum().backward()
            found.append([x.grad.float() for x in (q, k, v)])
        for full, half in zip(*found, strict=True):
            torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


def test_what_was_chosen_is_kept_and_a_damaged_choice_is_refused(tmp_path):
    context = SimpleNamespace(run=SimpleNamespace(path=tmp_path), world=World())
    asked = SimpleNamespace(name="mdm"), context, "accumulate"
    first = step_settings._once(*asked, find=lambda: {"parts": 4})
    assert step_settings._once(*asked, find=lambda: {"parts": 8}) == first == {"parts": 4}
    file = tmp_path / "step" / "mdm.accumulate.json"
    for damage in (file.read_text().replace("4", "2"), "{", ""):
        file.write_text(damage)
        with pytest.raises(ArtefactError, match=r"mdm\.accumulate\.json(.|\n)*delete it"):
            step_settings._once(*asked, find=lambda: {"parts": 8})


def asked_for(folder, precision="fp32", **more):
    """A stage, the context that it begins in, and what is said meanwhile."""
    said = []
    run = SimpleNamespace(path=folder, precision=precision)
    context = SimpleNamespace(run=run, world=World(), record=SimpleNamespace(say=said.append))
    spec = {"name": "mmcl", "batch_size": 4, "accumulate": 1, "channels_last": False,
            "onednn": False, "compile": False, "length_groups": None}  # fmt: skip
    return SimpleNamespace(**spec | more), context, said


@pytest.mark.parametrize(("seconds", "last"), [((2.0, 1.0), True), ((1.0, 2.0), False)])
def test_the_layout_that_is_faster_is_taken_told_and_kept(seconds, last, tmp_path, monkeypatch):
    spec, context, said = asked_for(tmp_path, channels_last="auto")
    for found in (seconds, seconds[::-1]):  # the second time a run goes on, and keeps the first
        monkeypatch.setattr(step_settings, "is_faster", lambda *_, found=found: found)
        towers = image_towers()
        learner = SimpleNamespace(model=towers)
        _, facts = step_settings.settle_step(spec, learner, None, {}, None, context)
        chosen = {"chosen": last, "seconds_plain": seconds[0], "seconds_channels_last": seconds[1]}
        assert facts == {"channels_last": {"image": chosen}}
        assert lies_last(towers) is last
    how = "channels last" if last else "as it is"
    told = f"mmcl: image {how}: {seconds[0]:.3g} s as it is, {seconds[1]:.3g} s channels last"
    assert said == [told] * 2


def test_a_stage_is_laid_out_and_compiled_as_it_asks(tmp_path):
    encoder = {"name": "ecg_vit", "patch": 4, "width": 8, "depth": 2, "heads": 2}
    shape = InputShape(kind="ecg", shape=(2, 12))
    ecg = Towers.build({"ecg": shape}, {"ecg": {"encoder": encoder, "head": None}})
    learner = nn.ModuleDict({"model": nn.ModuleList([ecg, image_towers()])})
    asked = {"channels_last": True, "onednn": True, "compile": True}
    spec, context, said = asked_for(tmp_path, "bf16", **asked)
    assert step_settings.settle_step(spec, learner, None, {}, None, context)[1] == {
        "compiled_blocks": 2
    }
    assert lies_last(learner)
    linear = [one for one in learner.modules() if type(one) is nn.Linear]
    assert all("forward" in vars(one) for one in linear)
    assert said == ["mmcl: onednn changes nothing but float32 on a CPU"]
    assert list(tmp_path.iterdir()) == []  # nothing was left to choose


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"compile": True}, "no encoder has blocks to compile"),
        (
            {"compile": True, "convolutions": True},
            "those with convolutions are slower compiled on a",
        ),
        ({"recompute": True}, "no encoder has blocks that can be computed twice"),
        ({"channels_last": True}, "no encoder has convolutions in two or three"),
        ({"length_groups": 4}, "no encoder reads rows that may be cut where their padding begins"),
    ],
)
def test_what_no_encoder_can_is_refused_before_the_first_step(asked, words):
    spec = {"name": "mdm", "accumulate": 1, "recompute": False, "compile": False, "onednn": True,
            "channels_last": False, "length_groups": None}  # fmt: skip
    learner = nn.Module()
    learner.model = nn.Linear(4, 4)
    if asked.pop("convolutions", False):
        learner.blocks = nn.Sequential(nn.Sequential(nn.Conv1d(2, 2, 1)))
    step_settings.refuse_step(SimpleNamespace(**spec), learner)
    with pytest.raises(ConfigError, match=words):
        step_settings.refuse_step(SimpleNamespace(**spec | asked), learner)
