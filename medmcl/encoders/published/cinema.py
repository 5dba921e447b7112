"""CineMA: views of a heart, short-axis volumes and long-axis images, to tokens of one transformer.

Axes of volumes are x, y, z, as the authors' files have them, and so the kernels lie. Parameters
are called as in the authors' files. What rebuilds hidden patches is not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config, Depth
from medmcl.core.errors import ConfigError
from medmcl.core.layers import MLP, require_heads, sincos_1d, start_linear
from medmcl.encoders.published.norm_first import learned

CONV_EPSILON, EPSILON = 1e-6, 1e-5
"""Of norms over channels, and of norms over the width of tokens."""
View = Literal["sax", "lax_2c", "lax_3c", "lax_4c"]
FLAT = 2
"""Axes of a long-axis image; a short-axis volume has one more."""
FACTORS: tuple[tuple[int, ...], ...] = ((4, 4, 1), (2, 2, 1), (2, 2, 1))
"""How each of two convolutions, then the patches, divide x, y, z."""


class CinemaSettings(Config):
    """Sizes; the defaults are those of the published model."""

    views: tuple[View, ...] = Field(default=("sax",), min_length=1)
    """Views that are read; the first is what an array without a name is taken for."""
    sax: tuple[int, int, int] = (192, 192, 16)
    """Voxels along x, y, z that the stored positions belong to."""
    lax: tuple[int, int] = (256, 256)
    """Pixels along x, y that the stored positions belong to."""
    conv_widths: tuple[int, int] = (64, 128)
    """Channels after each of the two convolutions."""
    conv_blocks: int = Field(default=2, ge=0)
    """Blocks after each convolution."""
    width: int = Field(default=768, ge=1)
    depth: Depth = 12
    """Blocks of the transformer."""
    heads: int = Field(default=12, ge=1)


class ChannelNorm(nn.LayerNorm):
    """A LayerNorm over the channels of (B, C, ...), each place by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=CONV_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, C, ...)."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def convolution(axes: int, inward: int, outward: int, size: tuple[int, ...]) -> nn.Module:
    """A convolution whose stride is its kernel, the first ``axes`` numbers of ``size``."""
    kind = nn.Conv2d if axes == FLAT else nn.Conv3d
    return kind(inward, outward, size[:axes], stride=size[:axes])  # type: ignore[arg-type]  # of two or three axes


class ConvMLP(nn.Module):
    """Two 1x1 convolutions with the exact GELU between them."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.fc1 = convolution(axes, width, 4 * width, (1, 1, 1))
        self.fc2 = convolution(axes, 4 * width, width, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, C, ...)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class ConvBlock(nn.Module):
    """A residual block of convolutions, the middle one 5 wide and of each channel by itself."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        kind = nn.Conv2d if axes == FLAT else nn.Conv3d
        self.norm1 = ChannelNorm(width)
        self.conv1 = convolution(axes, width, width, (1, 1, 1))
        self.dw_conv = kind(width, width, 5, padding=2, groups=width)
        self.conv2 = convolution(axes, width, width, (1, 1, 1))
        self.norm2 = ChannelNorm(width)
        self.mlp = ConvMLP(axes, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, C, ...)."""
        x = x + self.conv2(self.dw_conv(self.conv1(self.norm1(x))))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ConvStem(nn.Module):
    """A convolution whose stride is its kernel, norm, GELU."""

    def __init__(self, axes: int, inward: int, outward: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = convolution(axes, inward, outward, size)
        self.norm = ChannelNorm(outward)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, outward, ...), each axis divided by the kernel."""
        return functional.gelu(self.norm(self.conv(x)))


class ConvStage(nn.Module):
    """A stem and its blocks."""

    def __init__(
        self, axes: int, inward: int, outward: int, size: tuple[int, ...], blocks: int
    ) -> None:
        super().__init__()
        self.patch_embed = ConvStem(axes, inward, outward, size)
        self.conv = nn.ModuleList(ConvBlock(axes, outward) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, outward, ...)."""
        x = self.patch_embed(x)
        for block in self.conv:
            x = block(x)
        return x


class PatchEmbed(nn.Module):
    """Flattened patches to tokens; within a patch x is slowest and the channel fastest."""

    def __init__(self, inward: int, width: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        self.proj = nn.Linear(inward * math.prod(size), width)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for a map (B, C, X, Y[, Z]); the last axis runs fastest."""
        axes = len(self.size)
        for axis, length in enumerate(self.size):
            at = 2 + 2 * axis
            x = x.unflatten(at, (x.shape[at] // length, length))
        grid, within = range(2, 2 + 2 * axes, 2), range(3, 2 + 2 * axes, 2)
        patches = x.permute(0, *grid, *within, 1).flatten(1 + axes).flatten(1, axes)
        out: Tensor = self.proj(patches)
        return out


class ViewTokens(nn.Module):
    """One view to tokens, with the maps of each stage beside."""

    def __init__(self, axes: int, lengths: tuple[int, ...], settings: CinemaSettings) -> None:
        super().__init__()
        first, second, last = FACTORS
        low, high = settings.conv_widths
        blocks, width = settings.conv_blocks, settings.width
        self.conv_blocks = nn.ModuleList(
            [
                ConvStage(axes, 1, low, first, blocks),
                ConvStage(axes, low, high, second, blocks),
            ]
        )
        self.patch_embed = PatchEmbed(high, width, last[:axes])
        self.linear = nn.Linear(width, width)
        self.grid = tokens_along(lengths)
        self.pos_embed = nn.Parameter(positions_on(self.grid, width)[None], requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give tokens (B, T, E), and the map of each stage, for (B, 1, X, Y[, Z])."""
        grid = tokens_along(tuple(x.shape[2:]))
        maps = []
        for stage in self.conv_blocks:
            x = stage(x)
            maps.append(x)
        return self.linear(self.patch_embed(x)) + self._positions(grid), maps

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        """Stored positions, drawn to another grid where the input is of another size."""
        if grid == self.grid:
            return self.pos_embed
        stored = self.pos_embed.transpose(1, 2).unflatten(2, self.grid)
        mode = "bicubic" if len(grid) == FLAT else "trilinear"
        return functional.interpolate(stored, grid, mode=mode).flatten(2).transpose(1, 2)


def positions_on(grid: tuple[int, ...], width: int) -> Tensor:
    """First values of fixed positions, (T, width): sine and cosine of each axis, side by side.

    As in the authors' code x and y have changed places, which shows where a grid is not square.
    """
    each = width // len(grid) // 2 * 2
    x, y, *z = grid
    turned = (y, x, *z)  # as numpy's meshgrid lays them
    parts = []
    for length, axis in zip(grid, (1, 0, 2), strict=False):
        shape = [length if number == axis else 1 for number in range(len(grid))]
        parts.append(sincos_1d(length, each, "cpu").reshape(*shape, each).expand(*turned, each))
    found = torch.cat(parts, -1).flatten(0, -2)
    return functional.pad(found, (0, width - found.shape[1]))


def tokens_along(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along each axis of a view, or refuse one that is no whole number of them long."""
    spans = [math.prod(factors) for factors in zip(*FACTORS, strict=True)]
    if any(length < span or length % span for length, span in zip(lengths, spans, strict=False)):
        raise ConfigError(
            "a view of CineMA is a whole number of tokens long",
            got=" x ".join(map(str, lengths)),
            expected=f"multiples of {', '.join(map(str, spans[: len(lengths)]))} along x, y, z",
            fix="prepare it with the card's preparation",
        )
    return tuple(length // span for length, span in zip(lengths, spans, strict=False))


class Fusion(nn.Module):
    """Adds the map of each stage to the tokens, brought to their grid."""

    def __init__(self, axes: int, settings: CinemaSettings) -> None:
        super().__init__()
        _, second, last = FACTORS
        low, high = settings.conv_widths
        both = tuple(one * other for one, other in zip(second, last, strict=True))
        self.down_convs = nn.ModuleList(
            [
                convolution(axes, low, settings.width, both),
                convolution(axes, high, settings.width, last),
            ]
        )
        self.norm = nn.LayerNorm(settings.width, eps=EPSILON)

    def forward(self, tokens: Tensor, maps: list[Tensor]) -> Tensor:
        """Give tokens (B, T, E)."""
        for conv, one in zip(self.down_convs, maps, strict=True):
            tokens = tokens + conv(one).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(tokens)
        return out


class Attention(nn.Module):
    """Multi-head self-attention; keys and values share a linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        both = torch.cat([self.q(x), self.kv(x)], 2).unflatten(2, (3, self.heads, -1))
        query, key, value = both.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = MLP(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Transformer(nn.Module):
    """Tokens of all views behind a class token, which has no position."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.cls_token = learned(1, 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give (B, 1 + T, E) for tokens (B, T, E)."""
        x = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class Cinema(nn.Module):
    """Views of one heart to tokens; features are the mean of the patch tokens.

    The authors fine-tune and publish no linear probe: ``cls`` is there beside.

    Source:
        Fu et al. 2025, arXiv 2506.00679. Differs: nothing is hidden, and there is no decoder.
    """

    Settings = CinemaSettings

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        settings = CinemaSettings(**sizes)
        self.views, self.width = settings.views, settings.width
        lengths: dict[str, tuple[int, ...]] = {
            view: settings.sax if view == "sax" else settings.lax for view in settings.views
        }
        self.axes = {view: len(size) for view, size in lengths.items()}
        self.enc_down_dict = nn.ModuleDict(
            {view: ViewTokens(len(size), size, settings) for view, size in lengths.items()}
        )
        self.encoder = Transformer(settings.width, settings.depth, settings.heads)
        self.enc_fusion_dict = nn.ModuleDict(
            {view: Fusion(len(size), settings) for view, size in lengths.items()}
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                start_linear(module)

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode views.

        Args:
            x: (B, X, Y, Z) short-axis volumes or (B, X, Y) long-axis images of the first view of
                the settings, or several views by their names; an axis of 1 channel may follow B.

        Returns:
            features: (B, E), the mean of the patch tokens.
            cls: (B, E).
            tokens: (B, T, E), of all views; and those of each view by its name.
        """
        views = {self.views[0]: x} if isinstance(x, Tensor) else dict(x)
        parts, maps = [], {}
        for view, values in views.items():
            channel = values if values.ndim == 2 + self.axes[view] else values[:, None]
            tokens, maps[view] = self.enc_down_dict[view](channel)
            parts.append(tokens)
        first, *rest = self.encoder(torch.cat(parts, 1)).split(
            [1, *[tokens.shape[1] for tokens in parts]], 1
        )
        fused = {
            view: self.enc_fusion_dict[view](tokens, maps[view])
            for view, tokens in zip(views, rest, strict=True)
        }
        tokens = torch.cat(list(fused.values()), 1)
        return {"features": tokens.mean(1), "cls": first[:, 0], "tokens": tokens, **fused}
