"""A layer of experts in float64, tokens in one group, and the rule of dispatch token by token."""

from collections import Counter

import torch
from torch import nn

from medmcl.encoders.shared.moe import MoE, Places
from medmcl.encoders.shared.settings import ExpertSettings


def random(*size, seed=0, dtype=torch.float64):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=dtype, device="cpu")


def one_group(tokens):
    every = torch.arange(tokens, device="cpu")
    return Places(real=every, sequence=every * 0, sequences=1, group=None, sizes=(tokens,))


def layer(width=6, hidden=10, seed=0, **settings):
    """Four experts without noise, of which each has room for its share of the tokens."""
    torch.manual_seed(seed)
    own = ExpertSettings(**{"experts": 4, "noise": 0.0, "capacity_factor": 1.0} | settings)
    made = MoE(width, hidden, own).double()
    nn.init.normal_(made.router.weight)
    for bias in (made.mlps.bias1, made.mlps.bias2):
        nn.init.normal_(bias)
    return made


def by_rule(gates, k, capacity, priority, group=None, bias=0.0):
    """Give (token, expert) to slot, and how often each expert of the first group was asked."""
    experts, liked = range(gates.shape[1]), gates + bias
    chosen = [sorted(experts, key=lambda e, row=row: (-row[e].item(), e))[:k] for row in liked]
    tokens = list(range(len(gates)))
    if priority:
        tokens.sort(key=lambda token: -gates[token, chosen[token][0]].item())
    asked, taken = Counter(), {}
    for choice in range(k):
        for token in tokens:
            expert = chosen[token][choice]
            place = expert, 0 if group is None else int(group[token])
            if capacity is None or asked[place] < capacity:
                taken[token, expert] = asked[place]
            asked[place] += 1
    return taken, [asked[expert, 0] for expert in experts]


def assert_same_gradients(found, wanted, given):
    """A weighted sum of both has the same gradient, which is not 0, of everything that is given."""
    weights = random(*found.shape, seed=5)
    pair = [torch.autograd.grad((y * weights).sum(), given) for y in (found, wanted)]
    for one, other in zip(*pair, strict=True):
        torch.testing.assert_close(one, other)
        assert other.any()
