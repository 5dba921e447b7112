"""HuBERT-ECG: what its authors' code gave, with the same weights (tests/golden/README.md)."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.signal import decimate, filtfilt, firwin

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError, RecordError
from medmcl.encoders import build_encoder
from medmcl.encoders.published.file import build_net
from tests.support.published_weights import (
    about,
    arrays,
    assert_equal_features,
    drawn,
    filled,
    recording,
    save,
    sha256,
)

MODEL = "hubert_ecg"
RECORDS = ("00001", "00017", "00030", "00009_lr")
BEFORE = {"original0": "weight_g", "original1": "weight_v"}
"""Names that torch gave the parts of a normed weight before it had parametrisations."""


def load(tag, folder):
    """A transformers folder, as the authors publish it."""
    save_file(filled(MODEL, tag), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about(MODEL)["outputs"][f"{tag}/config"]))
    return models.load(f"{MODEL}:{tag}", weights=folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load("tiny", tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("tag", ["tiny", "small", "base"])
def test_features_and_records_are_the_authors(tmp_path, tag):
    assert sha256(filled(MODEL, tag)) == about(MODEL)["state_dicts"][tag]["filled_sha256"]
    model, stored = load(tag, tmp_path), arrays(MODEL)
    some = slice(None if tag == "tiny" else 1)  # of the large ones a row tells as much
    x = torch.from_numpy(np.tanh(drawn(MODEL, 0, (2, 6000))))[some]
    seen = []
    model.net.feature_extractor.register_forward_hook(lambda net, given, out: seen.append(out))
    with torch.no_grad():
        found = model.net(x)
    assert_equal_features(found["features"], stored[f"{tag}/x/features"][some])
    assert found["tokens"].shape[1] == 93
    assert_equal_features(found["tokens"][:, ::6, ::8], stored[f"{tag}/x/tokens_sample"][some])
    assert_equal_features(seen[0][:, ::16, ::6], stored[f"{tag}/x/conv_sample"][some])
    for ecg_id in RECORDS if tag == "tiny" else RECORDS[3:]:
        signal, leads, rate_hz = recording(ecg_id)
        found = model.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
        assert_equal_features(model.features(found[None])[0], stored[f"{tag}/{ecg_id}/features"])
    filled.cache_clear()


@pytest.mark.parametrize("ecg_id", RECORDS)
def test_records_are_prepared_as_the_authors_do(tiny, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    found = tiny.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
    assert found.shape == (6000,)
    assert found.dtype == np.float32
    joins = np.stack([found[500 * lead - 10 : 500 * lead + 10] for lead in range(1, 12)])
    spread = np.stack([found.mean(), found.std(), found.min(), found.max()])
    parts = {"every10": found[::10], "lead_joins": joins, "stats_mean_std_min_max": spread}
    for part, got in parts.items():
        stored = arrays(MODEL)[f"model_input/{ecg_id}/{part}"]
        assert got.shape == stored.shape
        assert np.abs(got - stored).max() <= 2e-6, part


@pytest.mark.parametrize("layout", ["pt", "older names", "classifier"])
def test_other_files_of_the_authors_are_read(tiny, tmp_path, layout):
    state = filled(MODEL, "tiny")
    if layout == "older names":
        rename = "parametrizations.weight."
        state = {
            name.replace(rename, "").replace(old, BEFORE[old]) if rename in name else name: value
            for name, value in state.items()
            for old in [name.rpartition(".")[2]]
        }
        assert "encoder.pos_conv_embed.conv.weight_g" in state
    if layout == "classifier":
        heads = ("final_proj", "label_embedding")
        state = {f"hubert_ecg.{k}": v for k, v in state.items() if not k.startswith(heads)}
        state["classifier.weight"] = torch.zeros(5, 96)
    config = about(MODEL)["outputs"]["tiny/config"]
    file = save(state, tmp_path / "a.pt", "model_state_dict", model_config=config)
    x = np.tanh(drawn(MODEL, 0, (2, 6000)))
    again = models.load("hubert_ecg:tiny", weights=file)
    assert np.array_equal(again.features(x), tiny.features(x))
    assert np.array_equal(again.features(x[:, None]), tiny.features(x))


@pytest.mark.parametrize("other", [{"feat_extract_activation": "relu"}, {"layer_norm_eps": 1e-12}])
def test_settings_of_another_network_are_refused_by_name(tmp_path, other):
    config = {**about(MODEL)["outputs"]["tiny/config"], **other}
    file = save(filled(MODEL, "tiny"), tmp_path / "a.pt", "model_state_dict", model_config=config)
    with pytest.raises(ArtefactError, match=next(iter(other))):
        models.load("hubert_ecg:tiny", weights=file)


def test_leads_are_no_windows(tiny):
    for shape in ((2, 12, 500), (1, 12, 5000), (12, 500)):
        with pytest.raises(MedmclError, match="6000"):
            tiny.features(np.zeros(shape))
        with pytest.raises(ConfigError, match="6000"):
            build_encoder(MODEL, InputShape(kind="ecg", shape=shape[-2:]), {}, where="encoder")


def test_strides_of_a_file_are_followed_in_recipes_that_say_them(tmp_path):
    config = {**about(MODEL)["outputs"]["tiny/config"], "conv_stride": [5, 2, 2, 2, 2]}
    file = save(filled(MODEL, "tiny"), tmp_path / "a.pt", "model_state_dict", model_config=config)
    model = models.load("hubert_ecg:tiny", weights=file)
    assert model.sizes == model.provenance["sizes"] == {"strides": [5, 2, 2, 2, 2]}
    shape, given = InputShape(kind="ecg", shape=(6000,)), {"weights": file, "variant": "tiny"}
    with pytest.raises(ArtefactError, match=r"sizes: \{'strides': \[5, 2, 2, 2, 2\]\}"):
        build_encoder(MODEL, shape, given, where="encoder").start_weights()
    encoder = build_encoder(MODEL, shape, {**given, "sizes": model.sizes}, where="encoder").eval()
    encoder.start_weights()
    x = torch.from_numpy(drawn(MODEL, 0, (2, 6000)))
    assert torch.equal(encoder(x).features, model.features(x))


class Configuration:
    """Stands for the class of the configuration that the authors' .pt holds."""


def test_a_configuration_that_is_a_class_is_refused_with_what_to_do(tmp_path):
    state = filled(MODEL, "tiny")
    file = save(state, tmp_path / "a.pt", "model_state_dict", model_config=Configuration())
    with pytest.raises(ArtefactError, match=r"Python objects[\s\S]*convert_checkpoint"):
        models.load("hubert_ecg:tiny", weights=file)


def test_a_file_says_its_size(tiny, tmp_path):
    config = about(MODEL)["outputs"]["tiny/config"]
    file = save(filled(MODEL, "tiny"), tmp_path / "a.pt", "model_state_dict", model_config=config)
    model = models.load("hubert_ecg", weights=file)
    assert model.name == "hubert_ecg:tiny"
    x = np.tanh(drawn(MODEL, 0, (2, 6000)))
    assert np.array_equal(model.features(x), tiny.features(x))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_attention_heads": 2}, "says itself that it is not of hubert_ecg:tiny"),
        ({"num_hidden_layers": 10**9}, "says"),
        ({"conv_stride": [4, 2, 2]}, "sizes of itself that cannot be"),
        ({"do_stable_layer_norm": True}, "network of another kind"),
        ({"hidden_act": "relu"}, "network of another kind"),
        ("{", "no JSON"),
    ],
)
def test_a_folder_whose_configuration_is_of_another_network_is_refused(tmp_path, changed, words):
    save_file(filled(MODEL, "tiny"), tmp_path / "model.safetensors")
    config = about(MODEL)["outputs"]["tiny/config"]
    text = changed if isinstance(changed, str) else json.dumps({**config, **changed})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArtefactError, match=words):
        models.load("hubert_ecg:tiny", weights=tmp_path)


def test_a_file_of_another_size_is_named(tmp_path):
    file = save(filled(MODEL, "tiny"), tmp_path / "a.pt", "model_state_dict")
    with pytest.raises(ArtefactError, match="is a file of hubert_ecg:tiny"):
        models.load("hubert_ecg", weights=file)


def test_the_large_variant_has_the_published_sizes():
    with torch.device("meta"):
        net = build_net(models.card(MODEL), "large")
    assert len(net.encoder.layers) == 16
    assert net.encoder.layers[0].feed_forward.intermediate_dense.weight.shape == (3840, 960)


def test_a_shorter_record_is_filled_up_behind_its_preparation(tiny, caplog):
    rows = np.random.default_rng(0).standard_normal((12, 2000)).cumsum(1) / 50
    taps = firwin(151, [0.05, 47], fs=500, pass_zero=False)
    own = filtfilt(taps, [1.0], rows)
    low, high = own.min(1, keepdims=True), own.max(1, keepdims=True)
    filled_up = np.pad(2 * (own - low) / (high - low + 1e-8) - 1, [(0, 0), (0, 500)])
    found = tiny.prepare(rows, rate_hz=500.0, units="mV")
    assert np.abs(found - decimate(filled_up.ravel(), 5)).max() < 1e-4
    assert (
        found.reshape(12, 500)[:, -50:] != 0
    ).all()  # of which the authors' mask sees no padding
    assert "lasts 4.00 s, 5 s are asked for" in caplog.text


@pytest.mark.parametrize(("samples", "rate_hz"), [(400, 500.0), (900, 90.0)])
def test_what_the_authors_cannot_prepare_is_refused(tiny, samples, rate_hz):
    signal = np.random.default_rng(0).standard_normal((12, samples))
    with pytest.raises(RecordError, match="cannot be prepared"):
        tiny.prepare(signal, rate_hz=rate_hz, units="mV")
