"""Losses of a router: balance over all tokens, and entropies modality by modality.

Lower is better in each. Gates are softmax over all experts, (tokens, experts), and are not
normalised again after the choice of K. Standard deviations are those of a population. What is not
finite gives a loss that is not finite, never a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core import router_stats as core
from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.router_stats import RouterSums
from medmcl.objectives.settings import RouterBalanceSettings


def importance(gates: Tensor) -> Tensor:
    """Squared coefficient of variation of the experts' summed gates: 0 = all alike.

    (std(I) / mean(I))^2 with I_e = sum over tokens of g_e.

    Source:
        Shazeer et al. 2017, arXiv 1701.06538, eq. 6-7; gates without noise as in Riquelme et al.
        2021. Differs: none.
    """
    return _variation(_tokens(gates).sum(0))


def load(logits: Tensor, noisy_logits: Tensor, noise_std: float, k: int) -> Tensor:
    """Squared coefficient of variation of how many tokens each expert may expect: 0 = all alike.

    With p_ie = Phi((l_ie - t_i) / sigma), where l are logits without noise and t_i is the K-th
    largest noisy logit of token i: (std / mean)^2 of the mean of p_ie over tokens.

    Source:
        Shazeer et al. 2017, arXiv 1701.06538, eq. 8-11, as Riquelme et al. 2021 use it. Differs:
        none.

    Args:
        logits: Without noise, (N, E).
        noisy_logits: With noise, (N, E).
        noise_std: sigma itself, above 0: without noise the loss has no gradient.
        k: Experts a token, 1 to E.

    Raises:
        MedmclError: Shapes differ, sigma is not above 0, or K is not in 1 to E.
    """
    if logits.shape != noisy_logits.shape:
        raise MedmclError(
            "logits with and without noise must have one shape",
            got=f"{tuple(logits.shape)} and {tuple(noisy_logits.shape)}",
        )
    if not 0 < noise_std < math.inf or not 1 <= k <= _tokens(logits).shape[1]:
        raise MedmclError(
            "the load is not defined",
            got=f"sigma {noise_std}, k {k}, {logits.shape[1]} experts",
            expected="sigma above 0, and k from 1 to the number of experts",
        )
    found = core.load_probability(logits, noisy_logits, float(noise_std), k)
    return _variation(found.mean(0))


def gshard(gates: Tensor) -> Tensor:
    """E * sum over experts of f_e * P_e: 1 = balanced, at most E.

    f_e is the share of tokens whose largest gate is of expert e (without gradient), P_e the mean
    gate.

    Source:
        Lepikhin et al. 2021, arXiv 2006.16668; scaled as in Fedus et al. 2022, arXiv 2101.03961,
        eq. 4. Differs: none.
    """
    first = nn.functional.one_hot(_tokens(gates).argmax(-1), gates.shape[1]).to(gates.dtype)
    return _switch(first.sum(0), gates.sum(0), torch.full_like(gates[0, 0], len(gates)))


def z_loss(logits: Tensor) -> Tensor:
    """Mean over tokens of (log sum_e exp l_e)^2: keeps logits small.

    Source:
        Zoph et al. 2022 (ST-MoE), arXiv 2202.08906, eq. 5. Differs: none.
    """
    return core.z_squared(_tokens(logits)).mean()


def local_entropy(gates: Tensor) -> Tensor:
    """Mean over tokens of the entropy of their gates, in nats: 0 = each token is sure.

    Source:
        Mustafa et al. 2022, arXiv 2206.02770, section 2.2. Differs: none.

    Args:
        gates: Of the tokens of one modality, (N, E).
    """
    return core.entropy(_tokens(gates)).mean()


def global_entropy(gates: Tensor, threshold: float | None) -> Tensor:
    """max(0, threshold - H(mean gates)), in nats: 0 = the modality uses enough experts.

    A threshold of log S asks for at least S experts, softly: nothing is charged once the entropy of
    the mean gates has reached it.

    Source:
        Mustafa et al. 2022, arXiv 2206.02770, section 2.2 and appendix A. Differs: none.

    Args:
        gates: Of the tokens of one modality, (N, E).
        threshold: tau. Above log E it cannot be reached: something is always charged. None charges
            -H(mean gates), without a bound.
    """
    least = None if threshold is None else float(threshold)
    return _global(_tokens(gates).mean(0), least)


class RouterBalance(nn.Module):
    """Charges for what the routers of all layers did, over the tokens of the global batch.

    The balance losses are over the tokens of all modalities together, entropies over those of one.
    Each term is the mean over the layers, and the loss the mean of all terms that are switched on:
    give the objective a weight of about 0.04. A modality without tokens in a batch is left out; so
    is the load where there is no noise (at evaluation). Their share is then not given to the
    others.

    Source:
        Mustafa et al. 2022, arXiv 2206.02770; importance and load: Riquelme et al. 2021, arXiv
        2106.05974. Differs: whether layers are summed or averaged could not be verified, so
        ``over_layers`` says it; thresholds for other numbers of experts keep the paper's ratio.
    """

    Settings = RouterBalanceSettings

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("stats",)

    def __init__(self, settings: RouterBalanceSettings, shape: ModelShape) -> None:
        super().__init__()
        self.settings = settings
        self.modalities = tuple(shape.inputs)
        settings.refuse_unfit(self.modalities, shape.experts)
        text = {name for name, one in shape.inputs.items() if one.is_text}
        local = settings.local if settings.local is not None else tuple(sorted(text))
        self.local = local
        asked = settings.min_experts
        self.least: dict[str, float | None] = dict(asked or {})
        self.shares: dict[str, float] = {}
        if asked is None:
            self.shares = {n: (9 if n in text else 20) / 32 for n in self.modalities}
        self.views: tuple[str, ...] = (settings.view,)
        classic = ("importance", "load", "z", "gshard")
        self.terms: tuple[str, ...] = (
            *(f"router/{name}" for name in classic if getattr(settings, name)),
            *(f"router/local/{name}" for name in self.local),
            *(f"router/global/{name}" for name in (self.least or self.shares)),
        )
        if not self.terms:
            raise ConfigError("nothing is charged", where="objective 'router'")

    def forward(self, seen: Mapping[str, Embeddings], _: Batch) -> dict[str, Term]:
        """Give a term for each loss that is switched on and has tokens."""
        embeddings = seen[self.settings.view]
        found = {name: RouterSums.read(embeddings.stats, name) for name in self.modalities}
        sums = {
            name: _over_rows(one, embeddings.batch.rows(name))
            for name, one in found.items()
            if one is not None
        }
        if not sums:
            raise ConfigError(
                f"the view '{self.settings.view}' shows no router",
                where="objective 'router'",
                fix="use a shared tower with experts, or leave the objective out",
            )
        tokens = host.read(torch.stack([one.tokens for one in sums.values()]))
        known = dict(zip(sums, tokens, strict=True))  # (L, 1) of each
        counted = {name: one for name, one in sums.items() if known[name].sum()}
        if not counted:
            return {}
        every = sum(known.values()).max()
        balance = self._balance(_together(list(counted.values())))
        terms = {name: self._term(value, every) for name, value in balance.items()}
        for name in self.local:
            if name in counted:
                value = (counted[name].entropy / counted[name].tokens)[:, 0]
                terms[f"router/local/{name}"] = self._term(value, known[name].max())
        for name in self.least or self.shares:
            if name in counted:
                value = self._global(name, counted[name])
                terms[f"router/global/{name}"] = self._term(value, known[name].max())
        return terms

    def _balance(self, every: RouterSums) -> dict[str, Tensor]:
        made: dict[str, Callable[[], Tensor | None]] = {
            "importance": lambda: _variation(every.gates),
            "load": lambda: None if every.load is None else _variation(every.load),
            "z": lambda: (every.z / every.tokens)[:, 0],
            "gshard": lambda: _switch(every.first, every.routed, every.tokens),
        }
        on = {name: make() for name, make in made.items() if getattr(self.settings, name)}
        return {f"router/{name}": x for name, x in on.items() if x is not None}

    def _global(self, name: str, one: RouterSums) -> Tensor:
        experts = one.gates.shape[-1]
        least = self.least.get(name) if self.least else max(1.0, self.shares[name] * experts)
        return _global(one.gates / one.tokens, None if least is None else math.log(least))

    def _term(self, layers: Tensor, tokens: float) -> Term:
        value = layers.mean() if self.settings.over_layers == "mean" else layers.sum()
        return Term(value, int(tokens), 1 / len(self.terms))


def _tokens(x: Tensor) -> Tensor:
    """Refuse what is not (tokens, experts)."""
    if x.ndim != 2 or not x.is_floating_point() or 0 in x.shape:
        raise MedmclError(
            "router losses need a matrix of floating-point numbers with at least one token",
            got=f"{tuple(x.shape)} {x.dtype}",
            expected="(tokens, experts)",
            fix="leave the term out where a modality has no tokens",
        )
    return x


def _variation(sums: Tensor) -> Tensor:
    """(std / mean)^2 over the last axis."""
    return sums.var(-1, correction=0) / sums.mean(-1).square()


def _switch(first: Tensor, gates: Tensor, tokens: Tensor) -> Tensor:
    """E * sum of (share of first choices * mean gate) over the last axis."""
    products = (first.detach() * gates).sum(-1)
    return gates.shape[-1] * products / tokens.reshape(products.shape).square()


def _global(mean: Tensor, threshold: float | None) -> Tensor:
    """Hinge of the entropy of mean gates (..., E)."""
    if threshold is None:
        return -core.entropy(mean)
    return (threshold - core.entropy(mean)).clamp(min=0)


def _over_rows(one: RouterSums, rows: Tensor) -> RouterSums:
    """Sums over the rows of a batch that are present, (L, ...)."""
    named = {field: getattr(one, field) for field in core.FIELDS}
    return RouterSums.of({f: None if x is None else x[rows].sum(0) for f, x in named.items()})


def _together(parts: list[RouterSums]) -> RouterSums:
    """Sums over modalities."""
    named = {field: [getattr(one, field) for one in parts] for field in core.FIELDS}
    return RouterSums.of(
        {f: None if xs[0] is None else torch.stack(xs).sum(0) for f, xs in named.items()}
    )
