"""Encoders of coded events: a transformer that knows how long ago each was, a table of vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import EPSILON, Block, masked_mean
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.settings import CodeTransformerSettings, LookupSettings

PADDING = 0
LONGEST_DAYS = 40_000.0
"""Period of the slowest wave: about a century."""


class CodeTransformer(EncoderModule):
    """Code embeddings plus waves of their days, pre-norm blocks, mean of what is no padding.

    Time enters as sines and cosines of the days before the reference, with periods from 2 days to
    about a century in equal ratios, through a learned linear map. Undated events have none. There
    are no positions: order is time, and codes of one day have none.

    Source:
        Continuous-time encodings as in Xu et al. 2020, "Inductive representation learning on
        temporal graphs", arXiv 2002.07962, eq. 5. Differs: the periods are fixed, not learned.
    """

    Settings = CodeTransformerSettings
    takes_cut_rows = True

    early: tuple[str, ...] = ("embed.", "time.")
    frequencies: Tensor

    def __init__(self, shape: InputShape, settings: CodeTransformerSettings) -> None:
        super().__init__()
        length = require_codes(shape, "code_transformer")
        self.width = settings.width
        self.embed = nn.Embedding(shape.vocabulary, self.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        steps = torch.linspace(0.0, 1.0, settings.waves, device="cpu")
        periods = 2.0 * (LONGEST_DAYS / 2.0) ** steps
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.time = nn.Linear(2 * settings.waves, self.width, bias=False)
        nn.init.normal_(self.time.weight, std=0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(self.width, settings.heads, settings.mlp_ratio, settings.drop_path)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPSILON)
        self.grid: tuple[int, ...] = (length,)

    @torch.no_grad()
    def take_vectors(self, table: Tensor) -> None:
        """Start the code embeddings from vectors (V, R), R up to the width, row i of code i.

        They fill the first R columns, scaled to the spread that the embeddings start with; the
        others, and codes whose vector is zero, stay as the seed made them.

        Raises:
            ConfigError: Another vocabulary, or vectors wider than the embeddings.
        """
        rows, rank = table.shape
        if rows != len(self.embed.weight) or rank > self.width:
            raise ConfigError(
                "these vectors do not fit the code embeddings",
                got=f"{rows} codes of {rank} dimensions",
                expected=f"{len(self.embed.weight)} codes of at most {self.width}",
            )
        known = table.abs().sum(dim=1) > 0
        table = table.to(self.embed.weight)
        scale = self.embed.weight.std() / table[known].std().clamp(min=1e-12)
        self.embed.weight[known, :rank] = table[known] * scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers and days (B, T, 2) int64; tokens of padding are zero."""
        unmaskable(mask, "code_transformer")
        codes, days = x[..., 0], x[..., 1]
        padding = codes == PADDING
        angles = days[..., None].to(self.frequencies.dtype) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        waves = waves.masked_fill((days < 0)[..., None], 0.0)
        tokens = self.dropout(self.embed(codes) + self.time(waves))
        for block in self.blocks:
            tokens = block(tokens, padding)
        shown = torch.where(padding[..., None], 0.0, self.norm(tokens))
        features = self.norm(masked_mean(tokens, padding))
        return Encoded(features=features, tokens=shown, padding=padding)


def require_codes(shape: InputShape, encoder: str) -> int:
    """Give the number of events of a row, or refuse an input that is not of codes."""
    length, _ = require_axes(shape, ("events", "code and days"), encoder)
    if shape.vocabulary < 1:
        raise ConfigError(
            f"the encoder '{encoder}' reads codes", got=f"{shape.kind}, shape {shape.shape}"
        )
    return length


UNKNOWN = 1


class Lookup(EncoderModule):
    """The mean of the vectors of a person's codes, each as often as it stands there.

    Codes without a vector of their own (number 1) count for nothing; somebody with only such codes
    gets zeros. Started from the seed it is a bag of embeddings; a `factorise` stage fills it.
    """

    Settings = LookupSettings

    def __init__(self, shape: InputShape, settings: LookupSettings) -> None:
        super().__init__()
        length = require_codes(shape, "lookup")
        self.width = settings.width
        self.table = nn.Embedding(shape.vocabulary, self.width)
        nn.init.normal_(self.table.weight, std=self.width**-0.5)
        self.grid: tuple[int, ...] = (length,)

    def layer_depths(self) -> dict[str, int]:
        """One layer."""
        return {"table.weight": 1}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers and days (B, T, 2) int64; the days are not read."""
        unmaskable(mask, "lookup")
        unread = (x[..., 0] == PADDING) | (x[..., 0] == UNKNOWN)
        tokens = torch.where(unread[..., None], 0.0, self.table(x[..., 0]))
        return Encoded(features=masked_mean(tokens, unread), tokens=tokens, padding=unread)
