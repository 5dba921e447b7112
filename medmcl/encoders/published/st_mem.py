"""ST-MEM: a transformer over pieces of each lead, with marks between leads."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config, Depth
from medmcl.core.layers import sincos_1d
from medmcl.encoders.published.norm_first import EPSILON, NumberedBlocks, learned, refuse_shape


class STMEM(NumberedBlocks):
    """A transformer over pieces of each lead; each lead begins and ends with a mark.

    Outputs: ``features`` (B, E), LayerNorm of the mean over all pieces; ``tokens`` (B, L T, E),
    before it, lead after lead, without the marks.

    Source:
        Na et al. 2024 (ICLR), arXiv 2402.09450, and its code. Differs: fewer than 12 leads are
        refused, where the code repeats one lead twelve times.
    """

    class Settings(Config):
        """Sizes; those of ViT-B."""

        leads: int = Field(default=12, ge=1)
        samples: int = Field(default=2250, ge=1)
        patch: int = Field(default=75, ge=1)
        width: int = Field(default=768, ge=1)
        depth: Depth = 12
        heads: int = Field(default=12, ge=1)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        own = self.Settings(**settings)
        self.width = own.width
        self.leads, self.patch, self.pieces = own.leads, own.patch, own.samples // own.patch
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(),
            nn.LayerNorm(own.patch, eps=EPSILON),
            nn.Linear(own.patch, own.width),
            nn.LayerNorm(own.width, eps=EPSILON),
        )
        positions = sincos_1d(self.pieces, own.width, "cpu")
        # Nothing at the marks.
        self.pos_embedding = nn.Parameter(functional.pad(positions, (0, 0, 1, 1))[None])
        self.sep_embedding = learned(own.width)
        self.lead_embeddings = nn.ParameterList(learned(own.width) for _ in range(own.leads))
        self.add_blocks(own.depth, own.width, own.heads)
        self.norm = nn.LayerNorm(own.width, eps=EPSILON)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Encode records (B, L, S)."""
        rows, leads, pieces = len(x), self.leads, self.pieces
        refuse_shape(x, (leads, pieces * self.patch))
        x = self.to_patch_embedding(x.reshape(rows, leads, pieces, self.patch))
        mark = self.sep_embedding.expand(rows, leads, 1, -1)
        x = torch.cat([mark, x, mark], 2) + self.pos_embedding
        x = x + torch.stack([*self.lead_embeddings])[:, None]
        x = self.through_blocks(x.flatten(1, 2))
        tokens = x.unflatten(1, (leads, pieces + 2))[:, :, 1:-1].flatten(1, 2)
        return {"features": self.norm(tokens.mean(1)), "tokens": tokens}
