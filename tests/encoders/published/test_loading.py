"""Files of weights that are not what they should be, and records that cannot be prepared."""

import logging
import pickle
import re
from dataclasses import replace
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medmcl import models
from medmcl.core.config import Config
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError, RecordError
from medmcl.encoders.published import card_files
from medmcl.encoders.published import model as published
from medmcl.encoders.published.card import read_card
from tests.support.published_weights import arrays, drawn, filled, save

MODEL = "turgut_ecg"
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


@pytest.fixture
def state():
    return dict(filled(MODEL, "attention_pool"))


def load(state, folder, name="w.pth", under="model", **beside):
    return models.load(MODEL, weights=save(state, folder / name, under, **beside))


def features(model):
    return model.features(drawn(MODEL, 0, (2, 1, 12, 2500)))


def test_wrappers_and_prefixes_that_people_add(tmp_path, state):
    plain = features(load(state, tmp_path))
    bare = features(load(state, tmp_path, under=None))
    parallel = features(load({f"module.{name}": x for name, x in state.items()}, tmp_path))
    save_file(state, tmp_path / "w.safetensors")
    safe = features(models.load(MODEL, weights=tmp_path / "w.safetensors"))
    (tmp_path / "folder").mkdir()
    save_file(state, tmp_path / "folder" / "model.safetensors")
    folder = features(models.load(MODEL, weights=str(tmp_path / "folder")))
    decoder = features(load({**state, "decoder_embed.weight": torch.ones(2)}, tmp_path))
    both = [
        features(load({f"{prefix}{name}": x for name, x in state.items()}, tmp_path))
        for prefix in ("module._orig_mod.", "_orig_mod.module.")
    ]
    for found in (bare, parallel, safe, folder, decoder, *both):
        assert np.array_equal(found, plain)


def test_what_does_not_fit_is_refused_by_name(tmp_path, state):
    kept = state.pop("blocks.2.mlp.fc1.weight")
    state["blocks.3.mlp.fc1.weight"] = kept
    state["pos_embed"] = state["pos_embed"][:, :101]
    with pytest.raises(ArtefactError) as refused:
        load(state, tmp_path)
    said = str(refused.value)
    first, got, fix = said.splitlines()
    assert first.endswith("does not hold the weights of turgut_ecg")
    assert "1 of 46 is missing (blocks.2.mlp.fc1.weight)" in got
    assert "1 is unexpected (blocks.3.mlp.fc1.weight)" in got
    assert "pos_embed (1, 101, 384), not (1, 301, 384)" in got
    assert "medmcl models turgut_ecg" in fix


@pytest.mark.parametrize("name", models.names())
def test_what_is_wrong_is_said_in_a_few_names(name, tmp_path):
    many = {f"backbone.stages.{n}.blocks.0.attention.weight": torch.ones(1) for n in range(300)}
    file = save(many, tmp_path / "w.pth")
    with pytest.raises(ArtefactError) as refused:
        models.load(name, weights=file)
    first, got, fix = str(refused.value).splitlines()
    assert first == f"{file}: does not hold the weights of {name}"
    assert "300 are unexpected" in got
    assert "and 298 more" in got
    assert got.count("backbone") == 2
    assert len(got) < 400
    assert f"medmcl models {name}" in fix


@pytest.mark.parametrize("name", models.names())
def test_without_a_file_it_says_what_to_do(name):
    with pytest.raises(ConfigError, match="none is named") as refused:
        models.load(name)
    assert f'medmcl.models.load("{name}", weights="FILE")' in str(refused.value)
    assert f"`medmcl models {name}`" in refused.value.fix
    with pytest.raises(ConfigError, match="no published model"):
        models.load(f"{name}x")


def test_a_file_says_of_which_variant_it_is(tmp_path):
    found = load(filled(MODEL, "cls"), tmp_path)
    assert found.name == "turgut_ecg:cls"
    assert load(filled(MODEL, "global_pool"), tmp_path).variant == "global_pool"
    cls = save(filled(MODEL, "cls"), tmp_path / "cls.pth", "model")
    with pytest.raises(ArtefactError, match="load it as turgut_ecg:cls"):
        models.load("turgut_ecg:global_pool", weights=cls)


def test_a_file_of_another_model_is_told(tmp_path, state):
    bare = save(state, tmp_path / "bare.pth")
    wrapped = save(state, tmp_path / "wrapped.pth", "model")
    for file, other in ((bare, "ecgfounder"), (wrapped, "merl"), (wrapped, "st_mem")):
        with pytest.raises(ArtefactError, match="is a file of turgut_ecg") as refused:
            models.load(other, weights=file)
        assert "name turgut_ecg" in refused.value.fix
    unknown = save({"a.weight": torch.ones(2)}, tmp_path / "unknown.pth")
    with pytest.raises(ArtefactError, match="see `medmcl models st_mem`"):
        models.load("st_mem", weights=unknown)


class Runs:
    def __reduce__(self):
        return (print, ("code of a stranger runs",))


def test_damaged_and_dangerous_files(tmp_path, state, capsys):
    whole = save(state, tmp_path / "whole.pth", "model")
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:-50_000])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>sign in</html>")
    for name, words in {
        "cut.pth": r"can be read(.|\n)*copy it again",
        "empty.pth": r"is empty(.|\n)*copy it again",
        "text.pth": "pointer of Git LFS",
        "page.pth": "a web page",
        "whoel.pth": "did you mean 'whole.pth'",
    }.items():
        with pytest.raises(ArtefactError, match=rf"{name[:4]}(.|\n)*{words}"):
            models.load(MODEL, weights=tmp_path / name)
    with pytest.raises(ArtefactError, match=r"may run code(.|\n)*print") as refused:
        load(state, tmp_path, args=Runs())
    for protocol in (2, pickle.DEFAULT_PROTOCOL):  # no file of torch, and a pickle all the same
        (tmp_path / "plain.pth").write_bytes(pickle.dumps({"model": Runs()}, protocol))
        with catch_warnings():
            simplefilter("error")
            with pytest.raises(ArtefactError, match=r"may run code(.|\n)*print"):
                models.load(MODEL, weights=tmp_path / "plain.pth")
    assert "weights_only" not in str(refused.value)  # torch's advice to switch it off
    assert "stranger" not in capsys.readouterr().out
    with pytest.raises(ArtefactError, match="no named tensors"):
        load({"epoch": 3}, tmp_path)
    with pytest.raises(ArtefactError, match="NaN or infinite weights"):
        load({**state, "fc_norm.bias": torch.full((384,), torch.nan)}, tmp_path)
    with pytest.raises(ArtefactError, match="whole numbers where the net has weights"):
        load({**state, "fc_norm.bias": torch.ones(384, dtype=torch.int8)}, tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtefactError, match="holds no weights"):
        models.load(MODEL, weights=tmp_path / "folder")


def test_the_hash_is_checked_where_it_is_known(tmp_path, state, monkeypatch):
    card = models.card(MODEL)
    weights = card.weights.model_copy(update={"sha256": {"known.pth": "0" * 64}})
    changed = card.model_copy(update={"weights": weights})
    monkeypatch.setattr(published, "find_variant", lambda name: (changed, "attention_pool"))
    with pytest.raises(ArtefactError, match="is not the file that the authors"):
        load(state, tmp_path, "known.pth")
    assert load(state, tmp_path, "other.pth").provenance["weights_known"] is False


def test_no_commercial_use_is_said_once(tmp_path, state, caplog, monkeypatch):
    monkeypatch.setattr(published, "_said", set())
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    for _ in range(2):
        model = load(state, tmp_path)
    said = [one.message for one in caplog.records if "no commercial use" in one.message]
    assert len(said) == 1
    assert "CC BY-NC 4.0" in said[0]
    assert model.provenance["commercial"] is False
    assert len(model.provenance["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "words"),
    [("ecgfoundr", "did you mean 'ecgfounder'"), ("turgut_ecg:max", "has no variant 'max'")],
)
def test_names_that_are_not_known(name, words):
    with pytest.raises(ConfigError, match=words):
        models.load(name, weights="w.pth")


def test_values_that_no_heart_makes_are_told(tmp_path, state, caplog):
    model = load(state, tmp_path)
    beat = np.zeros((12, 5000))
    beat[:, ::400] = 1.2
    model.prepare(beat, rate_hz=500.0, units="mV")
    assert "not plausible" not in caplog.text
    model.prepare(1000 * beat, rate_hz=500.0, units="mV")
    assert "leads swing by 1.2e+03 mV: not plausible" in caplog.text
    assert "the values are likely in uV" in caplog.text
    beat[:, 4990:] = 0.01
    caplog.clear()
    model.prepare(beat, rate_hz=500.0, units="mV")
    assert "filled up" not in caplog.text
    model.prepare(np.pad(beat, [(0, 0), (548, 548)]), rate_hz=500.0, units="mV")
    assert "zero in the first 548 and last" in caplog.text


def test_records_that_cannot_be_prepared(tmp_path, state):
    model = load(state, tmp_path)
    signal = np.random.default_rng(0).standard_normal((12, 2500))
    with pytest.raises(RecordError, match="too short") as short:
        model.prepare(signal[:, :2400], leads=LEADS, rate_hz=500.0)
    with pytest.raises(RecordError, match="V6 is missing") as lacks:
        model.prepare(signal[:11], leads=LEADS[:11], rate_hz=500.0)
    card = model.card.model_copy(
        update={"prepare": {**model.card.prepare, "missing_samples": "refuse"}}
    )
    with pytest.raises(RecordError, match="NaN") as holes:
        replace(model, card=card).prepare(
            np.where(signal > 2, np.nan, signal), leads=LEADS, rate_hz=500.0
        )
    for refused in (short, lacks, holes):  # settings cannot be given there
        assert not re.search(r"set |pad:|missing_\w+:|fewer", refused.value.fix)
    longer = np.pad(signal[:, :2400], [(0, 0), (0, 100)], mode="wrap")  # as the message says
    assert model.prepare(longer, leads=LEADS, rate_hz=500.0).shape == (12, 2500)
    with pytest.raises(RecordError, match="a row for each lead"):
        model.prepare(signal[:11], leads=LEADS, rate_hz=500.0)
    with pytest.raises(RecordError, match="unit"):
        model.prepare(signal, leads=LEADS, rate_hz=500.0, units="mmHg")
    with pytest.raises(ConfigError, match="no preparation of this name"):
        model.prepare(signal, leads=LEADS, rate_hz=500.0, preparation="fine")
    slow = model.prepare(signal[:, :1250], leads=LEADS, rate_hz=250.0)
    assert slow.shape == (12, 2500)


@pytest.mark.parametrize(("about", "words"), [
    ({"rate_hz": "500"}, "one number"), ({"units": ("mV",) * 12}, "one word"),
    ({"leads": None}, "a row for each lead"), ({"mask": None}, "unexpected keyword argument"),
])  # fmt: skip
def test_what_is_said_of_a_record_must_be_of_its_kind(tmp_path, state, about, words):
    given = {"leads": LEADS, "rate_hz": 500.0, **about}
    with pytest.raises(MedmclError, match=words):
        load(state, tmp_path).prepare(np.ones((12, 2500)), **given)


def test_records_are_real_numbers_wherever_they_lie(tmp_path, state):
    model, signal = load(state, tmp_path), np.random.default_rng(0).normal(size=(12, 2500))
    plain = model.prepare(signal, leads=LEADS, rate_hz=500)
    with pytest.raises(ConfigError, match="rate_hz"):
        model.prepare(signal)
    for given in (torch.tensor(signal, requires_grad=True), signal.astype(object)):
        assert np.array_equal(model.prepare(given, leads=LEADS, rate_hz=500), plain)
    for given in (signal.astype(complex), signal.astype(str)):
        with pytest.raises(RecordError, match="real numbers"):
            model.prepare(given, leads=LEADS, rate_hz=500)


@pytest.mark.parametrize("hollow", [torch.Tensor.to_sparse, lambda x: x.to("meta")])
def test_weights_without_values_are_refused_by_name(tmp_path, state, hollow):
    state["cls_token"] = hollow(state["cls_token"])
    with pytest.raises(ArtefactError, match=r"sparse(.|\n)*cls_token"):
        load(state, tmp_path)


def test_arrays_that_cannot_be_embedded(tmp_path, state):
    model = load(state, tmp_path)
    for shape in ((1, 6, 5000), (1, 15, 2000), (2, 2500, 12)):  # as many numbers, other leads
        with pytest.raises(MedmclError, match=r"12, 2500"):
            model.features(np.zeros(shape))
        with pytest.raises(RuntimeError, match=r"12, 2500"):
            model.net(torch.zeros(shape))
    for shape in ((12, 2500), (0, 12, 2500), (2, 1, 1, 12, 2500)):
        with pytest.raises(MedmclError, match="a batch of records"):
            model.features(np.zeros(shape))
    with pytest.raises(MedmclError, match="an input of this size"):
        model.features(np.zeros((1, 12, 2400)))
    with pytest.raises(MedmclError, match="no output of this name"):
        model.features(np.zeros((1, 12, 2500)), output="logits")


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_what_is_not_finite_is_not_embedded(tmp_path, state, hole):
    model = load(state, tmp_path)
    x = np.zeros((3, 12, 2500), np.float32)
    x[1, 4, 100] = hole
    with pytest.raises(MedmclError, match=r"not finite(.|\n)*1 of 3 records"):
        model.features(x)


def test_features_that_overflow_are_not_given(tmp_path, state):
    wild = {name: value * 1e30 if value.is_floating_point() else value
            for name, value in state.items()}  # fmt: skip
    with pytest.raises(MedmclError, match=r"features that are not finite(.|\n)*2 of 2 rows"):
        load(wild, tmp_path).features(drawn(MODEL, 0, (2, 1, 12, 2500))[:, 0])


def test_windows_are_averaged_and_batches_are_alike(tmp_path, state):
    model = load(state, tmp_path)
    x = drawn(MODEL, 0, (2, 1, 12, 2500))
    both = x.reshape(1, 2, 12, 2500)
    stored = arrays(MODEL)["attention_pool/x/features"]
    assert np.allclose(model.features(both)[0], stored.mean(0), atol=1e-5)
    assert np.allclose(model.features(x, batch_size=1), stored, atol=1e-5)


def test_cards_say_what_they_must():
    for name in models.names():
        card = models.card(name)
        for variant in card.variants:
            for preparation in (None, *card.preparations):
                card.checked(card.settings(variant, preparation))
        assert "@" in card.source
        assert card.seen or card.clean
        assert card.input.modality != "ecg" or "ecg.padded" in card.told


class Outside:
    """An entry point of a package."""

    name, value = "linear", "package:CARD"

    def __init__(self, path):
        self.path = path

    def load(self):
        return str(self.path)


class Linear(torch.nn.Module):
    class Settings(Config):
        width: int = 3

    def __init__(self, width):
        super().__init__()
        self.width, self.layer = width, torch.nn.Linear(12, width)

    def forward(self, x):
        return {"features": self.layer(x.mean(-1))}


CARD = (
    f"title: Linear\nnet: {__name__}:Linear\nlicence: MIT\ncommercial: true\n"
    "source: somebody/linear@1\ncitation: none\ndefault: small\n"
    "variants: {small: {width: 3}, wide: {width: 9}}\nweights: {}\n"
    "input: {modality: ecg, samples: 500}\nprepare: {seconds: 1, steps: []}\n"
    "outputs: {features: a mean}\nclean: [ptbxl]\n"
)


@pytest.fixture
def fresh():
    """Cards are read once a process."""
    read_card.cache_clear()
    yield
    read_card.cache_clear()


def features_of(name, folder):
    weights = save(Linear(3).state_dict(), folder / "w.pth")
    model = models.load(name, weights=weights)
    x = model.prepare(np.ones((12, 500)), leads=LEADS, rate_hz=500.0)
    return model.features(x[None])


@pytest.mark.usefixtures("fresh")
def test_a_card_of_another_package(tmp_path, monkeypatch):
    path = tmp_path / "linear.yaml"
    path.write_text(CARD)
    monkeypatch.setattr(card_files, "entry_points_of", lambda group: [Outside(path)])
    assert "linear" in models.names()
    assert features_of("linear", tmp_path).shape == (1, 3)
    monkeypatch.setattr(Outside, "name", "ecgfounder")
    with pytest.raises(ConfigError, match="two models are called 'ecgfounder'"):
        models.names()


@pytest.mark.usefixtures("fresh")
def test_a_card_in_a_folder_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(CARD)
    monkeypatch.setenv("MEDMCL_CARDS", str(tmp_path))
    assert models.names()[-1] == "mine"
    assert features_of("mine", tmp_path).shape == (1, 3)
    (tmp_path / "ecgfounder.yaml").write_text(CARD)
    with pytest.raises(ConfigError, match="two models are called 'ecgfounder'"):
        models.names()
    monkeypatch.setenv("MEDMCL_CARDS", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such folder"):
        models.names()


def test_a_message_is_short_whatever_the_file_holds(tmp_path, state):
    with pytest.raises(ArtefactError, match="is unexpected") as refused:
        load({**state, "x" * 10**6: torch.ones(2)}, tmp_path)
    assert len(str(refused.value)) < 1_000
    error = MedmclError("is wrong", got=["x"] * 10**6, expected="y" * 10**6)
    assert max(len(str(error)), len(error.detailed)) < 5_000
