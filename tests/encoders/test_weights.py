"""Weights from files: against timm, torchvision and attention by hand; and files that are bad."""

from __future__ import annotations

import argparse
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError
from medmcl.encoders import NAME_MAPS, build_encoder, load_weights
from medmcl.encoders.weights import read_weights, resize_positions

ECG = InputShape(kind="ecg", shape=(12, 400))
SIZES = {"patch": 100, "width": 24, "depth": 2, "heads": 2}


def authors_vit(samples: int = 400, width: int = 24, pool: str = "avg"):
    """A model of the authors' shape from timm, an independent implementation."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(3)
    model = VisionTransformer(
        img_size=(12, samples), patch_size=(1, 100), in_chans=1, embed_dim=width, depth=2,
        num_heads=2, num_classes=0, global_pool=pool,
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def signals(samples: int = 400) -> Tensor:
    generator = torch.Generator(device="cpu").manual_seed(0)
    return torch.randn(2, 12, samples, generator=generator, device="cpu")


def test_the_authors_ecg_layout_gives_what_timm_gives(tmp_path):
    model = authors_vit()
    torch.save({"model": model.state_dict()}, tmp_path / "signal_encoder_mmcl.pth")
    encoder = build_encoder("ecg_vit", ECG, SIZES).eval()
    report = load_weights(encoder, tmp_path / "signal_encoder_mmcl.pth", NAME_MAPS["authors_ecg"])
    assert report.share == 1
    assert not report.missing
    assert not report.unexpected
    x = signals()
    expected = model(x[:, None])
    torch.testing.assert_close(encoder(x).features, expected, rtol=1e-4, atol=1e-4)
    before = model.blocks(model._pos_embed(model.patch_embed(x[:, None])))
    torch.testing.assert_close(
        encoder(x).tokens, model.fc_norm(before[:, 1:]), rtol=1e-4, atol=1e-4
    )


def test_a_file_of_masked_modelling_loads_and_says_what_it_left(tmp_path):
    model = authors_vit(pool="token")
    state = model.state_dict() | {"decoder_embed.weight": torch.ones(3, 24, device="cpu")}
    # The authors' own checkpoints keep their command line and optimiser beside the weights.
    content = {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(content, tmp_path / "checkpoint-383.pth")
    encoder = build_encoder("ecg_vit", ECG, SIZES)
    report = load_weights(encoder, tmp_path / "checkpoint-383.pth", NAME_MAPS["authors_ecg"])
    assert report.unexpected == ("decoder_embed.weight",)
    assert torch.equal(encoder.norm.weight, model.norm.weight)
    assert "decoder_embed.weight" in str(report)


def test_a_released_contrastive_file_has_no_final_norm_and_the_report_says_so(tmp_path):
    state = {k: v for k, v in authors_vit().state_dict().items() if "norm" not in k.split(".")[0]}
    torch.save({"model": state}, tmp_path / "w.pth")
    encoder = build_encoder("ecg_vit", ECG, SIZES)
    report = load_weights(encoder, tmp_path / "w.pth", NAME_MAPS["authors_ecg"])
    assert report.missing == ("norm.weight", "norm.bias")
    assert torch.equal(encoder.norm.weight, torch.ones(24, device="cpu"))


@pytest.mark.parametrize("trainable", [False, True])
def test_positions_are_resized_along_time_only(tmp_path, trainable):
    model = authors_vit(samples=800)
    torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    encoder = build_encoder("ecg_vit", ECG, {**SIZES, "trainable_positions": trainable})
    report = load_weights(encoder, tmp_path / "w.pth", NAME_MAPS["authors_ecg"])
    assert report.resized == ("positions",)
    assert not report.mismatched
    old = model.pos_embed[0, 1:].reshape(12, 8, 24)
    for lead in range(12):
        row = nn.functional.interpolate(
            old[lead].T[None, :, None], size=(1, 4), mode="bicubic", align_corners=False
        )[0, :, 0].T
        torch.testing.assert_close(encoder.positions.reshape(12, 4, 24)[lead], row)


def test_positions_that_no_grid_explains_stay_and_are_reported(tmp_path):
    positions = torch.ones(13, 24, device="cpu")
    assert resize_positions(positions, (12, 4)) is positions
    encoder = build_encoder("ecg_vit", ECG, SIZES)
    save_file({**encoder.state_dict(), "positions": positions}, tmp_path / "w.safetensors")
    report = load_weights(encoder, tmp_path / "w.safetensors")
    assert report.mismatched == {"positions": ((13, 24), (48, 24))}
    assert "positions (13, 24) -> (48, 24)" in str(report)


@pytest.mark.parametrize("numbered", [True, False])
def test_the_authors_image_layout_gives_what_torchvision_gives(tmp_path, numbered):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.models import resnet18

    torch.manual_seed(1)
    model = resnet18(weights=None)
    x = torch.randn(2, 3, 64, 64, device="cpu")
    model(x)
    model.eval()
    trunk = nn.Sequential(*list(model.children())[:-1])
    state = (trunk if numbered else model).state_dict()
    state = {f"encoder_imaging.{name}": value for name, value in state.items()}
    torch.save({"state_dict": state}, tmp_path / "image_encoder_mmcl.pth")
    shape = InputShape(kind="cmr", shape=(3, 64, 64))
    encoder = build_encoder("timm", shape, {"model": "resnet18"}).eval()
    report = load_weights(encoder, tmp_path / "image_encoder_mmcl.pth", NAME_MAPS["authors_image"])
    assert report.share == 1
    assert report.unexpected == (() if numbered else ("model.fc.weight", "model.fc.bias"))
    torch.testing.assert_close(encoder(x).features, trunk(x).flatten(1), rtol=1e-4, atol=1e-5)


def test_a_timm_trunk_of_open_clip_loads(tmp_path):
    import timm

    torch.manual_seed(2)
    trunk = timm.create_model("resnet10t", in_chans=2, num_classes=0)
    state = {f"visual.trunk.{name}": value for name, value in trunk.state_dict().items()}
    state |= {"logit_scale": torch.ones(1, device="cpu"), "text.x": torch.ones(2, device="cpu")}
    save_file(state, tmp_path / "open_clip.safetensors")
    shape = InputShape(kind="cmr", shape=(2, 32, 32))
    encoder = build_encoder("timm", shape, {"model": "resnet10t"}).eval()
    assert (
        load_weights(encoder, tmp_path / "open_clip.safetensors", NAME_MAPS["open_clip"]).share == 1
    )
    x = torch.randn(2, 2, 32, 32, device="cpu")
    assert torch.equal(encoder(x).features, trunk.eval()(x))


class ClipViT(nn.Module):
    """open_clip's own image tower, as its names say, from torch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(16, device="cpu"))
        self.positional_embedding = nn.Parameter(torch.randn(5, 16, device="cpu"))
        self.ln_pre, self.ln_post = nn.LayerNorm(16), nn.LayerNorm(16)
        block = nn.ModuleDict(
            {
                "ln_1": nn.LayerNorm(16),
                "attn": nn.MultiheadAttention(16, 2, batch_first=True),
                "ln_2": nn.LayerNorm(16),
                "mlp": nn.ModuleDict({"c_fc": nn.Linear(16, 64), "c_proj": nn.Linear(64, 16)}),
            }
        )
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList([block])})
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding)
        for block in self.transformer["resblocks"]:
            y = block["ln_1"](x)
            x = x + block["attn"](y, y, y, need_weights=False)[0]
            hidden = nn.functional.gelu(block["mlp"]["c_fc"](block["ln_2"](x)))
            x = x + block["mlp"]["c_proj"](hidden)
        return self.ln_post(x)[:, 0]


def test_open_clip_s_own_transformer_loads_into_timm_s(tmp_path):
    torch.manual_seed(4)
    model = ClipViT().eval()
    save_file(
        {f"visual.{name}": value for name, value in model.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    options = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8, "pre_norm": True}
    encoder = build_encoder(
        "timm",
        InputShape(kind="cmr", shape=(1, 16, 16)),
        {"model": "vit_tiny_patch16_224", "options": options},
    ).eval()
    report = load_weights(encoder, tmp_path / "w.safetensors", NAME_MAPS["open_clip"])
    assert not report.unexpected
    assert not report.mismatched
    assert set(report.missing) <= {"model.patch_embed.proj.bias"}
    nn.init.zeros_(p) if (p := encoder.model.patch_embed.proj.bias) is not None else None
    x = torch.randn(2, 1, 16, 16, device="cpu")
    # timm's LayerNorm has epsilon 1e-6, torch's 1e-5
    torch.testing.assert_close(encoder(x).features, model(x), rtol=1e-3, atol=1e-3)


def test_weights_that_do_not_fit_are_refused_and_leave_the_encoder_alone(tmp_path):
    encoder = build_encoder("ecg_vit", ECG, SIZES)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    save_file({"norm.weight": torch.full((24,), 9.0, device="cpu")}, tmp_path / "w.safetensors")
    with pytest.raises(ArtefactError, match="do not fit the encoder"):
        load_weights(encoder, tmp_path / "w.safetensors")
    assert all(torch.equal(v, before[n]) for n, v in encoder.state_dict().items())
    with pytest.raises(ArtefactError, match="1 tensors loaded"):
        load_weights(encoder, tmp_path / "w.safetensors")


def test_the_wrong_name_map_is_refused(tmp_path):
    torch.save({"model": authors_vit().state_dict()}, tmp_path / "w.pth")
    encoder = build_encoder("ecg_vit", ECG, SIZES)
    with pytest.raises(ArtefactError, match="choose the name map"):
        load_weights(encoder, tmp_path / "w.pth", NAME_MAPS["timm"])


class Stranger:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path, capsys):
    torch.save({"model": Stranger()}, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match="Python objects"):
        read_weights(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    path = tmp_path / name
    state = {"a": torch.ones(200, device="cpu")}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": whole[: len(whole) // 2], "noise": bytes(range(256))}[damage]
    )
    with pytest.raises(ArtefactError, match="w\\."):
        read_weights(path)


@pytest.mark.parametrize("content", [{}, {"model": {}}, [1, 2], {"epoch": 3}, {"model": {"a": 1}}])
def test_files_without_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ArtefactError, match="no named tensors"):
        read_weights(tmp_path / "w.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtefactError, match="no such file"):
        read_weights(tmp_path / "none.pth")
