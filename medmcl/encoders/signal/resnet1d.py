"""A plain one-dimensional residual network over time, with leads as channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.norms import norm_layer
from medmcl.encoders.settings import Norm, ResNet1dSettings


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the first one strides."""

    def __init__(
        self, inward: int, outward: int, kernel: int, stride: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inward, outward, kernel, stride, padding=kernel // 2, bias=False)
        self.norm1 = norm_layer(norm, outward, 1)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(outward, outward, kernel, 1, padding=kernel // 2, bias=False)
        self.norm2 = norm_layer(norm, outward, 1)
        self.shortcut = nn.Sequential(
            nn.Conv1d(inward, outward, 1, stride, bias=False), norm_layer(norm, outward, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, outward, ceil(S / stride)) for (B, inward, S)."""
        out = self.dropout(torch.relu(self.norm1(self.conv1(x))))
        return torch.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet1d(EncoderModule):
    """A stem and residual blocks; tokens are the last block's places in time.

    Source:
        The plain ECG baseline of He et al. 2016's block in one dimension, as in Ribeiro et al.
        2020 (Nature Communications 11:1760). Differs: sizes are ours; shortcuts are strided 1x1
        convolutions.
    """

    Settings = ResNet1dSettings

    early: tuple[str, ...] = ("stem.",)

    def __init__(self, shape: InputShape, settings: ResNet1dSettings) -> None:
        super().__init__()
        leads, length = require_axes(shape, ("leads", "samples"), "resnet1d")
        stem, widths = settings.stem_kernel, settings.widths
        self.stem = nn.Sequential(
            nn.Conv1d(leads, widths[0], stem, settings.stride, padding=stem // 2, bias=False),
            norm_layer(settings.norm, widths[0], 1),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            Residual(
                inward, outward, settings.kernel, settings.stride, settings.norm, settings.dropout
            )
            for inward, outward in zip((widths[0], *widths), widths, strict=False)
        )
        self.both = settings.pool == "mean_max"
        self.width = widths[-1] * (2 if self.both else 1)
        for _ in range(len(widths) + 1):
            length = -(-length // settings.stride)
        self.grid: tuple[int, ...] = (length,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode signals (B, L, S)."""
        unmaskable(mask, "resnet1d")
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        tokens = x.transpose(1, 2)
        if not self.both:
            return Encoded(features=tokens.mean(1), tokens=tokens)
        features = torch.cat([tokens.mean(1), tokens.amax(1)], 1)
        # Mean and maximum over one place are both the place itself.
        return Encoded(features=features, tokens=torch.cat([tokens, tokens], 2))
