"""Image models of transformers from folders that the test writes, against transformers itself."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import medmcl
from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError, ExtraNotInstalledError
from medmcl.encoders import Towers, build_encoder, layer_depth
from medmcl.modalities.image.settings import ImageSettings
from medmcl.stages.train.file_weights import other_pixels

transformers = pytest.importorskip("transformers", reason="the extra [text] is not installed")

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
DINOV2 = {k: v for k, v in VIT.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
TEXT = {
    **{k: v for k, v in VIT.items() if "size" not in k},
    "hidden_size": 16,
    "vocab_size": 50_000,
}
TEXT |= {"intermediate_size": 8, "num_hidden_layers": 1}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2]}


@dataclass(frozen=True)
class Layout:
    """A folder's model, and the class and tokens before the patches of what it is read as."""

    whole: str
    settings: dict
    reads: str
    others: int
    norm: str | None = None
    usual: str = "pooled"


LAYOUTS = {
    "dinov2": Layout("Dinov2Model", DINOV2, "Dinov2Model", 1),
    "registers": Layout("Dinov2WithRegistersModel", DINOV2, "Dinov2WithRegistersModel", 5),
    "dinov3": Layout("DINOv3ViTModel", {**VIT, "num_register_tokens": 2}, "DINOv3ViTModel", 3),
    "siglip": Layout(
        "SiglipModel", {"vision_config": VIT, "text_config": TEXT}, "SiglipVisionModel", 0
    ),
    "siglip_vision": Layout("SiglipVisionModel", VIT, "SiglipVisionModel", 0),
    "clip": Layout(
        "CLIPModel",
        {"vision_config": VIT, "text_config": TEXT},
        "CLIPVisionModel",
        1,
        norm="post_layernorm",
    ),
    "clip_vision": Layout("CLIPVisionModel", VIT, "CLIPVisionModel", 1, norm="post_layernorm"),
    "vit": Layout("ViTModel", VIT, "ViTModel", 1, usual="cls"),
    "vit_classifier": Layout("ViTForImageClassification", VIT, "ViTModel", 1, usual="cls"),
    "swin": Layout("SwinModel", {**SWIN, "window_size": 4}, "SwinModel", 0),
    "convnext": Layout(
        "ConvNextModel",
        {"hidden_sizes": [8, 12], "depths": [1, 2], "num_stages": 2},
        "ConvNextModel",
        0,
        norm="layernorm",
    ),
}
POOLED = {name for name in LAYOUTS if name != "vit_classifier"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of each layout, as `save_pretrained` writes it, and the model that wrote it."""
    root, found = tmp_path_factory.mktemp("models"), {}
    for name, layout in LAYOUTS.items():
        kind = getattr(transformers, layout.whole)
        torch.manual_seed(len(found))
        model = kind(kind.config_class(**layout.settings)).eval()
        with torch.no_grad():  # first weights are so small that nothing would differ
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, device="cpu") * 0.2)
        model.save_pretrained(root / name)
        found[name] = root / name
    return found


def oracle(name, folder, x, **options):
    """What transformers gives: tokens as the projection of a text would meet them, and pooled."""
    layout = LAYOUTS[name]
    model = getattr(transformers, layout.reads).from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(pixel_values=x, **options)
        tokens = found.last_hidden_state
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).transpose(1, 2)
        if layout.norm:
            tokens = getattr(model, layout.norm)(tokens)
    return SimpleNamespace(tokens=tokens, pooled=found.pooler_output)


def image(*size):
    return InputShape(kind="image", shape=size)


def rows(*size, seed=0):
    return torch.randn(2, *size, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_and_tokens_are_those_of_transformers(folders, name):
    x, layout = rows(3, 32, 32), LAYOUTS[name]
    known = oracle(name, folders[name], x)
    expected = {"mean": known.tokens[:, layout.others :].mean(1)}
    if name in POOLED:
        expected["pooled"] = known.pooled
    if layout.others:
        expected["cls"] = known.tokens[:, 0]
    expected["authors"] = expected[layout.usual]
    assert (known.tokens[0] - known.tokens[1]).abs().max() > 1e-2
    for pool, features in expected.items():
        encoder = build_encoder("hf_image", image(3, 32, 32), {"path": folders[name], "pool": pool})
        with torch.no_grad():
            encoded = encoder.eval()(x)
        torch.testing.assert_close(encoded.features, features, rtol=1e-5, atol=1e-5)
        patches = known.tokens[:, layout.others :]
        torch.testing.assert_close(encoded.tokens, patches, rtol=1e-5, atol=1e-5)
        assert encoder.grid[0] * encoder.grid[1] == patches.shape[1]
        assert encoder.grid[0] == encoder.grid[1]


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "siglip", "clip", "vit", "swin"])
def test_positions_of_another_image_size_are_those_of_transformers(folders, name):
    x = rows(3, 64, 48)
    options = {} if "dino" in name else {"interpolate_pos_encoding": True}
    known = oracle(name, folders[name], x, **options)
    encoder = build_encoder("hf_image", image(3, 64, 48), {"path": folders[name]}).eval()
    with torch.no_grad():
        found = encoder(x)
    usual = known.pooled if LAYOUTS[name].usual == "pooled" else known.tokens[:, 0]
    torch.testing.assert_close(found.features, usual, rtol=1e-5, atol=1e-5)
    assert encoder.grid == (8, 6)
    assert found.tokens.shape[1] == 48


@pytest.mark.parametrize("name", LAYOUTS)
def test_layers_rise_from_the_stem_to_the_norm(folders, name):
    settings = {"path": folders[name], "pretrained": False, "pool": "mean"}
    encoder = build_encoder("hf_image", image(3, 32, 32), settings)
    depths = layer_depth(encoder)
    first, last = next(iter(depths.values())), list(depths.values())[-1]
    assert list(depths.values()) == sorted(depths.values())
    assert first == 0
    assert last == {"swin": 5, "convnext": 5}.get(name, 3)
    if name == "clip":
        assert depths["net.pre_layrnorm.weight"] == 0
        assert depths["net.post_layernorm.weight"] == 3


def test_low_rank_adapters_and_last_layers_train_as_in_any_tower(folders):
    for name, layers in (("dinov2", "encoder.layer"), ("siglip", "encoder.layers")):
        for settings in ({"lora": {"rank": 2}}, {"trainable_layers": 1}):
            given = {"encoder": {"name": "hf_image", "path": str(folders[name])}, **settings}
            tower = Towers.build({"image": image(3, 32, 32)}, {"image": given}).tower("image")
            tower.train()(rows(3, 32, 32))[0].features.square().sum().backward()
            moved = {k for k, p in tower.named_parameters() if p.grad is not None and p.grad.any()}
            assert moved
            if "lora" in settings:
                # The second matrix starts at zero, so it alone moves at first; every layer is read.
                assert moved == {f"lora.{number}.b" for number in range(len(tower.lora))}
                linear = sum(type(m) is torch.nn.Linear for m in tower.encoder.modules())
                assert len(tower.lora) == linear > 8
            else:
                assert any(f"net.{layers}.1." in k for k in moved)
                assert any("layernorm" in k for k in moved)
                assert not any(f"net.{layers}.0." in k or "embeddings" in k for k in moved)


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def test_the_folder_says_what_pixels_it_was_trained_on(folders, tmp_path):
    path = shutil.copytree(folders["dinov2"], tmp_path / "m")

    def pixels():
        return build_encoder("hf_image", image(3, 32, 32), {"path": path}).trained_pixels()

    assert pixels() is None
    own = {"do_normalize": True, "image_mean": [0.53] * 3, "image_std": [0.26] * 3}
    write(path, "processor_config.json", {"image_processor": own})
    assert pixels() == ((pytest.approx(0.53),) * 3, (pytest.approx(0.26),) * 3)
    write(path, "preprocessor_config.json", own | {"rescale_factor": 1 / 127.5})
    assert pixels() == ((pytest.approx(0.265),) * 3, (pytest.approx(0.13),) * 3)
    write(path, "preprocessor_config.json", own | {"do_normalize": False})
    assert pixels() == ((0,) * 3, (pytest.approx(1),) * 3)
    for broken in ("{", "[]", json.dumps(own | {"image_mean": "grey"}), '{"do_normalize": true}'):
        (path / "preprocessor_config.json").write_text(broken)
        with pytest.raises(ArtefactError, match="how pixels are normalised"):
            pixels()


def test_pixels_that_are_normalised_otherwise_are_warned_of(folders, tmp_path):
    path = shutil.copytree(folders["siglip"], tmp_path / "m")
    write(path, "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    encoder = build_encoder("hf_image", image(3, 32, 32), {"path": path})
    assert encoder.pretrained
    for normalise, warned in (("half", False), ("clip", True)):
        settings = ImageSettings(size=32, channels="colour", normalise=normalise)
        lines = other_pixels("xray", encoder, SimpleNamespace(settings=settings))
        assert bool(lines) == warned
    assert "the model's are [0.5, 0.5, 0.5]" in lines[0]


def edited(folders, name, path, **values):
    shutil.copytree(folders[name], path)
    config = json.loads((path / "config.json").read_text())
    write(path, "config.json", {**config, **values})
    return path


def build(path, size=(3, 32, 32), **settings):
    return build_encoder("hf_image", image(*size), {"path": path, **settings})


def test_weights_are_the_folder_s_and_first_ones_are_the_seed_s(folders):
    for pretrained in (True, False):
        built = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            built.append(build(folders["siglip"], pretrained=pretrained).state_dict())
        same = all(torch.equal(built[0][name], built[1][name]) for name in built[0])
        assert same == pretrained


def test_other_files_of_a_folder_are_left_alone(folders, tmp_path):
    """RAD-DINO's folder also holds the head of its training and weights by other names."""
    path = shutil.copytree(folders["dinov2"], tmp_path / "rad_dino")
    for name in ("dino_head", "backbone_compatible"):
        save_file({"x": torch.ones(3, device="cpu")}, path / f"{name}.safetensors")
    x = rows(3, 32, 32)
    with torch.no_grad():
        known, found = (build(f).eval()(x).features for f in (folders["dinov2"], path))
    assert torch.equal(known, found)


def test_what_a_folder_lacks_is_named(folders, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="needs the folder"):
        build(None)
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        build("microsoft/rad-dino")
    with pytest.raises(ConfigError, match=r"(?s)channels.*colour"):
        build(folders["vit"], (1, 32, 32))
    with pytest.raises(ConfigError, match=r"(?s)whole number of patches.*size: \[32, 40\]"):
        build(folders["vit"], (3, 33, 40))
    with pytest.raises(ConfigError, match="no class token"):
        build(folders["siglip"], pool="cls")
    with pytest.raises(ArtefactError, match=r"(?s)do not fill.*pooler.*another pool, such as cls"):
        build(folders["vit_classifier"], pool="pooled")
    deep = edited(folders, "dinov2", tmp_path / "deep", num_hidden_layers=3)
    with pytest.raises(ArtefactError, match=r"(?s)do not fill the model.*copy the whole folder"):
        build(deep)
    cut = shutil.copytree(folders["dinov2"], tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ArtefactError, match="cannot be read"):
        build(cut)
    (cut / "model.safetensors").unlink()
    torch.save({}, cut / "pytorch_model.bin")
    with pytest.raises(ArtefactError, match=r"(?s)no .safetensors.*pytorch_model.bin"):
        build(cut)
    assert build(cut, pretrained=False).width == 16
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ExtraNotInstalledError, match=r"medmcl\[text\]"):
        build(folders["vit"])


def test_no_model_of_images_and_no_code_of_a_folder_is_run(folders, tmp_path):
    auto = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    path = edited(folders, "vit", tmp_path / "evil", model_type="evil", auto_map=auto)
    (path / "evil.py").write_text("raise SystemExit('was run')")
    text = tmp_path / "text"
    text.mkdir()
    write(text, "config.json", {"model_type": "bert", "hidden_size": 16})
    mae = tmp_path / "mae"
    mae.mkdir()
    write(mae, "config.json", {"model_type": "vit_mae"})
    for folder, words in ((path, "evil"), (text, "reads no images"), (mae, "at random")):
        with pytest.raises(ConfigError, match=rf"(?s)no image encoder can be built.*{words}"):
            build(folder)


RECIPE = """
schema: medmcl/recipe@1
about: test
inputs:
  clinic: {{}}
  xray: {{size: 32, channels: colour, normalise: half}}
towers:
  clinic: {{encoder: {{name: tabular_mlp, width: 8, hidden: 8}}, head: {{hidden: 8, out: 8}}}}
  xray:
    encoder: {{name: hf_image, path: {folder}}}
    head: {{hidden: 8, out: 8}}
    lora: {{rank: 2}}
views: {{augmented: {{augment: {{clinic: {{dropout: 0.1}}}}}}}}
stages:
  - stage: train
    name: contrast
    towers: [clinic, xray]
    batch_size: 8
    epochs: 1
    objectives: {{cross_modal: {{pairs: [[clinic, xray]]}}}}
"""
COHORT = """
schema: medmcl/cohort@1
subjects: {table: t.csv, id: subject_id, split: split}
modalities:
  clinic: {reader: table, columns: {age: number}}
  xray: {reader: image, path: "{subject_id}.png"}
"""


def test_a_recipe_trains_it_with_adapters_and_the_run_embeds(folders, tmp_path, caplog):
    from PIL import Image

    caplog.set_level("INFO")
    folder = shutil.copytree(folders["dinov2"], tmp_path / "rad_dino")
    write(folder, "preprocessor_config.json", {"image_mean": [0.53] * 3, "image_std": [0.26] * 3})
    lines = ["subject_id,split,age"]
    for number in range(16):
        lines.append(f"s{number},{('train', 'tuning')[number % 4 == 3]},{40 + number}")
        pixels = torch.randint(0, 256, (32, 32), dtype=torch.uint8, device="cpu").numpy()
        Image.fromarray(pixels).save(tmp_path / f"s{number}.png")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    made = medmcl.pretrain(
        tmp_path / "cohort.yaml", recipe=tmp_path / "recipe.yaml", out=tmp_path / "run",
        device="cpu",
    )  # fmt: skip
    assert "(inputs.xray.normalise)" in caplog.text
    tower = medmcl.load(made.path).towers("contrast", torch.device("cpu")).tower("xray")
    first = build(folder).state_dict()
    kept = tower.encoder.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in first.items())
    assert any(adapter.b.any() for adapter in tower.lora)
    frame = medmcl.load(made.path).embed(tmp_path / "cohort.yaml", modality="xray", device="cpu")
    assert frame.filter(regex="^e").shape == (16, 16)
