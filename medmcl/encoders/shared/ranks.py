"""Tokens of all ranks: their experts and slots are those of one process, and so is their noise.

Where ranks share a batch, each holds the tokens of its rows. Which tokens an expert takes depends
on those of the whole batch, so every rank is told what all tokens ask for, and makes the decision
of one process; of it each rank keeps what is about its own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medmcl.core import host


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Processes each of which has some rows of a batch that is learned from.

    Attributes:
        rank: Number of this one, from 0.
        size: How many there are.
        first: Place of the first row here among those of the global batch.
        gather: From the rows of a tensor here, and how many each rank has, to those of all in rank
            order, without gradient. All must call it.
        noise: Source of the routers' noise, in one state on all ranks.
    """

    rank: int
    size: int
    first: int
    gather: Callable[[Tensor, list[int]], Tensor]
    noise: torch.Generator


_ranks: ContextVar[Ranks | None] = ContextVar("ranks that share tokens", default=None)


@contextmanager
def tokens_of_ranks(ranks: Ranks | None) -> Iterator[None]:
    """Let routers that train inside look at the tokens of all ranks; None: at those here alone.

    Ranks must encode the same views, in one order; also one without rows.
    """
    token = _ranks.set(ranks)
    try:
        yield
    finally:
        _ranks.reset(token)


def ranks_of_tokens() -> Ranks | None:
    """Give the ranks whose tokens are routed together; None: there are no others."""
    return _ranks.get()


@dataclass(frozen=True, kw_only=True)
class GlobalTokens:
    """Routed tokens of all ranks (S) in the order of one process, those here (N) among them.

    That order is modality after modality, each rank after rank. What a layer was told at first it
    is told again when it runs again in the backward pass, where other ranks may not.

    Attributes:
        ranks: Who has them.
        counts: How many each rank has.
        place: Place in that order of each token as it is gathered, (S,) int64.
        own: Numbers of the tokens here, (N,) int64.
        here: Number here of each token, (S,) int64; -1: it is elsewhere.
        told: What one layer was told.
    """

    ranks: Ranks
    counts: list[int]
    place: Tensor
    own: Tensor
    here: Tensor
    told: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, ranks: Ranks, tokens: Sequence[int], device: torch.device) -> GlobalTokens:
        """Ask all ranks how many tokens of each modality they have; here they are ``tokens``."""
        asked = torch.tensor([list(tokens)], device=device)
        each = host.read(ranks.gather(asked, [1] * ranks.size))  # (ranks, modalities)
        before = (each.T.cumsum() - each.T.ravel()).reshape(each.T.shape).T
        shift = before.ravel() - (each.cumsum() - each.ravel())
        place = torch.from_numpy(np.repeat(shift, each.ravel()) + np.arange(each.sum()))
        counts = each.sum(1).tolist()
        own = place.split(counts)[ranks.rank]
        here = torch.full_like(place, -1).index_copy_(0, own, torch.arange(len(own), device="cpu"))
        place, own, here = (x.to(device, non_blocking=True) for x in (place, own, here))
        return cls(ranks=ranks, counts=counts, place=place, own=own, here=here)

    def of_all(self, name: str, x: Tensor) -> Tensor:
        """Give what is known of all tokens, (S, ...), from that of those here; no gradient."""
        if name not in self.told:
            found = self.ranks.gather(x.detach(), self.counts)
            self.told[name] = torch.empty_like(found).index_copy_(0, self.place, found)
        return self.told[name]

    def normal(self, like: Tensor) -> Tensor:
        """Give standard normal numbers, (N, ...): those that one process would draw for them."""
        if "noise" not in self.told:
            drawn = torch.randn(
                (len(self.place), *like.shape[1:]),
                generator=self.ranks.noise,
                dtype=like.dtype,
                device=like.device,
            )
            self.told["noise"] = drawn.index_select(0, self.own)
        return self.told["noise"]
