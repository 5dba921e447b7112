"""Low-rank adapters, and encoders of which only the last layers are trained."""

import copy

import pytest
import torch
from torch import nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.encoders.encoded import layer_depth
from medmcl.encoders.low_rank import low_rank
from medmcl.encoders.settings import LoRASettings, TowerSettings
from medmcl.encoders.towers import Towers

ECG = InputShape(kind="ecg", shape=(12, 400))
VIT = {"name": "ecg_vit", "patch": 100, "width": 32, "depth": 3, "heads": 4}


def tower(encoder=None, **settings):
    torch.manual_seed(0)
    given = {"encoder": encoder or VIT, "head": {"hidden": 16, "out": 8}, **settings}
    return Towers.build({"ecg": ECG}, {"ecg": given}).tower("ecg").train()


def stepped(one, steps=3):
    """Names of what some steps of an optimiser move."""
    before = copy.deepcopy(one.state_dict())
    trained = [parameter for parameter in one.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.5)
    x = torch.randn(4, *ECG.shape, generator=torch.Generator("cpu").manual_seed(1))
    for _ in range(steps):
        optimiser.zero_grad()
        one(x)[1][:, 0].sum().backward()
        optimiser.step()
    return {
        name for name, value in one.state_dict().items() if not torch.equal(value, before[name])
    }


def test_adapters_start_as_nothing_and_learn_in_the_encoders_place():
    adapted, plain = tower(lora={"rank": 2}), tower()
    x = torch.randn(4, *ECG.shape, generator=torch.Generator("cpu").manual_seed(1))
    adapted.encoder.load_state_dict(plain.encoder.state_dict())  # the names are the same
    assert torch.equal(adapted.eval().encoder(x).features, plain.eval().encoder(x).features)
    moved = stepped(adapted.train())
    assert not {name for name in moved if name.startswith("encoder.")}
    assert {name.split(".")[0] for name in moved} == {"lora", "head"}
    linear = sum(type(one) is nn.Linear for one in adapted.encoder.modules())
    assert len(adapted.lora) == linear == 13
    with torch.no_grad():
        found = adapted.eval().encoder(x).features
    assert not torch.allclose(found, plain.encoder(x).features)


def test_an_adapter_is_the_formula():
    adapted = tower(lora={"rank": 2, "alpha": 6})
    layer, own = adapted.encoder.blocks[0].mlp.fc1, None
    linears = [one for one in adapted.encoder.modules() if type(one) is nn.Linear]
    own = adapted.lora[linears.index(layer)]
    nn.init.normal_(own.b)
    x = torch.randn(5, 32)
    expected = x @ (layer.weight + 6 / 2 * own.b @ own.a).T + layer.bias
    assert torch.allclose(layer(x), expected, atol=1e-5)


RESNET = {"name": "resnet1d", "widths": [8, 16]}


def test_an_encoder_of_convolutions_has_adapters_on_these():
    adapted, plain = tower(RESNET, lora={"rank": 2}), tower(RESNET)
    layers = [one for one in adapted.encoder.modules() if type(one) is nn.Conv1d]
    assert len(layers) == len(adapted.lora) > 4
    adapted.encoder.load_state_dict(plain.encoder.state_dict())  # the names are the same
    x = torch.randn(4, *ECG.shape, generator=torch.Generator("cpu").manual_seed(1))
    first = plain.eval().encoder(x).features
    assert torch.equal(adapted.eval().encoder(x).features, first)
    moved = stepped(adapted.train())  # no weight of the encoder, nor its statistics
    assert {name.split(".")[0] for name in moved} == {"lora", "head"}
    assert not torch.allclose(adapted.eval().encoder(x).features, first)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(6, 10, 5, stride=3, padding=2, bias=False), (6, 31)),
        (nn.Conv1d(8, 12, 3, padding="same", dilation=2, groups=4), (8, 20)),
        (nn.Conv1d(6, 6, 3, groups=6), (6, 20)),  # a kernel a channel: rank 1
        (nn.Conv2d(3, 5, (3, 2), stride=(1, 2), padding=1, padding_mode="circular"), (3, 8, 9)),
        (nn.Conv3d(2, 4, 3, stride=2, padding=1), (2, 6, 7, 8)),
    ],
)
def test_a_convolution_with_its_adapter_is_one_of_merged_weights(layer, shape):
    merged, bare = copy.deepcopy(layer), copy.deepcopy(layer)
    [own] = low_rank(nn.Sequential(layer), LoRASettings(rank=3, alpha=6))
    x = torch.randn(2, *shape)
    assert torch.equal(layer(x), bare(x))
    nn.init.normal_(own.b.weight)
    groups, rank = layer.groups, own.b.weight.shape[1]
    assert rank == (1 if groups == 6 else 3)
    inward = own.a.weight.reshape(groups, rank, -1)
    outward = own.b.weight.reshape(groups, -1, rank)
    with torch.no_grad():  # a matrix product a group, as of linear layers
        merged.weight += 6 / rank * (outward @ inward).reshape(layer.weight.shape)
    assert torch.allclose(layer(x), merged(x), atol=1e-4)
    assert not torch.allclose(layer(x), bare(x), atol=1e-2)


def test_an_encoder_without_layers_to_adapt_is_refused():
    with pytest.raises(ConfigError, match="no linear layers or convolutions"):
        low_rank(nn.Sequential(nn.BatchNorm1d(4)), LoRASettings())


def test_a_copy_has_adapters_of_its_own():
    adapted = tower(lora={"rank": 2}).eval()
    x = torch.randn(2, *ECG.shape)
    before = adapted.encoder(x).features
    other = copy.deepcopy(adapted)
    for one in other.lora:
        nn.init.normal_(one.b)
    assert torch.equal(adapted.encoder(x).features, before)
    assert not torch.allclose(other.encoder(x).features, before)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_only_the_last_layers_are_trained(layers):
    one = tower(trainable_layers=layers)
    depths = layer_depth(one.encoder)  # positions 0, blocks 1 to 3, norm 4
    moved = {name.removeprefix("encoder.") for name in stepped(one) if name.startswith("encoder")}
    assert moved == {name for name, depth in depths.items() if depth > 3 - layers}


def test_batch_statistics_of_frozen_layers_stay():
    net = {"name": "resnet1d", "widths": [8, 8]}
    whole, one = tower(net), tower(net, trainable_layers=0)
    assert any("running" in name for name in stepped(whole))
    assert not any("running" in name for name in stepped(one))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trainable_layers": 9}, "fewer layers"),
        ({"lora": {"rank": 0}}, "rank"),
        ({"lora": {}, "trainable_layers": 1}, "one says what"),
        ({"lora": {}, "frozen": "encoder"}, "leaves nothing"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        tower(**settings)


def test_a_stage_may_freeze_it_all():
    assert TowerSettings(encoder=VIT, lora={}, frozen=True).frozen is True
    assert not any(one.requires_grad for one in tower(lora={}, frozen=True).parameters())
