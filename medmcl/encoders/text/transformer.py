"""A transformer over the tokens of a text; token 0 is padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import EPSILON, Block, masked_mean, sincos_1d
from medmcl.encoders.encoded import Encoded, require_axes, unmaskable
from medmcl.encoders.settings import TextTransformerSettings

PADDING = 0


class TextTransformer(nn.Module):
    """Token embeddings, positions, pre-norm blocks; nobody attends to padding."""

    Settings = TextTransformerSettings

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: TextTransformerSettings) -> None:
        super().__init__()
        (length,) = require_axes(shape, ("tokens",), "text_transformer")
        if shape.vocabulary < 1:
            raise ConfigError(
                "the encoder 'text_transformer' needs token numbers",
                got=f"{shape.kind} without a vocabulary",
            )
        self.width, self.pool = settings.width, settings.pool
        self.embed = nn.Embedding(shape.vocabulary, self.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        positions = sincos_1d(length, self.width, "cpu") * 0.02
        self.positions = nn.Parameter(positions)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(self.width, settings.heads, settings.mlp_ratio, settings.drop_path)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPSILON)
        self.num_tokens: int | None = None
        self.patch: int | None = None
        self.grid: tuple[int, ...] = (length,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers (B, T) int64; tokens of padding are zero."""
        unmaskable(mask, "text_transformer")
        padding = x == PADDING
        tokens = self.dropout(self.embed(x) + self.positions[: x.shape[1]])
        for block in self.blocks:
            tokens = block(tokens, padding)
        pooled = tokens[:, 0] if self.pool == "cls" else masked_mean(tokens, padding)
        shown = torch.where(padding[..., None], 0.0, self.norm(tokens))
        return Encoded(features=self.norm(pooled), tokens=shown, padding=padding)
