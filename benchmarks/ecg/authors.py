"""The authors' own networks, from checkouts of their repositories, to be timed beside ours.

A checkout lies in a folder ``owner+name``. Their code needs einops, and CineMA's omegaconf. Heads
of packages are passed over, which import what no network needs; nothing else of them is changed,
but that timm's attention calls that of Turgut et al. with one more argument than they know.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def _module(folder: Path, name: str, *bare: str) -> Any:
    """Import a module of a checkout, packages ``bare`` without what their heads import."""
    sys.path.insert(0, str(folder))
    for one in bare:
        package = ModuleType(one)
        package.__path__ = [str(folder / one.replace(".", "/"))]
        sys.modules[one] = package
    return import_module(name)


def _ecgfounder(folder: Path) -> nn.Module:
    net = _module(folder, "net1d").Net1D
    return net(
        in_channels=12, base_filters=64, ratio=1, filter_list=[64, 160, 160, 400, 400, 1024, 1024],
        m_blocks_list=[2, 2, 2, 3, 3, 4, 4], kernel_size=16, stride=2, groups_width=16,
        n_classes=150, use_bn=False, use_do=False, verbose=False,
    )  # fmt: skip


def _ecg_jepa(folder: Path) -> nn.Module:
    _module(folder, "configs.pretrain", "models", "configs")
    sizes = SimpleNamespace(
        channel_size=5000, patch_size=25, num_channels=12, dim=384, depth=8, num_heads=6,
        mlp_ratio=4, bias=False, qkv_bias=False, dropout=0.0, attn_dropout=0.0, norm_eps=1e-6,
        layer_scale_eps=0.0, num_registers=1,
    )  # fmt: skip
    return import_module("models.vision_transformer").VisionTransformer(sizes)


def _turgut(folder: Path) -> nn.Module:
    net = _module(folder, "models_vit").vit_tiny_patchX(
        img_size=(12, 2500), patch_size=(1, 100), in_chans=1, num_classes=1, attention_pool=True
    )
    for block in net.blocks:
        block.attn.forward = lambda x, own=block.attn.forward, **_: own(x)
    net.forward = lambda x: net.forward_features(x[:, None])
    return net


def _cinema(folder: Path) -> nn.Module:
    module = _module(folder, "cinema.mae.mae", "cinema", "cinema.mae")
    net = module.CineMA(
        image_size_dict={"sax": (192, 192, 16)}, in_chans_dict={"sax": 1},
        enc_patch_size_dict={"sax": (4, 4, 1)}, enc_scale_factor_dict={"sax": (2, 2, 1)},
        enc_conv_chans=[64, 128], enc_conv_n_blocks=2, enc_embed_dim=768, enc_depth=12,
        enc_n_heads=12, dec_embed_dim=512, dec_depth=8, dec_n_heads=16,
    )  # fmt: skip
    net.forward = lambda x: net.feature_forward({"sax": x[:, None]})
    return net


AUTHORS: dict[str, tuple[str, Callable[[Path], nn.Module]]] = {
    "ecgfounder:12_lead": ("PKUDigitalHealth+ECGFounder", _ecgfounder),
    "merl:resnet18": (
        "cheliu-computation+MERL-ICML2024",
        lambda at: _module(at / "finetune", "models.resnet1d").ResNet18(num_classes=1),
    ),
    "merl:vit_tiny": (
        "cheliu-computation+MERL-ICML2024",
        lambda at: _module(at / "finetune", "models.vit1d").vit_tiny(num_leads=12),
    ),
    "ecg_jepa:vits": ("kweimann+ECG-JEPA", _ecg_jepa),
    "st_mem:small": (
        "bakqui+ST-MEM",
        lambda at: _module(
            at, "models.encoder.st_mem_vit", "models", "models.encoder"
        ).st_mem_vit_small(num_leads=12),
    ),
    "turgut_ecg:attention_pool": ("oetu+mae", _turgut),
    "cinema:base": ("mathpluscode+CineMA", _cinema),
}
"""Encoder to its repository and who builds it, of the size of that variant."""
