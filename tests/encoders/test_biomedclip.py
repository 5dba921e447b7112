"""Both towers of an open_clip file whose text tower is a BERT, as BiomedCLIP's is."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import medmcl
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders import Towers
from medmcl.encoders.weights import load_tower
from medmcl.modalities.text.adapter import Text, TextSettings, TextSource

transformers = pytest.importorskip("transformers", reason="the extra [text] is not installed")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "chest", "normal", "opacity", "left", "."]
BERT = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
}
VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8}
IMAGE_HEAD = {"layers": 1, "bias": False, "out": 6}
TEXT_HEAD = {"layers": 2, "hidden": 11, "bias": False, "activation": "gelu", "out": 6}


def started(module):
    """The module in evaluation mode, with weights large enough that every one matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, device="cpu") * 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file in BiomedCLIP's layout, the parts it was written from, and the language model."""
    import timm

    path = tmp_path_factory.mktemp("biomedclip")
    torch.manual_seed(7)
    bert = started(transformers.BertModel(transformers.BertConfig(**BERT), add_pooling_layer=False))
    narrow, wide = nn.Linear(16, 11, bias=False), nn.Linear(11, 6, bias=False)
    text_proj = nn.Sequential(narrow, nn.GELU(), wide)
    trunk = started(timm.create_model("vit_base_patch16_224", img_size=16, num_classes=0, **VIT))
    image_proj = nn.Linear(16, 6, bias=False)
    state = {f"text.transformer.{k}": v for k, v in bert.state_dict().items()}
    state["text.transformer.embeddings.position_ids"] = torch.arange(12, device="cpu")[None]
    state |= {f"text.proj.{k}": v for k, v in text_proj.state_dict().items()}
    state |= {f"visual.trunk.{k}": v for k, v in trunk.state_dict().items()}
    state |= {f"visual.head.proj.{k}": v for k, v in image_proj.state_dict().items()}
    state["logit_scale"] = torch.tensor(4.6, device="cpu")
    save_file({k: v.contiguous() for k, v in state.items()}, path / "w.safetensors")
    torch.save(state, path / "open_clip_pytorch_model.bin")
    folder = path / "language_model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **BERT}))
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")

    def image(x):
        return image_proj(trunk(x))

    def text(ids):
        seen = (ids != 0).long()
        return text_proj(bert(input_ids=ids, attention_mask=seen).last_hidden_state[:, 0])

    return SimpleNamespace(path=path, folder=folder, state=state, image=image, text=text)


def towers(folder, *, text_head=TEXT_HEAD, caption="hf_text"):
    model = {"name": "timm", "model": "vit_base_patch16_224", "options": VIT}
    text = {"name": "hf_text", "path": str(folder), "pretrained": False, "pool": "cls"}
    if caption == "clip_text":
        text = {"name": "clip_text", "width": 16, "depth": 2, "heads": 2}
    torch.manual_seed(1)
    return Towers.build(
        {
            "image": InputShape(kind="image", shape=(3, 16, 16)),
            "caption": InputShape(kind="text", shape=(8,), vocabulary=len(WORDS)),
        },
        {
            "image": {"encoder": model, "head": IMAGE_HEAD},
            "caption": {"encoder": text, "head": text_head},
        },
    ).eval()


@pytest.mark.parametrize("file", ["w.safetensors", "open_clip_pytorch_model.bin"])
def test_both_towers_give_what_the_parts_of_the_file_give(made, file):
    model = towers(made.folder)
    for name in ("image", "caption"):
        report = load_tower(model.tower(name), made.path / file, "open_clip", head=True)
        assert report.share == 1
        assert not report.missing
        assert not report.unexpected
    text = Text(TextSource(column="report"), TextSettings(model=made.folder, max_tokens=8))
    ids = torch.from_numpy(text.encode(["Chest normal.", "Opacity left . chest . normal"]))
    x = torch.randn(2, 3, 16, 16, device="cpu")
    with torch.no_grad():
        for name, rows, expected in (
            ("image", x, made.image(x)),
            ("caption", ids, made.text(ids)),
        ):
            tower = model.tower(name)
            found = tower.head(tower.encoder(rows).features)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_one_linear_projection_is_known_as_well(made, tmp_path):
    state = {k: v for k, v in made.state.items() if not k.startswith("text.proj.")}
    matrix = torch.randn(6, 16, device="cpu")
    save_file({**state, "text.proj.weight": matrix}, tmp_path / "w.safetensors")
    tower = towers(made.folder, text_head=IMAGE_HEAD).tower("caption")
    load_tower(tower, tmp_path / "w.safetensors", "open_clip", head=True)
    assert torch.equal(tower.head.layers[0].weight, matrix)


@pytest.mark.parametrize("change", [{"activation": "relu"}, {"hidden": 12}, {"layers": 1}])
def test_another_head_is_refused_with_the_one_that_fits(made, change):
    tower = towers(made.folder, text_head={**TEXT_HEAD, **change}).tower("caption")
    with pytest.raises(ConfigError, match="head is not the projection") as caught:
        load_tower(tower, made.path / "w.safetensors", "open_clip", head=True)
    form = "{layers: 2, bias: false, out: 6, hidden: 11, activation: gelu}"
    assert f"from 16 features: head: {form}" in str(caught.value)


def test_a_text_tower_that_is_not_the_file_s_is_refused(made, tmp_path):
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "config.json").write_text(
        json.dumps({"model_type": "bert", **BERT, "num_hidden_layers": 3})
    )
    with pytest.raises(ArtefactError, match=r"model\.encoder\.layer\.2"):
        load_tower(towers(deep).tower("caption"), made.path / "w.safetensors", "open_clip")
    tower = towers(made.folder, caption="clip_text").tower("caption")
    with pytest.raises(ArtefactError, match=r"(?s)language model of transformers.*name: hf_text"):
        load_tower(tower, made.path / "w.safetensors", "open_clip")


RECIPE = """
schema: medmcl/recipe@1
about: test
inputs:
  picture: {{size: 16, channels: colour, intensity: range, normalise: {normalise}}}
  report: {{max_tokens: 8, model: {folder}}}
towers:
  picture:
    encoder:
      name: timm
      model: vit_base_patch16_224
      options: {{embed_dim: 16, depth: 2, num_heads: 2, patch_size: 8}}
    head: {{layers: 1, bias: false, out: 6}}
  report:
    encoder: {{name: hf_text, path: {folder}, pretrained: false, pool: cls}}
    head: {{layers: 2, hidden: 11, bias: false, activation: gelu, out: 6}}
views: {{augmented: {{augment: {{report: {{dropout: 0.1}}}}}}}}
stages:
  - stage: train
    name: contrast
    towers: [picture, report]
    batch_size: 8
    steps: 1
    optimiser: {{lr: 1.0e-12}}
    weights:
      picture: {{path: {file}, names: open_clip, head: true}}
      report: {{path: {file}, names: open_clip, head: true}}
    objectives: {{cross_modal: {{pairs: [[picture, report]]}}}}
"""
COHORT = """
schema: medmcl/cohort@1
subjects: {table: t.csv, id: subject_id, split: split}
modalities:
  picture: {reader: image, path: "{subject_id}.png"}
  report: {reader: text, column: report}
"""


def test_a_recipe_starts_from_one_file_and_knows_its_pixels(made, tmp_path, caplog):
    from PIL import Image

    caplog.set_level("INFO")
    lines = ["subject_id,split,report"]
    for number in range(16):
        word = ("normal chest .", "opacity left .")[number % 2]
        lines.append(f"s{number},{('train', 'tuning')[number % 4 == 3]},{word}")
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, device="cpu").numpy()
        Image.fromarray(pixels).save(tmp_path / f"s{number}.png")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    file = tmp_path / "open_clip_model.safetensors"
    file.write_bytes((made.path / "w.safetensors").read_bytes())
    known = {"mean": [0.48145466, 0.4578275, 0.40821073]}
    known["std"] = [0.26862954, 0.26130258, 0.27577711]
    for beside, normalise, warned in (
        (None, "half", False),  # timm's own
        (json.dumps({"preprocess_cfg": known}), "clip", False),
        (json.dumps({"preprocess_cfg": known}), "half", True),
    ):
        caplog.clear()
        if beside:
            (tmp_path / "open_clip_config.json").write_text(beside)
        written = RECIPE.format(folder=made.folder, file=file, normalise=normalise)
        (tmp_path / "recipe.yaml").write_text(written)
        out = tmp_path / f"run_{normalise}_{bool(beside)}"
        run = medmcl.pretrain(
            tmp_path / "cohort.yaml", recipe=tmp_path / "recipe.yaml", out=out, device="cpu"
        )
        assert ("inputs.picture.normalise" in caplog.text) == warned
    model = medmcl.load(run.path).towers("contrast", torch.device("cpu")).eval()
    x, ids = torch.randn(2, 3, 16, 16, device="cpu"), torch.tensor([[2, 5, 6, 3, 0, 0, 0, 0]])
    with torch.no_grad():
        for name, rows, expected in (
            ("picture", x, made.image(x)),
            ("report", ids, made.text(ids)),
        ):
            tower = model.tower(name)
            found = tower.head(tower.encoder(rows).features)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(ArtefactError, match="no configuration of an open_clip model"):
        medmcl.pretrain(
            tmp_path / "cohort.yaml",
            recipe=tmp_path / "recipe.yaml",
            out=tmp_path / "x",
            device="cpu",
        )
