"""ECG-FM: what its authors' code gave, with the same weights (tests/golden/README.md)."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from medmcl import models
from medmcl.core.errors import ArtefactError, RecordError
from tests.support.published_weights import (
    about,
    arrays,
    assert_equal_features,
    assert_equal_preparation,
    drawn,
    filled,
    recording,
    save,
    sha256,
)

MODEL = "ecg_fm"
RECORDS = ("00001", "00017", "00030", "00009_lr")


def load(tag, folder):
    """A file of fairseq: the command line is an `Namespace`."""
    beside = {"cfg": {"model": {"_name": "wav2vec2_cmsc"}}, "args": Namespace(lr=5e-5)}
    file = save(filled(MODEL, tag), folder / f"{tag}.pt", "model", **beside)
    return models.load(f"{MODEL}:{tag.partition('_')[0]}", weights=file)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load("tiny_pretrained", tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_features_and_records_are_the_authors(tmp_path, size):
    tag = f"{size}_pretrained"
    assert sha256(filled(MODEL, tag)) == about(MODEL)["state_dicts"][tag]["filled_sha256"]
    model, stored = load(tag, tmp_path), arrays(MODEL)
    some = slice(None if size == "tiny" else 1)  # of the large one a row tells as much
    x = drawn(MODEL, 0, (2, 12, 2500))[some]
    with torch.no_grad():
        found = model.net(torch.from_numpy(x))
    assert_equal_features(found["features"], stored[f"{size}/x/features"][some])
    assert found["tokens"].shape[1] == 156
    assert_equal_features(found["tokens"][:, ::13, ::8], stored[f"{size}/x/tokens_sample"][some])
    for ecg_id in RECORDS if size == "tiny" else RECORDS[3:]:
        signal, leads, rate_hz = recording(ecg_id)
        segments = model.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
        each = stored[f"{size}/{ecg_id}/features_of_segments"]
        assert_equal_features(model.features(segments[some]), each[some])
        if size == "tiny":
            assert_equal_features(model.features(segments[None])[0], each.mean(0))
    filled.cache_clear()


def test_a_record_of_five_to_ten_seconds_gives_its_one_segment(tiny):
    """Scaled over all that there is, as the authors cut their samples of CODE-15."""
    signal, leads, rate_hz = recording("00001")
    short = signal[:, : round(7.3 * rate_hz)]
    segments = tiny.prepare(short, leads=leads, rate_hz=rate_hz, units="mV")
    scaled = (short - short.mean(1, keepdims=True)) / (short.std(1, keepdims=True) + 1e-8)
    assert segments.shape == (1, 12, 2500)
    assert np.abs(segments[0] - scaled[:, :2500]).max() < 2e-6
    with pytest.raises(RecordError, match="too short") as refused:
        tiny.prepare(signal[:, : round(4.9 * rate_hz)], leads=leads, rate_hz=rate_hz, units="mV")
    assert refused.value.expected == "5 s"


def test_another_rate_gives_as_many_samples_as_the_authors_take(tiny):
    """Those of CODE-15 with 2,934 at 400 Hz become 3,667, not 3,668: equal on their own samples."""
    rows = np.random.default_rng(0).standard_normal((12, 2934)).cumsum(1)
    at = np.arange(3667) * (2933 / 3666)
    own = np.stack([np.interp(at, np.arange(2934), row) for row in rows])
    own = (own - own.mean(1, keepdims=True)) / own.std(1, keepdims=True)
    found = tiny.prepare(rows, rate_hz=400.0, units="mV")
    assert np.abs(found[0] - own[:, :2500]).max() < 2e-6


def test_a_fine_tuned_file_is_read_without_its_head(tmp_path):
    state, stored = filled(MODEL, "tiny_finetuned"), arrays(MODEL)
    model = load("tiny_finetuned", tmp_path)
    features = model.features(torch.from_numpy(drawn(MODEL, 0, (2, 12, 2500))))
    logits = functional.linear(features, state["proj.weight"], state["proj.bias"])
    assert_equal_features(logits, stored["tiny/x/logits17"])


@pytest.mark.parametrize(("said", "words"), [
    ({"activation_fn": "relu"}, "activation_fn"),
    ({"conv_feature_layers": "[(32, 3, 2)] + [(32, 2, 2)] * 3"}, r"\[3, 2, 2, 2\]"),
    ({"conv_feature_layers": "eval('1')"}, "conv_feature_layers"),
    ({"conv_feature_layers": f"[({'9' * 5_000},1,1)]"}, "conv_feature_layers"),
    ({"conv_feature_layers": f"[({'9' * 500},1,1)]"}, "conv_feature_layers"),
    ({"conv_dim": [torch.zeros(2), torch.ones(2)]}, "conv_dim"),
    ({"conv_bias": torch.zeros(2)}, "conv_bias"),
    ({"encoder_embed_dim": 16 * 10**9}, "encoder_embed_dim"),
    ({"encoder_ffn_embed_dim": 10**18}, "encoder_ffn_embed_dim"),
    ({"encoder_attention_heads": 8}, "says itself that it is not of ecg_fm:tiny"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [dict, Namespace])
def test_settings_of_another_network_are_refused_by_name(tmp_path, said, words, kind):
    state = filled(MODEL, "tiny_pretrained")
    file = save(state, tmp_path / "w.pt", "model", cfg={"model": kind(**said)})
    with pytest.raises(ArtefactError, match=words):
        models.load("ecg_fm:tiny", weights=file)


@pytest.mark.parametrize("size", [
    {"encoder_embed_dim": 2**31}, {"conv_pos": 10**9}, {"encoder_ffn_embed_dim": 2**31},
])  # fmt: skip
def test_a_size_that_is_not_true_is_refused_before_anything_of_it_is_made(tmp_path, size):
    state = filled(MODEL, "tiny_pretrained")
    file = save(state, tmp_path / "w.pt", "model", cfg={"model": size})
    with pytest.raises(ArtefactError, match=r"sizes of itself that|is a file of ecg_fm:tiny"):
        models.load(MODEL, weights=file)


def test_convolutions_of_a_file_are_followed(tmp_path):
    said = {"conv_feature_layers": "[(32, 2, 1)] + [(32, 2, 2)] * 3", "in_d": 12}
    state = filled(MODEL, "tiny_pretrained")
    file = save(state, tmp_path / "w.pt", "model", cfg={"model": said})
    with pytest.raises(ArtefactError, match=r"'strides': \[1, 2, 2, 2\]"):
        models.load("ecg_fm:tiny", weights=file)  # the card says its strides
    same = {"conv_feature_layers": "[(32, 2, 2)] * 4"}
    file = save(state, tmp_path / "w.pt", "model", cfg={"model": same})
    assert models.load("ecg_fm:tiny", weights=file).sizes == {}


@pytest.mark.parametrize("ecg_id", RECORDS)
def test_records_are_prepared_as_the_authors_do(tiny, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    found = tiny.prepare(signal, leads=leads, rate_hz=rate_hz, units="mV")
    assert found.shape == (2, 12, 2500)
    for number, segment in enumerate(found):
        assert_equal_preparation(segment, MODEL, f"prepared/{ecg_id}/segment{number}")


def test_a_longer_record_gives_all_of_its_segments(tiny):
    """Scaled over all of it; what is left behind the last 5 s is dropped, as the authors do."""
    signal, leads, rate_hz = recording("00001")
    long = np.concatenate([signal, 2 * signal[:, ::-1], signal[:, :2499]], axis=1)
    found = tiny.prepare(long, leads=leads, rate_hz=rate_hz, units="mV")
    scaled = (long - long.mean(1, keepdims=True)) / (long.std(1, keepdims=True) + 1e-8)
    assert np.allclose(found, np.stack(np.split(scaled[:, :10_000], 4, axis=1)), atol=2e-6)
    each = tiny.features(found)
    assert np.allclose(tiny.features(found[None])[0], each.mean(0), atol=1e-5)


def test_a_constant_lead_is_zero(tiny):
    signal = np.random.default_rng(0).standard_normal((12, 5000))
    signal[4] = 0.1
    found = tiny.prepare(signal, rate_hz=500.0, units="mV")
    assert np.abs(found[:, 4]).max() < 1e-6
    assert np.isfinite(found).all()
