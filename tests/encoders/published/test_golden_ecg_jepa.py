"""ECG-JEPA: what its authors' code gave, with the same weights (tests/golden/README.md)."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from medmcl import models
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.encoders import build_encoder
from medmcl.encoders.published.overlap import overlap_of_provenance
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.stages.evaluate.overlap import refuse_seen
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

MODEL = "ecg_jepa"
TAGS = ("vits", "vitxs")


def config(tag):
    return about(MODEL)["outputs"][f"{tag}/config"]


def name(tag):
    return MODEL if tag == "vits" else f"{MODEL}:{tag}"


def encoder(tag):
    state = filled(MODEL, tag)
    return {k.removeprefix("encoder."): x for k, x in state.items() if k.startswith("encoder.")}


def pretrained(tag, folder, **beside):
    """A file as the authors release it: the encoder is the one that chases the trained one."""
    state = {f"target_encoder.{k}": x for k, x in encoder(tag).items()}
    return save({**state, **beside}, folder / f"{tag}.pt", "model", config=config(tag))


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """Models of fine-tuned files, which hold the authors' probe."""
    folder = tmp_path_factory.mktemp("w")
    return {
        tag: models.load(
            name(tag),
            weights=save(filled(MODEL, tag), folder / f"{tag}.pt", "model", config=config(tag)),
        )
        for tag in TAGS
    }


@pytest.mark.parametrize("tag", TAGS)
def test_outputs_are_the_authors(probed, tag):
    assert sha256(filled(MODEL, tag)) == about(MODEL)["state_dicts"][tag]["filled_sha256"]
    x, stored = drawn(MODEL, 0, (2, 12, 1250)), arrays(MODEL)
    for output, key in (
        (None, "patch_mean"),
        ("register", "register"),
        ("logits", "probe_logits71"),
    ):
        assert_equal_features(probed[tag].features(x, output), stored[f"{tag}/x/{key}"])
    tokens = probed[tag].features(x, "tokens")
    assert_equal_features(tokens[:, ::5, ::8], stored[f"{tag}/x/tokens_sample"])
    ten = drawn(MODEL, 1, (1, 12, 5000))
    for output, key in ((None, "patch_mean"), ("register", "register")):
        assert_equal_features(probed[tag].features(ten, output), stored[f"{tag}/x10/{key}"])


def test_files_of_pretraining_give_the_chasing_encoder(probed, tmp_path):
    x = drawn(MODEL, 0, (2, 12, 1250))
    trained = {f"encoder.{k}": torch.zeros_like(v) for k, v in encoder("vits").items()}
    beside = {**trained, "predictor.norm.weight": torch.ones(3)}
    for more in ({}, beside):
        model = models.load(MODEL, weights=pretrained("vits", tmp_path, **more))
        assert np.array_equal(model.features(x), probed["vits"].features(x))
        with pytest.raises(MedmclError, match="logits"):
            model.features(x, "logits")


def test_the_config_of_a_file_says_its_sizes(tmp_path):
    file = pretrained("vitxs", tmp_path)
    assert models.load(MODEL, weights=file).name == "ecg_jepa:vitxs"
    with pytest.raises((ArtefactError, ConfigError), match="vitxs"):
        models.load("ecg_jepa:vits", weights=file)
    state = {
        k: x for k, x in encoder("vitxs").items() if not k.startswith(("blocks.6.", "blocks.7."))
    }
    state = {f"target_encoder.{k}": x for k, x in state.items()}
    shallow = save(state, tmp_path / "s.pt", "model", config={**config("vitxs"), "depth": 6})
    model = models.load(MODEL, weights=shallow)
    assert model.width == 192
    assert len(model.net.blocks) == 6
    with pytest.raises(ArtefactError, match=r"blocks\.6"):
        models.load("ecg_jepa:vitxs", weights=save(state, tmp_path / "n.pt", "model"))


MIMIC = ["I", "II", "III", "AVR", "AVF", "AVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def said(folder, **beside):
    state = {f"target_encoder.{k}": x for k, x in encoder("vitxs").items()}
    return save(state, folder / "w.pt", "model", **beside)


@pytest.mark.parametrize("preparation", [None, "windows"])
def test_leads_come_in_the_order_of_the_file(preparation, tmp_path):
    signal = np.random.default_rng(0).normal(size=(12, 5000))
    plain = models.load(MODEL, weights=said(tmp_path, config=config("vitxs")))
    own = models.load(MODEL, weights=said(tmp_path, config={**config("vitxs"), "channels": MIMIC}))
    assert plain.provenance.get("reads") is None
    assert own.provenance["reads"] == {"channels": [*own.reads["channels"]]}
    given = {"leads": TWELVE, "rate_hz": 500.0, "preparation": preparation}
    usual, found = plain.prepare(signal, **given), own.prepare(signal, **given)
    order = [0, 1, 2, 3, 5, 4, *range(6, 12)]
    assert np.array_equal(found, usual[..., order, :])  # each lead by its own constants
    settings = InputShape(kind="ecg", shape=(12, 5000), names=TWELVE)
    built = build_encoder(
        MODEL, settings, {"weights": own.weights, "variant": "vitxs"}, where="encoder"
    )
    with pytest.raises(ArtefactError, match=r"another order(.|\n)*inputs.NAME: .*aVF', 'aVL"):
        built.start_weights()


def test_constants_of_a_fine_tuned_file_are_taken(tmp_path):
    signal = np.random.default_rng(0).normal(size=(12, 5000))
    constants = {"mean": [0.01 * n for n in range(12)], "std": [1.0 + n for n in range(12)]}
    beside = {"preprocess": constants, "config": {**config("vitxs"), "channels": MIMIC}}
    model = models.load(MODEL, weights=said(tmp_path, **beside))
    found = model.prepare(signal, leads=TWELVE, rate_hz=500.0)
    mean, std = (np.array(constants[key])[:, None] for key in ("mean", "std"))
    expected = ((signal - mean) / std).clip(-5, 5)[[0, 1, 2, 3, 5, 4, *range(6, 12)]]
    assert np.abs(found - expected).max() < 5e-3  # half precision
    for wrong in ({"mean": [0.0], "std": [1.0]}, {"mean": constants["mean"]}, {"mean": "x"}):
        with pytest.raises(ArtefactError, match="twelve leads"):
            models.load(MODEL, weights=said(tmp_path, preprocess=wrong))


NESTED = Namespace()
NESTED.itself = NESTED


@pytest.mark.parametrize("other", [
    {"num_registers": 4}, {"bias": True}, {"norm_eps": 1e-5}, {"layer_scale_eps": 1e-5},
    {"sampling_frequency": 250}, {"channels": ["I", "II", "I"]}, {"channels": ["EEG"] * 12},
    {"channels": 12}, {"channels": torch.zeros(5).to_sparse()}, {"channels": ["I"] * 10**5},
    {"bias": torch.zeros(3)}, {"bias": torch.zeros(3, device="meta")}, {"bias": [torch.ones(2)]},
    {"bias": NESTED}, {"depth": float("nan")}, {"dim": 10**400}, {"bias": "x" * 10**6},
])  # fmt: skip
def test_settings_of_another_network_are_refused_by_name(other, tmp_path):
    file = said(tmp_path, config={**config("vitxs"), **other})
    with pytest.raises(ArtefactError, match=next(iter(other))) as error:
        models.load(MODEL, weights=file)
    assert len(str(error.value)) < 1_000


@pytest.mark.parametrize(
    "wrong",
    [
        float("inf"),
        float("nan"),
        1e-30,
        0,
        pytest.param(10**400, id="huge"),
        torch.zeros(12, device="meta"),
    ],
)
def test_constants_that_leave_nothing_of_a_record_are_refused(wrong, tmp_path):
    std = wrong if isinstance(wrong, torch.Tensor) else [wrong] * 12
    file = said(tmp_path, preprocess={"mean": [0.0] * 12, "std": std})
    with pytest.raises(ArtefactError, match="std"):
        models.load(MODEL, weights=file)


@pytest.mark.parametrize(("said", "words"), [
    ({"depth": 10**9}, "cannot be"),
    ({"dim": 8192, "depth": 500}, "are missing"),  # before anything of that size is made
    ({"num_heads": 5}, "cannot be"),
    ({"channel_size": 100_000, "patch_size": 1, "dim": 8192, "num_heads": 64}, "another shape"),
])  # fmt: skip
def test_a_config_that_is_not_true_is_refused(said, words, tmp_path):
    state = {f"target_encoder.{k}": x for k, x in encoder("vitxs").items()}
    file = save(state, tmp_path / "w.pt", "model", config={**config("vitxs"), **said})
    with pytest.raises(ArtefactError, match=words):
        models.load(MODEL, weights=file)


def test_files_of_other_layouts_are_refused_by_name(tmp_path):
    deeper = {"encoder.blocks.8.norm1.weight": torch.ones(384)}
    file = save({**filled(MODEL, "vits"), **deeper}, tmp_path / "d.pt", "model")
    with pytest.raises(ArtefactError, match=r"unexpected \(encoder\.blocks\.8"):
        models.load(MODEL, weights=file)
    without = pretrained("vits", tmp_path)
    whole = torch.load(without, weights_only=True)
    del whole["model"]["target_encoder.registers"]
    with pytest.raises(ArtefactError, match=r"missing \(registers"):
        models.load(MODEL, weights=save(whole["model"], tmp_path / "w.pt", "model"))


def test_pieces_are_whole(probed):
    with pytest.raises(ConfigError, match="multiple of 25"):
        probed["vitxs"].features(drawn(MODEL, 0, (1, 12, 1260)))
    with pytest.raises(ConfigError, match="up to 5000"):
        probed["vitxs"].features(drawn(MODEL, 0, (1, 12, 5025)))


@pytest.mark.parametrize("ecg_id", ["00001", "00017", "00030", "00009_lr"])
def test_records_are_prepared_and_embedded_as_the_authors_do(probed, ecg_id):
    signal, leads, rate_hz = recording(ecg_id)
    stored = arrays(MODEL)
    for tag, model in probed.items():
        said = {"leads": leads, "rate_hz": rate_hz, "units": "mV"}
        whole = model.prepare(signal, **said)
        assert whole.shape == (12, 5000)
        assert_equal_preparation(whole, MODEL, f"prepared10s/{ecg_id}")
        crops = model.prepare(signal, windows=True, **said)
        assert crops.shape == (7, 12, 1250)
        assert all(
            np.array_equal(one, whole[:, n * 625 :][:, :1250]) for n, one in enumerate(crops)
        )
        for output, key in ((None, "patch_mean"), ("register", "register")):
            assert_equal_features(model.features(crops, output), stored[f"{tag}/{ecg_id}/{key}"])
        mean = model.features(crops[None], "logits")[0]
        assert_equal_features(mean, stored[f"{tag}/{ecg_id}/probe_logits71_mean_of_crops"])


@pytest.mark.parametrize(("variant", "sets", "fold_10"), [
    (None, "seen", "other parts seen"), ("vits", "seen", "other parts seen"),
    ("vits_mimic", "not seen", "not seen"), ("vits_ptbxl", "seen", "other parts seen"),
])  # fmt: skip
def test_what_a_file_has_seen_is_that_of_its_variant(tmp_path, variant, sets, fold_10):
    """Three files of one net: "all", "mimic" and "ptbxl"; without a word it is the first."""
    file = pretrained("vits", tmp_path)
    model = models.load(MODEL if variant is None else f"{MODEL}:{variant}", weights=file)
    assert model.variant == (variant or "vits")
    assert overlap_of_provenance("ptbxl", model.provenance).status == sets
    assert overlap_of_provenance("ptbxl:fold 10", model.provenance).status == fold_10
    of_mimic = overlap_of_provenance("mimic_iv_ecg", model.provenance).status
    assert of_mimic == ("not seen" if variant == "vits_ptbxl" else "seen")
    asked = f"{MODEL}:{file}" if variant is None else f"{MODEL}:{variant}:{file}"
    if sets == "seen":
        with pytest.raises(ConfigError, match="no evidence of transfer"):
            refuse_seen([asked], "ptbxl", allow=False)
    else:
        refuse_seen([asked], "ptbxl", allow=False)
    with pytest.raises(ArtefactError, match="says itself that it is not of ecg_jepa:vitb_mimic"):
        models.load(f"{MODEL}:vitb_mimic", weights=file)
