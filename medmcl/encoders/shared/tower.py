"""One tower for all modalities: what enters it, what leaves it, what its routers did."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings, InputShape
from medmcl.core.config import check
from medmcl.core.errors import ConfigError
from medmcl.core.router_stats import RouterSums
from medmcl.encoders.build import build_input_projection
from medmcl.encoders.depths import block_depths
from medmcl.encoders.encoded import Encoded
from medmcl.encoders.heads import Head
from medmcl.encoders.shared.input_projections import real_tokens
from medmcl.encoders.shared.moe import Places, Routing, no_sums, sum_rows
from medmcl.encoders.shared.settings import TRUNK, SharedSettings
from medmcl.encoders.shared.trunk import Stream, Trunk
from medmcl.encoders.tower_settings import HeadSettings
from medmcl.encoders.towers import (
    Tower,
    Towers,
    evaluating,
    first_row,
    keep_evaluating,
    widen,
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
        present = {name: one for name, one in streams.items() if len(one.rows)}
        encoded, routings, places = self.trunk(present)
        parts: dict[str, dict[str, Tensor]] = {
            "pooled": {}, "features": {}, "tokens": {}, "padding": {},
        }  # fmt: skip
        for name, stream in streams.items():
            one = encoded.get(name) or self._nothing(stream)
            for field, value in self._leave(name, one, stream.rows, len(batch)).items():
                parts[field][name] = value
        stats = self._stats(streams, routings, places, len(batch))
        return Embeddings(batch=batch, stats=stats, **parts)

    def _enter(self, name: str, batch: Batch) -> Stream:
        """Turn the present rows of a modality into tokens; without any, one row that is cut off."""
        tower, x, mask = self.tower(name), batch.inputs[name], batch.masks.get(name)
        tower.refuse_other(x, name)
        rows = batch.present[name].nonzero().squeeze(1)
        if len(rows):
            taken = None if mask is None else mask.index_select(0, rows)
            encoded = tower.facts(x.index_select(0, rows), taken)
        else:
            with evaluating(tower):
                hidden = None if mask is None else first_row(mask)
                encoded = tower.facts(x.new_zeros((1, *x.shape[1:])), hidden)
        padding = None if encoded.padding is None else encoded.padding[: len(rows)]
        return Stream(tokens=real_tokens(encoded)[: len(rows)], padding=padding, rows=rows)

    def _nothing(self, stream: Stream) -> Encoded:
        """What stands for a modality without a row: no tokens, as the trunk would give them."""
        tokens = self.trunk.norm(stream.tokens)
        return Encoded(features=tokens.mean(1), tokens=tokens, padding=stream.padding)

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
        if experts is None:
            return {}
        if places is None:  # no row of any modality
            layers = [no_sums(moe) for moe in self.trunk.moes]
        else:
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
