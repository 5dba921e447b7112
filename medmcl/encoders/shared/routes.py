"""Which expert takes each token, asked for one batch; training neither keeps nor computes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medmcl.core.batch import Batch
from medmcl.core.errors import ConfigError
from medmcl.encoders.shared.moe import Places, Routing
from medmcl.encoders.shared.tower import SharedTower, Stream
from medmcl.encoders.towers import evaluating

NOBODY = -1
"""In the place of an expert: padding, an absent row, or a token that no expert took."""


@dataclass(frozen=True, kw_only=True)
class Routes:
    """Where the tokens of one modality went: B rows, T tokens, L layers with experts.

    Attributes:
        expert: Of the experts that took the token the one with the largest gate, (B, T, L) int64;
            `NOBODY` where there is none.
        gate: Its gate, (B, T, L) float32; 0 where there is none.
    """

    expert: Tensor
    gate: Tensor


@torch.no_grad()
def routes(tower: SharedTower, batch: Batch) -> dict[str, Routes]:
    """Encode a batch in evaluation mode (no noise, nothing dropped) and say who took each token.

    Args:
        tower: A tower with experts.
        batch: As for the tower, of a plain view: a masked batch has visible tokens only.

    Returns:
        Modality to its routes; only modalities of which a row is present.

    Raises:
        ConfigError: The tower has no experts.
    """
    if tower.trunk.experts is None:
        raise ConfigError("the tower has no experts", fix="set shared.experts")
    seen = []
    hook = tower.trunk.register_forward_hook(lambda _, given, out: seen.append((given[0], out)))
    try:
        with evaluating(tower):
            tower(batch)
    finally:
        hook.remove()
    streams, (_, routings, places) = seen[0]
    if places is None:
        return {}
    sizes = [one.tokens.shape[0] * one.tokens.shape[1] for one in streams.values()]
    layers = [_chosen(routing, places, sum(sizes)) for routing in routings]
    expert = torch.stack([one[0] for one in layers], 1).split(sizes)
    gate = torch.stack([one[1] for one in layers], 1).split(sizes)
    return {
        name: Routes(
            expert=_by_row(expert[number], stream, len(batch), NOBODY),
            gate=_by_row(gate[number], stream, len(batch), 0),
        )
        for number, (name, stream) in enumerate(streams.items())
        if len(stream.rows)
    }


def _chosen(routing: Routing, places: Places, tokens: int) -> tuple[Tensor, Tensor]:
    """Expert and gate of every token of a layer's input, padding among them, (S,) each."""
    done = routing.dispatch
    numbers = torch.arange(len(done.count), device=done.token.device)
    taker = numbers.repeat_interleave(done.count, output_size=len(done.token))
    weight = done.weight.float()
    gate = weight.new_zeros(done.tokens).scatter_reduce(0, done.token, weight, "amax")
    best = weight == gate[done.token]
    none = len(done.count)  # above every expert
    expert = done.token.new_full((done.tokens,), none).scatter_reduce(
        0, done.token[best], taker[best], "amin"
    )
    expert = torch.where(expert == none, NOBODY, expert)
    whole = expert.new_full((tokens,), NOBODY).index_copy(0, places.real, expert)
    return whole, gate.new_zeros(tokens).index_copy(0, places.real, gate)


def _by_row(part: Tensor, stream: Stream, size: int, nothing: int) -> Tensor:
    """Bring (R * T, L) of the present rows to (B, T, L) of the batch."""
    rows, length = stream.tokens.shape[:2]
    whole = part.new_full((size, length, part.shape[1]), nothing)
    return whole.index_copy(0, stream.rows, part.reshape(rows, length, -1))
