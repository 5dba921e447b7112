"""The transformer that modalities share, and the tower: what enters it, what leaves it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings, InputShape
from medmcl.core.config import check
from medmcl.core.errors import ConfigError
from medmcl.core.layers import (
    EPSILON,
    MLP,
    Attention,
    DropPath,
    ProbePool,
    masked_mean,
    start_linear,
    widen,
)
from medmcl.core.router_stats import RouterSums
from medmcl.encoders.build import build_input_projection
from medmcl.encoders.encoded import Encoded, block_depths
from medmcl.encoders.settings import HeadSettings
from medmcl.encoders.shared.input_projections import real_tokens
from medmcl.encoders.shared.moe import MoE, Places, Routing, sum_rows
from medmcl.encoders.shared.ranks import GlobalTokens, Ranks, ranks_of_tokens
from medmcl.encoders.shared.settings import TRUNK, ExpertSettings, SharedSettings, Size
from medmcl.encoders.towers import (
    Head,
    Tower,
    Towers,
    by_field,
    evaluating,
    first_row,
    keep_evaluating,
    taken,
)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Tokens of the present rows of one modality.

    Attributes:
        tokens: (R, T, D); R may be 0.
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
            if len(one.rows)
            else one.tokens
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
            ranks = ranks_of_tokens() if self.training else None
            places = places_of(streams, self.experts, device, ranks)
        routings = []
        for block in self.blocks:
            tokens, routing = block(streams, places and places.of_a_layer())
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
        pool = masked_mean if self.pool is None or not len(stream.rows) else self.pool
        features = pool(tokens, padding)
        if padding is not None:
            tokens = torch.where(padding[..., None], 0.0, tokens)
        return Encoded(features=features, tokens=tokens, padding=padding)


def places_of(
    streams: Mapping[str, Stream],
    experts: ExpertSettings,
    device: torch.device,
    ranks: Ranks | None = None,
) -> Places:
    """Say which tokens are routed, of which sequence they are, and who competes with whom."""
    real, sequence, group, lengths = [], [], [], []
    first = 0
    for number, stream in enumerate(streams.values()):
        rows, length = stream.tokens.shape[:2]
        if stream.padding is None:
            real.append(torch.ones(rows * length, dtype=torch.bool, device=device))
        else:
            real.append(~stream.padding.reshape(-1))
        order = torch.arange(first, first + rows, device=device)
        sequence.append(order.repeat_interleave(length))
        own = stream.rows + (0 if ranks is None else ranks.first)
        own = own // experts.group_rows if experts.group_rows else own * 0
        if experts.grouping == "per_modality":
            own = own * len(streams) + number
        group.append(own.repeat_interleave(length))
        lengths.append(rows * length)
        first += rows
    flags = host.read(torch.cat(real))
    places = host.numbers(flags, device)
    groups = torch.cat(group).index_select(0, places)
    among, tokens = None, len(places)
    if ranks is not None:
        parts = np.split(flags, np.cumsum(lengths)[:-1])
        among = GlobalTokens.of(ranks, [int(part.sum()) for part in parts], device)
        groups, tokens = among.of_all("groups", groups), len(among.place)
    apart = experts.group_rows or experts.grouping == "per_modality"
    sizes = np.bincount(host.read(groups), minlength=1).tolist() if apart else [tokens]
    return Places(
        real=places,
        sequence=torch.cat(sequence).index_select(0, places),
        sequences=first,
        group=groups if len(sizes) > 1 else None,
        sizes=tuple(sizes),
        among=among,
    )


class SharedTower(Towers):
    """The model: all modalities pass one transformer; input projections and heads are their own.

    Each modality of a row is a sequence of its own. Only present rows take part, and what stands in
    absent rows has no influence. In `Embeddings.stats` stands what the routers did, row by row
    (`medmcl.core.router_stats.RouterSums`).

    Each modality has a `Tower` in ``towers``: its encoder is the input projection, its head leads
    from the trunk into the shared space.

    Source:
        Mustafa et al. 2022 (LIMoE), arXiv 2206.02770. Differs: any modalities; routers drop nothing
        at evaluation; a choice of pooling; heads have a bias.
    """

    def __init__(
        self, towers: Mapping[str, nn.Module], trunk: Trunk, *, frozen_trunk: bool = False
    ) -> None:
        super().__init__(towers)
        self.trunk = trunk
        self.frozen_trunk = frozen_trunk
        if frozen_trunk:
            trunk.requires_grad_(False)
        self.train(self.training)

    @classmethod
    def build(
        cls,
        inputs: Mapping[str, InputShape],
        settings: SharedSettings | Mapping[str, Any],
        *,
        frozen: Container[str] = (),
        seed: Callable[[str], object] | None = None,
    ) -> SharedTower:
        """Build the tower for every modality of ``inputs``, in that order.

        Args:
            inputs: Modality to the shape of its input.
            settings: Checked, or as plain values. Input projections of modalities that are not in
                ``inputs`` are not built.
            frozen: Modalities whose input projection and last map are not trained; `TRUNK` for the
                trunk.
            seed: Called with the name of each part before its first weights are drawn.

        Raises:
            ConfigError: Names the modality and the field.
        """
        if not isinstance(settings, SharedSettings):
            settings = check(SharedSettings, settings, "shared", ConfigError, under="shared")
        seeded = seed or (lambda _: None)
        size, built = settings.sizes, {}
        for name, shape in inputs.items():
            own = settings.input_projections.get(name, {})
            seeded(name)
            projection = build_input_projection(
                shape, own, size.width, size.patch, where=f"shared.input_projections.{name}"
            )
            head = Head(size.width, HeadSettings(layers=1, out=settings.out or size.width))
            built[name] = Tower(projection, head, shape.shape, frozen=name in frozen)
        seeded(TRUNK)
        return cls(built, Trunk(settings), frozen_trunk=TRUNK in frozen)

    @property
    def experts(self) -> int:
        """Experts of a router; 0: the tower is dense."""
        return 0 if self.trunk.experts is None else self.trunk.experts.experts

    def train(self, mode: bool = True) -> SharedTower:
        """Set training mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.frozen_trunk:
            keep_evaluating(self.trunk)
        return self

    def depths(self) -> dict[str, tuple[int, int]]:
        """Give (its layer, layers) of each parameter; input projections are 0, heads have none."""
        own = {f"trunk.{name}": depth for name, depth in block_depths(self.trunk, ()).items()}
        last = len(self.trunk.blocks) + 1
        for name in self.towers:
            for parameter, _ in self.tower(name).encoder.named_parameters():
                own[f"towers.{name}.encoder.{parameter}"] = 0
        return {name: (depth, last) for name, depth in own.items()}

    def forward(self, batch: Batch) -> Embeddings:
        """Encode the modalities of a batch that have an input projection, together."""
        shown = [name for name in self.towers if name in batch.inputs]
        streams = {name: self._enter(name, batch) for name in shown}
        encoded, routings, places = self.trunk(streams)
        parts = by_field(
            (name, self._leave(name, encoded[name], stream.rows, len(batch)))
            for name, stream in streams.items()
        )
        stats = self._stats(streams, routings, places, len(batch))
        return Embeddings(batch=batch, stats=stats, **parts)

    def _enter(self, name: str, batch: Batch) -> Stream:
        """Turn the present rows of a modality into tokens; without any, one row that is cut off."""
        tower, x, mask = self.tower(name), batch.inputs[name], batch.masks.get(name)
        tower.refuse_other(x, name)
        rows = batch.rows(name)
        if len(rows):
            encoded = tower.facts(*taken(batch, name, rows))
        else:
            with evaluating(tower):
                hidden = None if mask is None else first_row(mask)
                encoded = tower.facts(x.new_zeros((1, *x.shape[1:])), hidden)
        padding = None if encoded.padding is None else encoded.padding[: len(rows)]
        return Stream(tokens=real_tokens(encoded)[: len(rows)], padding=padding, rows=rows)

    def _leave(self, name: str, one: Encoded, rows: Tensor, size: int) -> dict[str, Tensor]:
        """Project, and put the encoded rows at their places among zeros."""
        pooled = self.tower(name).project(one.features)
        fields = {"pooled": pooled, "features": widen(one.features), "tokens": real_tokens(one)}
        spread = {field: _spread(value, rows, size) for field, value in fields.items()}
        if one.padding is not None:
            whole = one.padding.new_ones((size, one.padding.shape[1]))
            spread["padding"] = whole.index_copy(0, rows, one.padding)
        return spread

    def _stats(
        self,
        streams: Mapping[str, Stream],
        routings: Sequence[Routing],
        places: Places | None,
        size: int,
    ) -> dict[str, Tensor]:
        """Sum what the routers did over the rows of each modality."""
        experts = self.trunk.experts
        if experts is None or places is None:
            return {}
        layers = [sum_rows(routing, places, experts) for routing in routings]
        stacked = {field: torch.stack([one[field] for one in layers], 1) for field in layers[0]}
        counts = [len(stream.rows) for stream in streams.values()]
        parts = {field: x.split(counts) for field, x in stacked.items()}
        stats: dict[str, Tensor] = {}
        for number, (name, stream) in enumerate(streams.items()):
            own = {f: _spread(x[number], stream.rows, size) for f, x in parts.items()}
            stats.update(RouterSums.of(own).stats(name))
        return stats


def _spread(part: Tensor, rows: Tensor, size: int) -> Tensor:
    return part.new_zeros((size, *part.shape[1:])).index_copy(0, rows, part)
