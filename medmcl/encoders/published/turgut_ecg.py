"""The ECG encoder of Turgut et al.: a small ViT over (lead, time) patches, in the files' names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config
from medmcl.core.layers import EPSILON, Block
from medmcl.encoders.published.norm_first import drawn_on, refuse_shape

TWELVE = 12
"""Leads whose patches the stored positions number, lead after lead."""


class PatchEmbed(nn.Module):
    """One linear map of a patch of one lead, written as a convolution."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, (1, patch), (1, patch))

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, L * S / patch, E), lead after lead, of signals (B, L, S)."""
        out: Tensor = self.proj(x[:, None]).flatten(2).transpose(1, 2)
        return out


class TurgutECGSettings(Config):
    """Sizes; those of the released files."""

    pool: Literal["attention_pool", "global_pool", "cls"] = "attention_pool"
    tokens: int = 300
    """Stored positions; of another time grid than that of a record they are drawn to it."""
    samples: int = 2500
    patch: int = 100
    width: int = 384
    depth: int = 3
    heads: int = 6


class TurgutECG(nn.Module):
    """Patches, stored positions, a class token, pre-norm blocks; then one of three pools.

    Source:
        Turgut et al. 2025, arXiv 2308.05764; oetu/mae@68851df. Differs: tokens keep their order,
        which the authors' forward shuffles.
    """

    Settings = TurgutECGSettings

    def __init__(
        self,
        pool: str,
        tokens: int,
        samples: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.width, self.pool, self.samples = width, pool, samples
        self.patch_embed = PatchEmbed(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width, device=drawn_on()))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, width, device=drawn_on()))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        if pool == "attention_pool":
            self.attention_pool = nn.MultiheadAttention(width, heads, batch_first=True)
        if pool == "cls":
            self.norm = nn.LayerNorm(width, eps=EPSILON)
        else:
            self.fc_norm = nn.LayerNorm(width, eps=EPSILON)

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG004  (as `ToldByFile`)
        """The pool, by the layer after the blocks (of pre-training files ``cls``), and tokens."""
        pools = {
            "attention_pool.in_proj_weight": "attention_pool",
            "fc_norm.weight": "global_pool",
            "norm.weight": "cls",
        }
        found: dict[str, Any] = next(
            ({"pool": pool} for name, pool in pools.items() if name in state), {}
        )
        stored = state.get("pos_embed")
        if stored is not None and stored.ndim == 3 and (stored.shape[1] - 1) % TWELVE == 0:
            found["tokens"] = stored.shape[1] - 1
        return found

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Give ``features`` (B, E) and ``tokens`` (B, T, E) of signals (B, L, S)."""
        refuse_shape(x, (TWELVE, self.samples))
        tokens = self.patch_embed(x)
        tokens = tokens + self._places(tokens.shape[1] // TWELVE)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return {"features": self._pooled(tokens), "tokens": tokens[:, 1:]}

    def _places(self, length: int) -> Tensor:
        """Stored positions, drawn to another time grid as the authors do."""
        stored = self.pos_embed[:, 1:]
        if stored.shape[1] == TWELVE * length:
            return stored
        grid = stored.transpose(1, 2).unflatten(2, (TWELVE, -1))
        drawn = functional.interpolate(grid, (TWELVE, length), mode="bicubic")
        return drawn.flatten(2).transpose(1, 2)

    def _pooled(self, tokens: Tensor) -> Tensor:
        if self.pool == "cls":
            normed: Tensor = self.norm(tokens)[:, 0]
            return normed
        patches = tokens[:, 1:]
        pooled = patches.mean(1)
        if self.pool == "attention_pool":
            query = pooled[:, None]
            pooled = self.attention_pool(query, patches, patches, need_weights=False)[0][:, 0]
        out: Tensor = self.fc_norm(pooled)
        return out
