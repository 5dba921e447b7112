"""A layer of experts: router, dispatch, MLPs, and what the router did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core import host
from medmcl.core.router_stats import entropy, load_probability, z_squared
from medmcl.encoders.shared.experts import Dispatch, choose, route, route_experts, slots
from medmcl.encoders.shared.ranks import GlobalTokens
from medmcl.encoders.shared.settings import ExpertSettings


class LoadBias(nn.Module):
    """A bias an expert, added to the gates where experts are chosen and nowhere else.

    After each step b_e += rate * sign(mean load - load_e), where the load is how many tokens, of
    all modalities and all ranks, asked for the expert in the forward passes of that step. Within a
    step nothing moves. It keeps the contract `medmcl.core.contracts.MovesAfterSteps`.

    Balance is over all tokens together: that one modality crowds on one expert it does not see, as
    long as the others make up for it.

    Source:
        Wang et al. 2024, arXiv 2408.15664, algorithm 1. Differs: gates are a softmax (theirs a
        sigmoid); tokens count where they ask, also if the expert has no room for them.
    """

    bias: Tensor
    """(E,); in the state, so a run that goes on has it."""

    def __init__(self, experts: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("bias", torch.zeros(experts, device="cpu"))
        self._load: Tensor | None = None  # no buffer: DDP would overwrite it with rank 0's

    def count(self, asked: Tensor) -> None:
        """Add what was asked of each expert, (E,) int64, in a pass that is learned from."""
        self._load = asked if self._load is None else self._load + asked

    def after_step(self, total: Callable[[Tensor], Tensor], *, taken: bool) -> None:
        """Move the bias by what was counted, and forget it; a step not taken moves nothing."""
        load, self._load = self._load, None
        if not taken:
            return
        if load is None:
            load = torch.zeros_like(self.bias, dtype=torch.int64)
        load = total(load)
        # In whole numbers: E * load against the sum, so that a tie is a tie.
        self.bias += self.rate * (load.sum() - len(load) * load).sign()


@dataclass(frozen=True, kw_only=True)
class Places:
    """Which tokens of a layer's input are routed, and whom they compete with.

    Attributes:
        real: Numbers of the tokens that are no padding, (N,) int64.
        sequence: Which sequence (one row of one modality) each of them is of, (N,) int64.
        sequences: Number of sequences.
        group: Which tokens share slots in training, (N,) int64 from 0, of all ranks; None: all do.
        sizes: Tokens of each group, of all ranks.
        among: The tokens of all ranks, where others have some that compete with these.
    """

    real: Tensor
    sequence: Tensor
    sequences: int
    group: Tensor | None
    sizes: tuple[int, ...]
    among: GlobalTokens | None = None

    def of_a_layer(self) -> Places:
        """The same for one layer, which keeps what other ranks tell it."""
        return self if self.among is None else replace(self, among=replace(self.among, told={}))


@dataclass(frozen=True, kw_only=True)
class Routing:
    """What a router did with N tokens.

    Attributes:
        logits: Without noise, (N, E) float32.
        noisy: With the noise that routed; None where there was none.
        bias: What was added to the gates to choose, (E,); None where nothing was.
        dispatch: Who takes which token.
    """

    logits: Tensor
    noisy: Tensor | None
    bias: Tensor | None
    dispatch: Dispatch


class Router(nn.Module):
    """A linear map from a token to one logit an expert, without bias; float32 also under autocast.

    It is never told which modality a token is of.
    """

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(width, experts, bias=False).weight.detach())
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (N, E) for tokens (N, D)."""
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.to(self.weight.dtype), self.weight)


class ExpertMLPs(nn.Module):
    """E MLPs of one shape, each with weights of its own; GELU in its tanh form.

    Source:
        The MLP of Dosovitskiy et al. 2021 as V-MoE's code has it. Differs: experts start at
        different weights, Xavier-uniform with zero bias (theirs start alike unless told otherwise).

    Args:
        experts: E.
        width: D.
        hidden: H, width of the hidden layer.
    """

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        first = [nn.Linear(width, hidden) for _ in range(experts)]
        second = [nn.Linear(hidden, width) for _ in range(experts)]
        for layer in (*first, *second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.weight1 = nn.Parameter(torch.stack([one.weight.detach() for one in first]))
        self.bias1 = nn.Parameter(torch.stack([one.bias.detach() for one in first]))
        self.weight2 = nn.Parameter(torch.stack([one.weight.detach() for one in second]))
        self.bias2 = nn.Parameter(torch.stack([one.bias.detach() for one in second]))

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        """Give (N, D) for tokens (N, D) that lie expert after expert, ``count`` (E,) of each."""
        if has_grouped_matmul(x):
            return self.grouped(x, count)
        return self.one_by_one(x, count)

    def one_by_one(self, x: Tensor, count: Tensor) -> Tensor:
        """Send each contiguous slice through its expert; experts without tokens are left out."""
        # unbind, not indexing: its backward pass stacks the gradients of all experts once.
        layers = zip(
            x.split(host.read(count).tolist()),
            self.weight1.unbind(),
            self.bias1.unbind(),
            self.weight2.unbind(),
            self.bias2.unbind(),
            strict=True,
        )
        parts = [
            functional.linear(
                functional.gelu(functional.linear(part, w1, b1), approximate="tanh"), w2, b2
            )
            for part, w1, b1, w2, b2 in layers
            if len(part)
        ]
        return torch.cat(parts) if parts else x * 1.0

    def grouped(self, x: Tensor, count: Tensor) -> Tensor:
        """Do the same with torch's grouped matmul: two kernels however many experts there are."""
        ends = count.cumsum(0).to(torch.int32)
        hidden = _grouped_linear(x, self.weight1, self.bias1, count, ends)
        hidden = functional.gelu(hidden, approximate="tanh")
        return _grouped_linear(hidden, self.weight2, self.bias2, count, ends)


def has_grouped_matmul(x: Tensor) -> bool:
    """Whether torch's public grouped matmul takes ``x``: bfloat16 on a GPU, autocast included."""
    place = x.device.type
    if place == "cpu" or not hasattr(functional, "grouped_mm") or not len(x):
        return False
    kind = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else x.dtype
    able = not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 0)
    return kind == torch.bfloat16 and able


def _grouped_linear(x: Tensor, weight: Tensor, bias: Tensor, count: Tensor, ends: Tensor) -> Tensor:
    kind = x.dtype
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    product = functional.grouped_mm(x.to(kind), weight.to(kind).transpose(1, 2), offs=ends)
    return product + bias.to(kind).repeat_interleave(count, dim=0, output_size=len(x))


class MoE(nn.Module):
    """Experts in the place of an MLP: y = sum over the K experts of gate * MLP(x).

    A token that no expert takes gives zero, so only its residual path goes on. Training adds noise
    to the logits and limits the slots of an expert. Evaluation does neither, so that what becomes
    of a row does not depend on the others of its batch; where experts choose, each then chooses
    within one row of one modality.

    Source:
        Riquelme et al. 2021, arXiv 2106.05974; for several modalities Mustafa et al. 2022, arXiv
        2206.02770. Differs: evaluation drops nothing (theirs: a capacity there too).
    """

    def __init__(self, width: int, hidden: int, settings: ExpertSettings) -> None:
        super().__init__()
        self.settings = settings
        self.router = Router(width, settings.experts)
        self.mlps = ExpertMLPs(settings.experts, width, hidden)
        rate = settings.bias_rate
        self.balance = LoadBias(settings.experts, rate) if rate else None

    def forward(self, x: Tensor, places: Places) -> tuple[Tensor, Routing]:
        """Route the real tokens of ``x``.

        Args:
            x: All tokens, padding among them, (S, D).
            places: Which of them are real.

        Returns:
            (S, D), zero for padding and dropped tokens; and what the router did.
        """
        logits = self.router(x).index_select(0, places.real)
        noisy = None
        if self.training and self.settings.noise:
            drawn = torch.randn_like if places.among is None else places.among.normal
            noisy = logits + drawn(logits) * self.settings.noise_std
        gates = (logits if noisy is None else noisy).softmax(-1)
        bias = None if self.balance is None else self.balance.bias
        routed = self._dispatch(gates, places, bias)
        learns = self.training and torch.is_grad_enabled() and self.router.weight.requires_grad
        if self.balance is not None and learns:
            self.balance.count(routed.asked)
        token = places.real.index_select(0, routed.token)
        made = self.mlps(x.index_select(0, token), routed.count)
        weight = routed.weight
        if self.settings.normalise:
            chosen = gates.gather(1, choose(gates, self.settings.k, bias)).sum(-1)
            weight = weight / chosen.index_select(0, routed.token)
        weighted = made * weight[:, None].to(made.dtype)
        out = weighted.new_zeros(len(x), x.shape[1]).index_add(0, token, weighted)
        return out, Routing(logits=logits, noisy=noisy, bias=bias, dispatch=routed)

    def _dispatch(self, gates: Tensor, places: Places, bias: Tensor | None) -> Dispatch:
        own = self.settings
        if not self.training:
            if own.routing == "tokens":
                return route(gates, own.k, None, priority=False, bias=bias)
            least = max(1, places.sequences)
            sizes = np.bincount(host.read(places.sequence), minlength=least).tolist()
            return route_experts(gates, self._room(sizes, gates.device), places.sequence)
        room = self._room(places.sizes, gates.device)
        if own.routing == "experts":
            return route_experts(gates, room, places.group, places.among)
        return route(gates, own.k, room, own.priority, places.group, bias, places.among)

    def _room(self, sizes: tuple[int, ...] | list[int], device: torch.device) -> int | Tensor:
        own = self.settings
        k = own.k if own.routing == "tokens" else 1
        each = [
            slots(size, k, own.capacity_factor, own.experts, own.rounding, own.multiple_of)
            for size in sizes
        ]
        return each[0] if len(each) == 1 else torch.tensor(each, device=device)


def sum_rows(routing: Routing, places: Places, settings: ExpertSettings) -> dict[str, Tensor]:
    """Sum what is said of each token over its sequence, (sequences, columns) each.

    The names are those of `medmcl.core.router_stats.RouterSums`.
    """
    clean = routing.logits.softmax(-1)
    routed = clean if routing.noisy is None else routing.noisy.softmax(-1)
    liked = routed if routing.bias is None else routed + routing.bias
    first = functional.one_hot(liked.argmax(-1), settings.experts)
    columns = {
        "gates": clean,
        "routed": routed,
        "first": first.to(clean.dtype),
        "entropy": entropy(clean)[:, None],
        "z": z_squared(routing.logits)[:, None],
        "kept": routing.dispatch.kept[:, None].to(clean.dtype),
        "tokens": torch.ones_like(clean[:, :1]),
    }
    if routing.noisy is not None:
        columns["load"] = load_probability(
            routing.logits, routing.noisy, settings.noise_std, settings.k
        )
    side = torch.cat(list(columns.values()), 1)
    sums = side.new_zeros(places.sequences, side.shape[1]).index_add(0, places.sequence, side)
    widths = [column.shape[1] for column in columns.values()]
    return dict(zip(columns, sums.split(widths, 1), strict=True))
