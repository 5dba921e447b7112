"""Three-dimensional networks of MONAI for volumes; frames are channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, try_out, unmaskable
from medmcl.encoders.settings import Monai3dSettings, Norm


class Monai3d(EncoderModule):
    """A 3-D ResNet or DenseNet; tokens are the places of its last feature map.

    The stem of MONAI's ResNet does not stride by default; ours does, which costs a sixth.
    """

    Settings = Monai3dSettings

    def __init__(self, shape: InputShape, settings: Monai3dSettings) -> None:
        super().__init__()
        axes = require_axes(shape, ("frames", "slices", "rows", "columns"), "monai3d")
        parts = (
            _dense(settings, axes[0]) if "dense" in settings.network else _res(settings, axes[0])
        )
        self.layers = nn.ModuleList(parts)
        self.eval()
        with torch.no_grad():
            maps = try_out(self._maps, axes, f"monai3d: {settings.network}")
        self.train()
        self.width = maps.shape[1]
        self.grid: tuple[int, ...] = tuple(maps.shape[2:])

    def _maps(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode volumes (B, frames, slices, rows, columns)."""
        unmaskable(mask, "monai3d")
        tokens = self._maps(x).flatten(2).transpose(1, 2)
        return Encoded(features=tokens.mean(1), tokens=tokens)

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its stage; 0 is the stem."""
        return {name: int(name.split(".")[1]) for name, _ in self.named_parameters()}


def _norm(kind: Norm) -> str | tuple[str, dict[str, Any]]:
    return "batch" if kind == "batch" else ("group", {"num_groups": 8})


def _res(settings: Monai3dSettings, channels: int) -> list[nn.Module]:
    """Stem and four stages of a ResNet, without its pooling and classifier."""
    from monai.networks import nets

    net = getattr(nets, settings.network)(
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_stride=settings.stem_stride,
        no_max_pool=not settings.stem_pool,
        widen_factor=settings.widen,
        feed_forward=False,
        norm=_norm(settings.norm),
    )
    stem = [net.conv1, net.bn1, net.act] + ([net.maxpool] if settings.stem_pool else [])
    return [nn.Sequential(*stem), net.layer1, net.layer2, net.layer3, net.layer4]


def _dense(settings: Monai3dSettings, channels: int) -> list[nn.Module]:
    """Stem and four dense stages, without pooling and classifier."""
    from monai.networks import nets

    net = nets.DenseNet121(
        spatial_dims=3,
        in_channels=channels,
        out_channels=1,
        norm=_norm(settings.norm),
        dropout_prob=settings.dropout,
    )
    stages: list[list[nn.Module]] = [[]]
    for name, layer in net.features.named_children():
        if name.startswith("denseblock"):
            stages.append([])
        stages[-1].append(layer)
    stages[-1].append(nn.ReLU())
    return [nn.Sequential(*stage) for stage in stages]
