"""Low-rank adapters: what a frozen layer learns besides, a product of two thin ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.errors import ConfigError
from medmcl.encoders.settings import LoRASettings

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


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


class LowRankConvolution(nn.Module):
    """Adds (alpha / rank) B A x to what a convolution gives; B starts at zero.

    A is a convolution as the layer's (kernel, stride, padding, groups) to ``rank`` channels, B one
    of kernel 1 from them. So the layer with the adapter is the layer of the weights W + (alpha /
    rank) B A. A layer of several groups has A and B of as many, each of that rank.

    Source:
        Hu et al. 2022, arXiv 2106.09685, of linear layers; the library PEFT makes two convolutions
        likewise of a layer of one group.
    """

    def __init__(self, layer: Convolution, settings: LoRASettings) -> None:
        super().__init__()
        groups = layer.groups
        inward, outward = layer.in_channels // groups, layer.out_channels // groups
        rank = min(settings.rank, inward * math.prod(layer.kernel_size), outward)
        kind = type(layer)
        self.a = kind(
            layer.in_channels,
            groups * rank,
            layer.kernel_size,  # type: ignore[arg-type]  # of its own kind
            layer.stride,  # type: ignore[arg-type]  # the same
            layer.padding,  # type: ignore[arg-type]  # the same
            layer.dilation,  # type: ignore[arg-type]  # the same
            groups,
            bias=False,
            padding_mode=layer.padding_mode,
            device="cpu",
        )
        self.b = kind(groups * rank, layer.out_channels, 1, groups=groups, bias=False, device="cpu")
        nn.init.zeros_(self.b.weight)
        self.scale = settings.alpha / rank
        layer.register_forward_hook(self.add)

    def add(self, layer: nn.Module, given: tuple[Tensor], found: Tensor) -> Tensor:  # noqa: ARG002  (a hook)
        """Give what the layer found of ``given``, and the rest."""
        rest: Tensor = self.b(self.a(given[0]))
        return found + self.scale * rest


def low_rank(encoder: nn.Module, settings: LoRASettings) -> nn.ModuleList:
    """Hang adapters on the layers of an encoder, in the order of its modules.

    On its linear layers; where convolutions hold more weights than these, on convolutions, too.
    So the patches of a vision transformer have none, and a ResNet has them throughout. Layers of
    a subclass, which may be called otherwise, are left alone.

    Raises:
        ConfigError: It has neither.
    """
    hung: list[LowRank | LowRankConvolution] = []
    held: dict[type[nn.Module], int] = dict.fromkeys((nn.Linear, *CONVOLUTIONS), 0)
    for layer in encoder.modules():
        if type(layer) in held:
            held[type(layer)] += sum(one.numel() for one in layer.parameters())
    takes_all = 2 * held[nn.Linear] < sum(held.values())
    for layer in encoder.modules():
        if type(layer) is nn.Linear:
            hung.append(LowRank(layer, settings))
        elif takes_all and type(layer) in CONVOLUTIONS and isinstance(layer, CONVOLUTIONS):
            hung.append(LowRankConvolution(layer, settings))
    if not hung:
        raise ConfigError(
            "the encoder has no linear layers or convolutions to adapt",
            where="lora",
            got=type(encoder).__name__,
            fix="leave lora out, and train the last layers: trainable_layers: 2",
        )
    return nn.ModuleList(hung)
