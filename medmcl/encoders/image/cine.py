"""A cine series: every frame by a two-dimensional encoder, then attention over time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.config import check, lookup
from medmcl.core.errors import ConfigError
from medmcl.core.layers import EPSILON, Block, sincos_1d, start_linear
from medmcl.encoders.encoded import Encoded, block_depths, layer_depth, take_tokens, visible_order
from medmcl.encoders.image.small_cnn import SmallCNN
from medmcl.encoders.image.timm_image import TimmImage
from medmcl.encoders.settings import CineSettings

FRAMES: dict[str, Any] = {"small_cnn": SmallCNN, "timm": TimmImage}


class Cine(nn.Module):
    """Frames (rows, columns), or frames of slices as channels; tokens are frames.

    Hidden frames are left out before they are encoded.
    """

    Settings = CineSettings

    early: tuple[str, ...] = ("enter.", "positions")

    def __init__(self, shape: InputShape, settings: CineSettings) -> None:
        super().__init__()
        if len(shape.shape) not in (3, 4):
            raise ConfigError(
                f"the encoder 'cine' cannot read this {shape.kind}",
                got=f"shape {shape.shape}",
                expected="(frames, rows, columns) or (frames, slices, rows, columns)",
            )
        frames, *inner = shape.shape
        single = replace(shape, shape=tuple(inner) if len(inner) == 3 else (1, *inner), names=())
        self.one: tuple[int, ...] = single.shape
        given = {"name": "small_cnn", **settings.frame}
        kind = lookup("encoder of a frame", given.pop("name"), FRAMES)
        place = "encoder 'cine': frame"
        self.frame = kind(single, check(kind.Settings, given, where=place, error=ConfigError))
        self.enter = nn.Linear(self.frame.width, settings.width)
        start_linear(self.enter)
        self.positions: Tensor
        self.register_buffer("positions", sincos_1d(frames, settings.width, "cpu"))
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, settings.mlp_ratio, settings.drop_path)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(settings.width, eps=EPSILON)
        self.width = settings.width
        self.num_tokens: int | None = frames
        self.patch: int | None = None
        self.grid: tuple[int, ...] = (frames,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode series (B, T, rows, columns) or (B, T, slices, rows, columns).

        Args:
            x: Series.
            mask: (B, T) bool, True = the frame is hidden; every row hides the same number.
        """
        frames = x.reshape(len(x), x.shape[1], *self.one)
        positions = self.positions.expand(len(x), -1, -1)
        if mask is not None:
            order = visible_order(mask)
            frames, positions = take_tokens(frames, order), take_tokens(positions, order)
        single = self.frame(frames.flatten(0, 1)).features
        tokens = self.enter(single).reshape(len(x), frames.shape[1], self.width)
        tokens = tokens + positions.to(tokens.dtype)
        for block in self.blocks:
            tokens = block(tokens)
        return Encoded(features=self.norm(tokens.mean(1)), tokens=self.norm(tokens))

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its layer: first those of the frame's encoder, then blocks over time."""
        inner = layer_depth(self.frame)
        top = max(inner.values(), default=0)
        own = block_depths(self, self.early)
        depths = {f"frame.{name}": depth for name, depth in inner.items()}
        return depths | {
            name: top + depth for name, depth in own.items() if not name.startswith("frame.")
        }
