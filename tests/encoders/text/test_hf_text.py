"""A transformers model from a folder that the test writes: BERT with a handful of numbers."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

import medmcl
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, ExtraNotInstalledError
from medmcl.core.rng import torch_generator
from medmcl.encoders import Towers, build_encoder
from medmcl.encoders.by_length import encode_by_length
from medmcl.encoders.settings import HFTextSettings
from medmcl.encoders.text.hf import BLIND_TO_PADDING, HFText
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource

transformers = pytest.importorskip("transformers", reason="the extra [text] is not installed")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ekg", "normal", "sinus", "infarct", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, config and tokeniser, as transformers saves them."""
    path = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(3)
    transformers.BertModel(config).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return path


def shape(length: int = 8, vocabulary: int = len(WORDS)) -> InputShape:
    return InputShape(kind="text", shape=(length,), vocabulary=vocabulary)


def test_features_are_those_of_the_model_itself(folder):
    text = Text(TextSource(column="report"), TextSettings(model=folder, max_tokens=8))
    rows = torch.from_numpy(text.encode(["Normal EKG.", "Sinus ekg normal. infarct"]))
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        whole = model(input_ids=rows, attention_mask=(rows != 0).long()).last_hidden_state
        for pool in ("mean", "cls"):
            settings = {"path": str(folder), "pool": pool}
            encoder = build_encoder("hf_text", text.input_shape, settings).eval()
            encoded = encoder(rows)
            for number, row in enumerate(rows):
                alone = whole[number, row != 0]
                expected = alone.mean(0) if pool == "mean" else alone[0]
                torch.testing.assert_close(encoded.features[number], expected)
                torch.testing.assert_close(encoded.tokens[number, row != 0], alone)
                assert not encoded.tokens[number, row == 0].any()


def test_what_stands_behind_padding_has_no_influence(folder):
    encoder = build_encoder("hf_text", shape(), {"path": folder}).eval()
    x = torch.tensor([[2, 5, 3, 0, 0, 0, 0, 0], [0] * 8], device="cpu")
    encoded = encoder(x)
    torch.testing.assert_close(encoded.features[0], encoder(x[:1, :3]).features[0])
    assert encoded.features.isfinite().all()


def test_weights_are_the_folder_s_and_first_ones_are_the_seed_s(folder):
    for pretrained in (True, False):
        built = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            settings = {"path": folder, "pretrained": pretrained}
            built.append(build_encoder("hf_text", shape(), settings).state_dict())
        same = all(torch.equal(built[0][name], built[1][name]) for name in built[0])
        assert same == pretrained


def test_a_frozen_model_has_no_gradient_and_no_dropout(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "dropping")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    x = torch.tensor([[2, 5, 6, 3, 0, 0, 0, 0]], device="cpu")
    for frozen in (True, False):
        encoder = build_encoder("hf_text", shape(), {"path": path, "frozen": frozen}).train()
        assert torch.equal(encoder(x).features, encoder(x).features) == frozen
        assert encoder(x).features.requires_grad != frozen


def test_low_rank_adapters_and_last_layers_train_as_in_any_tower(folder):
    x = torch.tensor([[2, 5, 6, 3, 0, 0, 0, 0]], device="cpu")
    for settings in ({"lora": {"rank": 2}}, {"trainable_layers": 1}):
        given = {"encoder": {"name": "hf_text", "path": str(folder)}, **settings}
        tower = Towers.build({"report": shape()}, {"report": given}).tower("report").train()
        tower(x)[0].features.square().sum().backward()
        moved = {k for k, p in tower.named_parameters() if p.grad is not None and p.grad.any()}
        if "lora" in settings:
            assert len(tower.lora) == 12
            assert moved == {f"lora.{number}.b" for number in range(12)}
        else:
            assert moved
            assert all("encoder.layer.1." in k for k in moved)


def test_half_precision_weights_are_widened(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "half")
    transformers.BertModel.from_pretrained(folder).half().save_pretrained(path)
    encoder = build_encoder("hf_text", shape(), {"path": path})
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_pickled_weights_are_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "pickled")
    (path / "model.safetensors").unlink()
    weights = transformers.BertModel.from_pretrained(folder).state_dict()
    torch.save(weights, path / "pytorch_model.bin")
    with pytest.raises(ArtefactError, match=r"(?s)no .safetensors.*pytorch_model.bin"):
        build_encoder("hf_text", shape(), {"path": path})
    assert build_encoder("hf_text", shape(), {"path": path, "pretrained": False}).width == 16


def test_weights_that_leave_a_part_without_values_or_are_damaged_are_refused(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "deep")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ArtefactError, match="do not fill the model"):
        build_encoder("hf_text", shape(), {"path": path})
    (path / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    with pytest.raises(ArtefactError):
        build_encoder("hf_text", shape(), {"path": path})
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="cannot be read"):
        build_encoder("hf_text", shape(), {"path": path})


def test_code_that_lies_in_the_folder_is_not_run(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "code")
    (path / "evil.py").write_text("raise SystemExit('was run')")
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="no text encoder can be built"):
        build_encoder("hf_text", shape(), {"path": path})


def test_texts_of_another_vocabulary_or_too_long_are_refused(folder):
    with pytest.raises(ConfigError, match=r"(?s)not numbered.*vocabulary of 9.*inputs"):
        build_encoder("hf_text", shape(vocabulary=9), {"path": folder})
    with pytest.raises(ConfigError, match=r"(?s)longer than.*13.*at most 12"):
        build_encoder("hf_text", shape(13), {"path": folder})


def test_embeddings_rounded_up_fit_the_folder_s_own_tokeniser(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "rounded")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "vocab_size": 16}))
    settings = {"path": path, "pretrained": False}
    assert build_encoder("hf_text", shape(), settings).width == 16
    with pytest.raises(ConfigError, match="not numbered"):
        build_encoder("hf_text", shape(vocabulary=11), settings)


def test_a_folder_that_is_none_and_a_missing_extra_are_named(folder, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="needs the folder"):
        build_encoder("hf_text", shape(), {})
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        build_encoder("hf_text", shape(), {"path": "bert-base-uncased"})
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[text\]"):
        build_encoder("hf_text", shape(), {"path": folder})


RECIPE = """
schema: medmcl/recipe@1
about: test
inputs:
  clinic: {{}}
  report: {{max_tokens: 8, model: {folder}}}
towers:
  clinic: {{encoder: {{name: tabular_mlp, width: 8, hidden: 8}}, head: {{hidden: 8, out: 8}}}}
  report:
    encoder: {{name: hf_text, path: {folder}}}
    head: {{hidden: 8, out: 8}}
views: {{augmented: {{augment: {{report: {{dropout: 0.1}}}}}}}}
stages:
  - stage: train
    name: contrast
    towers: [clinic, report]
    batch_size: 8
    epochs: 2
    objectives: {{cross_modal: {{pairs: [[clinic, report]]}}}}
"""
COHORT = """
schema: medmcl/cohort@1
subjects: {table: t.csv, id: subject_id, split: split}
modalities:
  clinic: {reader: table, columns: {age: number}}
  report: {reader: text, column: report}
"""


def test_a_recipe_pretrains_with_it_frozen_or_not_and_the_run_opens_again(folder, tmp_path):
    rows = ["subject_id,split,age,report"]
    for number in range(24):
        word = ("normal ekg .", "sinus infarct .")[number % 2]
        rows.append(f"s{number},{('train', 'tuning')[number % 4 == 3]},{40 + number},{word}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    first = build_encoder("hf_text", shape(), {"path": folder}).state_dict()
    for frozen in (True, False):
        medmcl.pretrain(
            tmp_path / "cohort.yaml",
            recipe=tmp_path / "recipe.yaml",
            out=tmp_path / f"run-{frozen}",
            overrides={"towers.report.encoder.frozen": frozen},
            device="cpu",
        )
        run = medmcl.load(tmp_path / f"run-{frozen}")
        trained = run.towers("contrast", torch.device("cpu")).tower("report").encoder.state_dict()
        kept = [torch.equal(first[name], trained[name]) for name in first]
        assert all(kept) if frozen else not any(kept)
        frame = run.embed(tmp_path / "cohort.yaml", modality="report", device="cpu")
        assert (frame["quality"] == "ok").all()
        vectors = frame.filter(regex="^e").to_numpy()
        assert vectors.shape == (24, 16)
        assert (vectors[0] == vectors[2]).all()
        assert (vectors[0] != vectors[1]).any()


SMALL = {
    "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 80, "pad_token_id": 0,
}  # fmt: skip
OWN = {
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "longformer": {"attention_window": 8},
    "modernbert": {"local_attention": 8, "cls_token_id": 1, "sep_token_id": 2,
                   "bos_token_id": 1, "eos_token_id": 2},
    "roformer": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
    "convbert": {"embedding_size": 16, "head_ratio": 1},
}  # fmt: skip
MIX = {"fnet": 1.0, "convbert": 1e-4}  # how far whole and cut rows are apart, at least


@pytest.mark.parametrize("kind", [*sorted(BLIND_TO_PADDING), *MIX])
def test_rows_are_cut_for_models_that_padding_is_nothing_to(kind, tmp_path):
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **OWN.get(kind, {})})
    config.save_pretrained(tmp_path)
    settings = HFTextSettings(path=tmp_path, pretrained=False, pool="mean")
    torch.manual_seed(4)
    encoder = HFText(shape(40, 30), settings).eval()
    assert encoder.takes_cut_rows == (kind in BLIND_TO_PADDING)
    lengths = np.array([3, 40, 20, 33, 1, 9])
    x = torch.randint(3, 30, (len(lengths), 40), generator=torch_generator(0, "x", device="cpu"))
    for row, length in zip(x, lengths, strict=True):
        row[int(length) :] = 0
    with torch.no_grad():
        whole, cut = encoder(x), encode_by_length(encoder, x, lengths, 3)
    apart = max(
        (whole.features - cut.features).abs().max(), (whole.tokens - cut.tokens).abs().max()
    )
    assert apart < 1e-5 if encoder.takes_cut_rows else apart > MIX[kind]
