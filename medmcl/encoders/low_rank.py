"""Low-rank adapters: what a frozen linear layer learns besides, a product of two thin matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.errors import ConfigError
from medmcl.encoders.settings import LoRASettings


class LowRank(nn.Module):
    """Adds (alpha / rank) B A x to what a linear layer gives; B starts at zero.

    It hangs on the layer and is no part of it: names and weights of the encoder stay as they are,
    so that a file of weights fits with it and without.

    Source:
        Hu et al. 2022, arXiv 2106.09685. Differs: no dropout; all linear layers of an encoder but
        the outward ones of `torch.nn.MultiheadAttention`, which are not called.
    """

    def __init__(self, layer: nn.Linear, settings: LoRASettings) -> None:
        super().__init__()
        rank = min(settings.rank, layer.in_features, layer.out_features)
        self.a = nn.Parameter(torch.empty(rank, layer.in_features, device="cpu"))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, device="cpu"))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.scale = settings.alpha / rank
        layer.register_forward_hook(self.add)

    def add(self, layer: nn.Module, given: tuple[Tensor], found: Tensor) -> Tensor:  # noqa: ARG002  (a hook)
        """Give what the layer found of ``given``, and the rest."""
        thin = functional.linear(given[0], self.a)
        return found + self.scale * functional.linear(thin, self.b)


def low_rank(encoder: nn.Module, settings: LoRASettings) -> nn.ModuleList:
    """Hang adapters on the linear layers of an encoder, in the order of its modules.

    Raises:
        ConfigError: It has none.
    """
    layers = [one for one in encoder.modules() if type(one) is nn.Linear]
    if not layers:
        raise ConfigError(
            "the encoder has no linear layers to adapt",
            where="lora",
            got=type(encoder).__name__,
            fix="leave lora out, and train the last layers: trainable_layers: 2",
        )
    return nn.ModuleList(LowRank(one, settings) for one in layers)
