"""Every published net, small, under low-rank adapters and with its last layers alone trained."""

import copy

import pytest
import torch
from torch import nn

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.encoders.towers import Towers
from medmcl.engine.checkpoint import load_weights_file, save_weights

NARROW = {"width": 24, "depth": 3, "heads": 2}
TWELVE = (12, 5000)
NETS = {
    # model, sizes, what the adapter gives, how names of what is trained begin (the authors')
    "cinema:tiny": (
        {"depth": 3, "conv_blocks": 1}, (1, 4, 48, 48),
        ("encoder.blocks.2.", "encoder.norm.", "enc_fusion_dict."),
    ),
    "ecg_fm:tiny": ({"depth": 3}, (2, 12, 2500), ("encoder.layers.2.",)),
    "ecg_jepa": (NARROW, TWELVE, ("blocks.2.", "norm.")),
    "ecgfounder": (
        {"base": 16, "widths": [16, 16, 32], "blocks": [1, 1, 2]}, TWELVE, ("stage_list.2.",)
    ),
    "hubert_ecg:tiny": ({"depth": 3}, (6000,), ("encoder.layers.2.",)),
    "merl": ({"widths": [8, 8, 12, 16]}, TWELVE, ("layer4.",)),
    "merl:vit_tiny": (NARROW, TWELVE, ("block2.", "norm.")),
    "st_mem": (NARROW, (3, 12, 2250), ("block2.", "norm.")),
    "turgut_ecg": (NARROW, (12, 2500), ("blocks.2.", "attention_pool.", "fc_norm.")),
}  # fmt: skip
WAYS = {"lora": {"lora": {"rank": 2}}, "last": {"trainable_layers": 1}}
CONVOLUTIONS = ("ecgfounder", "merl")
"""Nets most of whose weights are convolutions, which have adapters, too."""


def built(net, seed=0, **way):
    sizes, shape, _ = NETS[net]
    card, _, variant = net.partition(":")
    encoder = {"name": card, "sizes": sizes, **({"variant": variant} if variant else {})}
    inputs = {"x": InputShape(kind=models.card(card).input.modality, shape=shape)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = {"encoder": encoder, "head": {"layers": 1, "out": 4}, **way}
        return Towers.build(inputs, {"x": tower}).tower("x").train()


def records(net):
    shape = NETS[net][1]
    return torch.randn(2, *shape, generator=torch.Generator("cpu").manual_seed(1))


def test_every_card_is_here():
    assert {net.partition(":")[0] for net in NETS} == {*models.names()}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("way", WAYS)
def test_what_learns_moves_and_nothing_else_and_a_file_keeps_it(net, way, tmp_path):
    tower, last = built(net, **WAYS[way]), NETS[net][2]
    layers = [one for one in tower.encoder.modules() if type(one) is nn.Linear]
    convolutions = [one for one in tower.encoder.modules() if type(one) in (nn.Conv1d, nn.Conv2d)]
    learns = {name for name, one in tower.named_parameters() if one.requires_grad}
    of_net = {name.removeprefix("encoder.net.") for name in learns if name.startswith("encoder.")}
    if way == "lora":
        assert not of_net
        wanted = len(layers) + len(convolutions) * (net in CONVOLUTIONS)
        assert len(tower.lora) == wanted > 3
    else:
        assert of_net
        assert all(name.startswith(last) for name in of_net), of_net
        assert all(any(name.startswith(one) for name in of_net) for one in last)

    before = copy.deepcopy(tower.state_dict())
    parameters = [one for one in tower.parameters() if one.requires_grad]
    optimiser, x = torch.optim.SGD(parameters, lr=0.1), records(net)
    for _ in range(2):  # the first moves one side of an adapter, whose other begins at zero
        optimiser.zero_grad()
        tower(x)[1].square().sum().backward()
        optimiser.step()
    after = tower.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    statistics = {
        name for name, _ in tower.named_buffers()
        if way == "last" and name.removeprefix("encoder.net.").startswith(last)
    }  # fmt: skip
    assert moved <= learns | statistics  # of batches, only those of layers that learn
    parts = {"lora"} if way == "lora" else {"encoder"}
    assert {name.partition(".")[0] for name in moved} == {*parts, "head"}

    save_weights(tmp_path / "w.safetensors", after)
    other = built(net, seed=1, **WAYS[way])
    other.load_state_dict(load_weights_file(tmp_path / "w.safetensors"))
    assert {name for name, one in other.named_parameters() if one.requires_grad} == learns
    with torch.no_grad():
        assert torch.equal(other.eval()(x)[1], tower.eval()(x)[1])
