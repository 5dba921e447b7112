"""Which expert takes which token: token choice, expert choice, capacity, priority.

Tokens are dispatched by sorting: no tensor here is larger than tokens x experts, and what experts
read are contiguous slices. The dense (tokens, experts, slots) form exists for inspection only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medmcl.core import host
from medmcl.core.errors import MedmclError
from medmcl.encoders.shared.ranks import GlobalTokens
from medmcl.encoders.shared.settings import Rounding


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """Which tokens the experts take: N (token, expert) pairs, expert after expert.

    Attributes:
        token: Number of the token, (N,) int64; within an expert in the order of its slots.
        weight: Gate of the pair, (N,); carries the gradient to the router.
        slot: Place in the expert's buffer, (N,) int64, below its capacity.
        count: Pairs of each expert, (E,) int64.
        asked: Pairs of each expert before its slots ran out, (E,) int64.
        tokens: S, tokens that were offered.
        capacity: C, slots of an expert (the most of any group); None: as many as are taken.
    """

    token: Tensor
    weight: Tensor
    slot: Tensor
    count: Tensor
    asked: Tensor
    tokens: int
    capacity: int | None

    @property
    def kept(self) -> Tensor:
        """Tokens that at least one expert took, (S,) bool."""
        flags = torch.zeros(self.tokens, dtype=torch.bool, device=self.token.device)
        return flags.index_fill_(0, self.token, True)

    def combine(self) -> Tensor:
        """Gate of each token for each slot of each expert, (S, E, C); zero where none.

        As large as the one-hot form it replaces: to look at, not to compute with.
        """
        most = int(host.read(self.slot).max(initial=0)) + 1
        experts = torch.arange(len(self.count), device=self.token.device)
        expert = experts.repeat_interleave(self.count, output_size=len(self.token))
        size = (self.tokens, len(self.count), self.capacity or most)
        place = (self.token * size[1] + expert) * size[2] + self.slot
        flat = self.weight.new_zeros(math.prod(size)).index_copy(0, place, self.weight)
        return flat.reshape(size)


def route(
    gates: Tensor,
    k: int,
    capacity: int | Tensor | None,
    priority: bool,
    group: Tensor | None = None,
    bias: Tensor | None = None,
    among: GlobalTokens | None = None,
) -> Dispatch:
    """Send each token to the K experts with its largest gates, as far as they have room.

    First choices of all tokens are served before second choices. Among equal choices earlier tokens
    are served first; with ``priority`` those with the larger gate of their first choice, ties in
    token order, so that what an over-full expert drops are the lowest gates. Gates are not
    normalised again, and of equal gates the expert with the lower number is chosen. Gates that are
    not finite go through to the outcome.

    Source:
        Riquelme et al. 2021, arXiv 2106.05974, section 4 and appendix C (batch priority routing);
        equals its code's buffers slot by slot. Differs: capacity may be unlimited.

    Args:
        gates: Softmax over all experts, (S, E).
        k: Experts a token, 1 to E.
        capacity: Slots an expert in each group, at least 1; one number, one a group (G,), or None
            for no limit.
        priority: Whether tokens are served in order of their largest gate.
        group: Group of each token, (S,) int64 from 0; groups do not compete. None: one group.
        bias: Added to the gates to choose the K, (E,); weights and priority are by gates alone.
        among: Tokens of other ranks, with which those here compete: ``group`` and ``capacity``,
            which must be given, are of all of them; gates, and what comes of it, are of those here.
    """
    chosen = choose(gates, k, bias)
    asked = _counts(chosen.reshape(-1), gates.shape[1])
    first = gates.detach().gather(1, chosen[:, :1])[:, 0]
    if among is not None:
        chosen, first = among.of_all("chosen", chosen), among.of_all("first", first)
    order = torch.arange(len(chosen), device=gates.device)
    if priority:
        order = first.argsort(descending=True, stable=True)
    token = order.repeat(k)  # choice after choice
    expert = chosen[order].T.reshape(-1)
    return _dispatch(gates, token, expert, capacity, group, among, asked)


def choose(gates: Tensor, k: int, bias: Tensor | None = None) -> Tensor:
    """Numbers of the K experts of each token, best first, (S, K) int64."""
    liked = gates.detach() if bias is None else gates.detach() + bias
    return liked.sort(dim=1, descending=True, stable=True).indices[:, :k]


def route_experts(
    gates: Tensor,
    capacity: int | Tensor | None,
    group: Tensor | None = None,
    among: GlobalTokens | None = None,
) -> Dispatch:
    """Let each expert take the tokens with its largest gates, as many as it has slots.

    Every expert is as full as any other; a token may be taken by many experts or by none. Which
    tokens are taken depends on the others of the group.

    Source:
        Zhou et al. 2022, arXiv 2202.09368. Differs: groups may hold fewer tokens than slots.

    Args:
        gates: Softmax over all experts, (S, E).
        capacity: As for `route`.
        group: As for `route`.
        among: As for `route`.
    """
    every = gates.detach() if among is None else among.of_all("gates", gates)
    tokens, experts = every.shape
    order = every.T.argsort(dim=1, descending=True, stable=True)  # (E, S)
    if group is not None:
        order = order.gather(1, group[order].argsort(dim=1, stable=True))
    token = order.reshape(-1)
    numbers = torch.arange(experts, device=gates.device)
    expert = numbers.repeat_interleave(tokens, output_size=len(token))
    return _dispatch(gates, token, expert, capacity, group, among)


def slots(
    tokens: int,
    k: int,
    factor: float,
    experts: int,
    rounding: Rounding = "ceil",
    multiple_of: int = 1,
) -> int:
    """Capacity of an expert: tokens * k * factor / experts, rounded; at least 1.

    What lies within a billionth of a whole number counts as that number, so that 30 tokens and a
    factor of 1.1 make 33 and not 34.

    Args:
        tokens: Tokens of the group.
        k: Experts a token.
        factor: Capacity factor: 1 = room for all if every expert is asked alike often.
        experts: E.
        rounding: ``ceil``: up; ``round``: to the nearest, halves to the even neighbour.
        multiple_of: Then rounded up to a multiple of this; 4 in the code of V-MoE.

    Raises:
        MedmclError: A number is out of range.
    """
    if tokens < 0 or min(k, experts, multiple_of) < 1 or not 0 < factor < math.inf:
        raise MedmclError(
            "no capacity follows from these numbers",
            got=f"{tokens} tokens, k {k}, factor {factor}, {experts} experts, "
            f"multiple of {multiple_of}",
            expected="a factor above 0, and whole numbers of at least 1",
        )
    exact = round(tokens * k * factor / experts, 9)
    whole = math.ceil(exact) if rounding == "ceil" else round(exact)
    return max(1, math.ceil(whole / multiple_of) * multiple_of)


def _with_group(expert: Tensor, group: Tensor) -> tuple[Tensor, int]:
    """One number for (expert, group), expert first, and how many groups there are."""
    groups = int(host.read(group).max(initial=0)) + 1
    return expert * groups + group, groups


def _counts(key: Tensor, keys: int) -> Tensor:
    """How often each key occurs, (keys,) int64; `torch.bincount` waits for a GPU."""
    return key.new_zeros(keys).scatter_add_(0, key, torch.ones_like(key))


def _rank(key: Tensor, keys: int) -> Tensor:
    """Place of each element among those of its key; keys are sorted."""
    count = _counts(key, keys)
    start = count.cumsum(0) - count
    return torch.arange(len(key), device=key.device) - start[key]


def _dispatch(
    gates: Tensor,
    token: Tensor,
    expert: Tensor,
    capacity: int | Tensor | None,
    group: Tensor | None,
    among: GlobalTokens | None = None,
    asked: Tensor | None = None,
) -> Dispatch:
    """Fill the slots of each expert (and group) with pairs in their order, as far as there is room.

    Args:
        gates: Of the tokens here, (N, E).
        token: Token of each pair, (P,); those of one expert (and group) in the order they come.
        expert: Expert of each pair, (P,).
        capacity: Slots of an expert, or of an expert for each group; None = no limit.
        group: Group of each token, (S,).
        among: Tokens of all ranks, which ``token`` and ``group`` are of; None: all are here.
        asked: What was asked of each expert here; what it takes if not given.
    """
    tokens, experts = gates.shape
    key, groups = (expert, 1) if group is None else _with_group(expert, group[token])
    by_expert = key.argsort(stable=True)
    slot = _rank(key[by_expert], experts * groups)
    token, expert = token[by_expert], expert[by_expert]
    if capacity is not None:
        limit = capacity if group is None or isinstance(capacity, int) else capacity[group[token]]
        fits = slot < limit
        if among is not None:
            token = among.here[token]
            fits &= token >= 0
        kept = host.numbers(fits, slot.device)
        token, expert, slot = token[kept], expert[kept], slot[kept]
    count = _counts(expert, experts)
    return Dispatch(
        token=token,
        weight=gates.reshape(-1).index_select(0, token * experts + expert),
        slot=slot,
        count=count,
        asked=count if asked is None else asked,
        tokens=tokens,
        capacity=int(host.read(capacity).max()) if isinstance(capacity, Tensor) else capacity,
    )
