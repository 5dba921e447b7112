"""The transformer that modalities share: every second block may have experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from medmcl.core.errors import ConfigError
from medmcl.core.layers import (
    EPSILON,
    MLP,
    Attention,
    DropPath,
    ProbePool,
    masked_mean,
    start_linear,
)
from medmcl.encoders.encoded import Encoded
from medmcl.encoders.shared.moe import MoE, Places, Routing
from medmcl.encoders.shared.settings import ExpertSettings, SharedSettings, Size


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Tokens of the present rows of one modality.

    Attributes:
        tokens: (R, T, D).
        padding: (R, T) bool, True = padding; None: there is none.
        rows: Their rows in the batch, (R,) int64.
    """

    tokens: Tensor
    padding: Tensor | None
    rows: Tensor


class SharedBlock(nn.Module):
    """A pre-norm block; attention stays within one row of one modality, experts see all tokens."""

    def __init__(
        self,
        size: Size,
        mlp_ratio: float,
        drop_path: float,
        experts: ExpertSettings | None,
    ) -> None:
        super().__init__()
        hidden = int(size.width * mlp_ratio)
        self.norm1 = nn.LayerNorm(size.width, eps=EPSILON)
        self.attn = Attention(size.width, size.heads)
        self.norm2 = nn.LayerNorm(size.width, eps=EPSILON)
        self.mlp = MLP(size.width, hidden, approximate="tanh") if experts is None else None
        self.moe = None if experts is None else MoE(size.width, hidden, experts)
        self.drop_path = DropPath(drop_path)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                start_linear(module)

    def forward(
        self, streams: Mapping[str, Stream], places: Places | None
    ) -> tuple[dict[str, Tensor], Routing | None]:
        """Give the tokens of each stream, and what the router did if there is one."""
        x = {
            name: one.tokens + self.drop_path(self.attn(self.norm1(one.tokens), one.padding))
            for name, one in streams.items()
        }
        if self.mlp is not None:
            return {n: t + self.drop_path(self.mlp(self.norm2(t))) for n, t in x.items()}, None
        flat = torch.cat([tokens.flatten(0, 1) for tokens in x.values()])
        made, routing = cast(MoE, self.moe)(self.norm2(flat), places)
        parts = made.split([tokens.shape[0] * tokens.shape[1] for tokens in x.values()])
        return {
            name: tokens + self.drop_path(part.reshape(tokens.shape))
            for (name, tokens), part in zip(x.items(), parts, strict=True)
        }, routing


class Trunk(nn.Module):
    """What modalities share: blocks, a last norm, and the pooling."""

    def __init__(self, settings: SharedSettings) -> None:
        super().__init__()
        size = settings.sizes
        self.experts = settings.experts
        last = max(1, size.depth - 1)
        self.blocks = nn.ModuleList(
            SharedBlock(
                size,
                settings.mlp_ratio,
                settings.drop_path * number / last,
                settings.experts if number in self._with_experts(settings) else None,
            )
            for number in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.width, eps=EPSILON)
        self.pool = (
            ProbePool(size.width, size.heads, int(size.width * settings.mlp_ratio))
            if settings.pool == "map"
            else None
        )

    @staticmethod
    def _with_experts(settings: SharedSettings) -> list[int]:
        if settings.experts is None:
            return []
        every = list(range(1, settings.sizes.depth, 2))
        if not every:
            raise ConfigError(
                "a tower of one block has no second block for experts",
                fix="raise depth, or set experts: null",
            )
        last = settings.experts.last or settings.sizes.last
        return every if last is None else every[-last:]

    @property
    def moes(self) -> list[MoE]:
        """The layers of experts, first to last."""
        return [module for module in self.modules() if isinstance(module, MoE)]

    @property
    def expert_blocks(self) -> list[int]:
        """Numbers of the blocks with experts, from 0; in the order of `moes`."""
        return [
            n for n, block in enumerate(self.blocks) if cast(SharedBlock, block).moe is not None
        ]

    def forward(
        self, streams: dict[str, Stream]
    ) -> tuple[dict[str, Encoded], list[Routing], Places | None]:
        """Encode every stream; padding tokens come out zero. Without streams nothing is done."""
        if not streams:
            return {}, [], None
        places = None
        if self.experts is not None:
            device = next(iter(streams.values())).tokens.device
            places = places_of(streams, self.experts, device)
        routings = []
        for block in self.blocks:
            tokens, routing = block(streams, places)
            if routing is not None:
                routings.append(routing)
            streams = {
                name: Stream(tokens=tokens[name], padding=one.padding, rows=one.rows)
                for name, one in streams.items()
            }
        encoded = {name: self._finish(one) for name, one in streams.items()}
        return encoded, routings, places

    def _finish(self, stream: Stream) -> Encoded:
        tokens, padding = self.norm(stream.tokens), stream.padding
        pool = masked_mean if self.pool is None else self.pool
        features = pool(tokens, padding)
        if padding is not None:
            tokens = torch.where(padding[..., None], 0.0, tokens)
        return Encoded(features=features, tokens=tokens, padding=padding)


def places_of(
    streams: Mapping[str, Stream], experts: ExpertSettings, device: torch.device
) -> Places:
    """Say which tokens are routed, of which sequence they are, and who competes with whom."""
    real, sequence, group = [], [], []
    first = 0
    for number, stream in enumerate(streams.values()):
        rows, length = stream.tokens.shape[:2]
        if stream.padding is None:
            real.append(torch.ones(rows * length, dtype=torch.bool, device=device))
        else:
            real.append(~stream.padding.reshape(-1))
        order = torch.arange(first, first + rows, device=device)
        sequence.append(order.repeat_interleave(length))
        own = stream.rows // experts.group_rows if experts.group_rows else stream.rows * 0
        if experts.grouping == "per_modality":
            own = own * len(streams) + number
        group.append(own.repeat_interleave(length))
        first += rows
    places = torch.cat(real).nonzero().squeeze(1)
    groups = torch.cat(group).index_select(0, places)
    sizes = torch.bincount(groups, minlength=1).tolist()
    return Places(
        real=places,
        sequence=torch.cat(sequence).index_select(0, places),
        sequences=first,
        group=groups if len(sizes) > 1 else None,
        sizes=tuple(sizes),
    )
