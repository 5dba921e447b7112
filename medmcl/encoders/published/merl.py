"""MERL: ECG encoders that were trained beside their reports, and the space they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from medmcl.core.config import Config, Depth
from medmcl.encoders.published.norm_first import EPSILON, NumberedBlocks, learned


def holds(tensors: Mapping[str, Tensor], *beginnings: str) -> bool:
    """Whether a file has tensors of a head, by how their names begin."""
    return any(name.startswith(beginnings) for name in tensors)


class BasicBlock(nn.Module):
    """Two convolutions of 3 samples beside a shortcut; the first one strides."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inward, outward, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm1d(outward)
        self.conv2 = nn.Conv1d(outward, outward, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(outward)
        self.shortcut = nn.Sequential()
        if stride != 1 or inward != outward:
            self.shortcut = nn.Sequential(
                nn.Conv1d(inward, outward, 1, stride, bias=False), nn.BatchNorm1d(outward)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, outward, ceil(S / stride)) for (B, inward, S)."""
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + self.shortcut(x))


class AttentionPool(nn.Module):
    """Attention of a learned token over all places in time and over itself."""

    def __init__(self, places: int, width: int, heads: int) -> None:
        super().__init__()
        self.cls_token = learned(1, 1, width)
        self.positional_embedding = learned(1, places + 1, width)
        self.mhsa = nn.MultiheadAttention(width, heads, batch_first=True)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, D) for places in time (B, T, D)."""
        # The first position is added to the learned token twice (code).
        first = (self.cls_token + self.positional_embedding[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x], 1) + self.positional_embedding
        pooled, _ = self.mhsa(x[:, :1], x, x, need_weights=False)
        out: Tensor = self.c_proj(pooled[:, 0])
        return out


class MERLResNet(nn.Module):
    """ResNet-18 over time, without the max-pooling behind its stem.

    Outputs: ``features`` (B, 512), the mean over time; ``tokens`` (B, T, 512); ``zero_shot``
    (B, 256), the space shared with reports, not yet of unit norm.

    Source:
        Liu et al. 2024 (ICML), arXiv 2403.06659, and its code. Differs: none.
    """

    class Settings(Config):
        """Sizes; those of the released file."""

        zero_shot: bool = False
        """Whether the file holds the pooling into the space shared with reports."""
        leads: int = Field(default=12, ge=1)
        samples: int = Field(default=5000, ge=8)
        widths: tuple[int, ...] = (64, 128, 256, 512)
        shared_width: int = Field(default=256, ge=1)
        shared_heads: int = Field(default=4, ge=1)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        own = self.Settings(**settings)
        first = own.widths[0]
        self.conv1 = nn.Conv1d(own.leads, first, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm1d(first)
        length, inward = -(-own.samples // 2), first
        self.layers = [f"layer{number}" for number in range(1, len(own.widths) + 1)]
        for number, (name, outward) in enumerate(zip(self.layers, own.widths, strict=True)):
            stride = 2 if number else 1
            pair = [BasicBlock(inward, outward, stride), BasicBlock(outward, outward, 1)]
            self.add_module(name, nn.Sequential(*pair))
            length, inward = -(-length // stride), outward
        self.width = inward
        self.zero_shot = own.zero_shot
        if own.zero_shot:
            self.downconv = nn.Conv1d(inward, own.shared_width, 1)
            self.att_pool_head = AttentionPool(length, own.shared_width, own.shared_heads)

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG004  (as `ToldByFile`)
        """Whether the file holds a head."""
        return {"zero_shot": holds(state, "downconv.", "att_pool_head.")}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Encode records (B, L, S)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        for name in self.layers:
            x = self.get_submodule(name)(x)
        tokens = x.transpose(1, 2)
        found = {"features": tokens.mean(1), "tokens": tokens}
        if self.zero_shot:
            found["zero_shot"] = self.att_pool_head(self.downconv(x).transpose(1, 2))
        return found


class MERLViT(NumberedBlocks):
    """A small transformer over pieces of time that span all leads.

    Outputs: ``features`` (B, E), LayerNorm of the mean token; ``tokens`` (B, T, E), before it;
    ``zero_shot`` (B, 256), the space shared with reports, not yet of unit norm.

    Source:
        Liu et al. 2024 (ICML), arXiv 2403.06659, and its code. Differs: none.
    """

    class Settings(Config):
        """Sizes; those of the released file."""

        zero_shot: bool = False
        """Whether the file holds the projection into the space shared with reports."""
        leads: int = Field(default=12, ge=1)
        samples: int = Field(default=5000, ge=1)
        patch: int = Field(default=50, ge=1)
        width: int = Field(default=192, ge=1)
        depth: Depth = 12
        heads: int = Field(default=3, ge=1)
        shared_width: int = Field(default=256, ge=1)

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        own = self.Settings(**settings)
        self.width = own.width
        self.to_patch_embedding = nn.Conv1d(own.leads, own.width, own.patch, own.patch, bias=False)
        self.pos_embedding = learned(1, own.samples // own.patch, own.width)
        self.add_blocks(own.depth, own.width, own.heads)
        self.norm = nn.LayerNorm(own.width, eps=EPSILON)
        self.zero_shot = own.zero_shot
        if own.zero_shot:
            shared = own.shared_width
            self.proj_e = nn.Sequential(
                nn.Linear(own.width, shared),
                nn.BatchNorm1d(shared),
                nn.ReLU(),
                nn.Linear(shared, shared),
                nn.BatchNorm1d(shared),
            )

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG004  (as `ToldByFile`)
        """Whether the file holds a head."""
        return {"zero_shot": holds(state, "proj_e.")}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Encode records (B, L, S)."""
        x = self.to_patch_embedding(x).transpose(1, 2) + self.pos_embedding
        tokens = self.through_blocks(x)
        found = {"features": self.norm(tokens.mean(1)), "tokens": tokens}
        if self.zero_shot:
            found["zero_shot"] = self.proj_e(found["features"])
        return found
