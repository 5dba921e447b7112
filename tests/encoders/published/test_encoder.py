"""Every card's name is an encoder of recipes."""

import numpy as np
import pytest
import torch

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.core.config import Config as Source
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders.build import ENCODERS, build_encoder
from medmcl.encoders.encoded import Encoder, layer_depth, num_layers
from medmcl.modalities import ADAPTERS
from tests.support.published_weights import arrays, drawn, filled, save

ECG = InputShape(kind="ecg", shape=(12, 2500))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return save(filled("turgut_ecg", "attention_pool"), folder / "w.pth", "model")


def built(shape=ECG, name="turgut_ecg", **settings):
    return build_encoder(name, shape, settings, where="towers.ecg.encoder")


def test_it_gives_what_the_model_gives(file):
    encoder = built(weights=file).eval()
    assert isinstance(encoder, Encoder)
    lines = encoder.start_weights()
    assert "sha256" in lines[0]
    assert "no commercial use" in lines[1]
    assert encoder.provenance["model"] == "turgut_ecg"
    x = torch.from_numpy(drawn("turgut_ecg", 0, (2, 1, 12, 2500)))
    with torch.no_grad():
        one, same = encoder(x[:, 0]), encoder(x)
        nothing = encoder(x[:0, 0])
    stored = arrays("turgut_ecg")["attention_pool/x/features"]
    assert np.abs(one.features.numpy() - stored).max() < 1e-5 * stored.std()
    assert torch.equal(one.features, same.features)
    assert one.tokens.shape == (2, 300, 384)
    assert encoder.grid == (300,)
    assert nothing.features.shape == (0, 384)


def test_windows_are_averaged(file):
    encoder = built(InputShape(kind="ecg", shape=(2, 12, 2500)), weights=file).eval()
    encoder.start_weights()
    x = torch.from_numpy(drawn("turgut_ecg", 0, (2, 1, 12, 2500)))[:, 0]
    with torch.no_grad():
        found = encoder(x[None])
    stored = arrays("turgut_ecg")["attention_pool/x/features"].mean(0)
    assert np.allclose(found.features[0], stored, atol=1e-5)
    assert found.tokens.shape == (1, 600, 384)


def test_it_is_built_without_the_file_and_refuses_a_wrong_one(tmp_path):
    encoder = built(weights=tmp_path / "absent.pth", variant="cls")
    with pytest.raises(ArtefactError, match="no such file") as told:
        encoder.start_weights()
    assert "`medmcl models turgut_ecg` says where and which" in str(told.value.fix)
    for text in ("id,e0,e1\n1,0.5,0.25\n", "import numpy as np\nrng = np.random\n"):
        (tmp_path / "absent.pth").write_text(text)
        with pytest.raises(ArtefactError, match="is a text, not a file of weights"):
            encoder.start_weights()
    assert "first weights" in built().start_weights()[0]


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        (InputShape(kind="cmr", shape=(12, 2500)), {}, "records of another kind"),
        (InputShape(kind="ecg", shape=(6000,)), {}, "another kind or shape"),
        (InputShape(kind="ecg", shape=(12, 2400)), {}, "an input of this size"),
        (ECG, {"output": "tokens"}, "one vector a record"),
        (
            InputShape(kind="ecg", shape=(12, 5000)),
            {"name": "merl", "output": "zero_shot"},
            "no head",
        ),
        (ECG, {"variant": "attentionpool"}, "attention_pool"),
        (ECG, {"wights": "w.pth"}, "did you mean"),
    ],
)
def test_what_cannot_be_built_is_refused(shape, settings, words):
    with pytest.raises(ConfigError, match=words):
        built(shape, **settings)


def test_layers_fall_towards_the_input():
    depths = layer_depth(built())
    assert depths["net.pos_embed"] == depths["net.patch_embed.proj.weight"] == 0
    assert [depths[f"net.blocks.{n}.mlp.fc1.weight"] for n in range(3)] == [1, 2, 3]
    assert depths["net.fc_norm.weight"] == 4
    founder = built(InputShape(kind="ecg", shape=(12, 5000)), "ecgfounder")
    depths = layer_depth(founder)
    assert depths["net.first_conv.conv.weight"] == 0
    assert depths["net.stage_list.6.block_list.3.conv3.conv.weight"] == 7
    assert num_layers(founder) == 8


@pytest.mark.parametrize(("name", "shape", "first", "middle", "last"), [
    ("merl", (12, 5000), "conv1.weight", "layer4.1.bn2.bias", None),
    ("ecg_jepa", (12, 5000), "registers", "blocks.3.mlp.fc1.weight", "norm.weight"),
    ("st_mem", (3, 12, 2250), "lead_embeddings.0", "block3.ff.norm.bias", "norm.bias"),
])  # fmt: skip
def test_layers_are_found_by_the_authors_names(name, shape, first, middle, last):
    depths = layer_depth(built(InputShape(kind="ecg", shape=shape), name))
    assert depths[f"net.{first}"] == 0
    assert depths[f"net.{middle}"] == 4
    assert max(depths.values()) == depths[f"net.{last or middle}"]
    embed = [x for key, x in depths.items() if "patch_embed" in key]
    assert not any(embed)


def test_every_card_is_an_encoder_of_its_own():
    for name in models.names():
        assert name in ENCODERS
        settings = ENCODERS.settings[name]
        assert settings.card.name == name
        assert ENCODERS[name].Settings is settings


@pytest.mark.parametrize("name", models.names())
def test_every_card_reads_what_it_prepares(name):
    card = models.card(name)
    adapter = ADAPTERS[card.input.modality]
    for preparation in (None, *card.preparations):
        settings = card.checked(card.settings(card.default, preparation))
        made = adapter(Source.model_construct(), settings)
        shape = made.input_shape
        width = built(shape, name, **({"preparation": preparation} if preparation else {})).width
        assert width > 0


def test_volumes_come_in_the_order_of_the_net():
    """The adapter gives (frame, z, y, x), CineMA reads x, y, z."""
    card = models.card("cinema")
    sizes = (1, 4, 48, 48)
    encoder = built(InputShape(kind="cmr", shape=sizes), "cinema", variant="tiny").eval()
    x = torch.randn(2, *sizes, generator=torch.Generator("cpu").manual_seed(0))
    with torch.no_grad():
        found = encoder(x).features
        own = encoder.net(x[:, 0].permute(0, 3, 2, 1))[card.probe]
        turned = encoder.net(x[:, 0].permute(0, 2, 3, 1))[card.probe]
    assert torch.equal(found, own)
    assert not torch.allclose(found, turned)
