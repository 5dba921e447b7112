"""Linear layers in float32 on a CPU by oneDNN: on CPUs that are not Intel's faster than MKL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medmcl.core.errors import ConfigError


class _Linear(torch.autograd.Function):
    """x W' + b of rows (N, in), forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        return (
            _product(grad, weight.t()) if to_x else None,
            _product(grad.t(), x.t()) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


def linear_by_onednn(model: nn.Module) -> int:
    """Let linear layers compute by oneDNN where rows are float32 and on a CPU; give how many.

    Torch takes MKL otherwise; on an AMD EPYC oneDNN took half its time for products of matrices
    (a step: `benchmarks/engine/steps.md`). Numbers are equal within float error.

    Args:
        model: What trains; in place, names of weights stay.

    Raises:
        ConfigError: This torch was built without oneDNN.
    """
    require_onednn()
    found: list[nn.Module] = [one for one in model.modules() if type(one) is nn.Linear]
    for one in found:
        one.forward = partial(_forward, one, one.forward)
    return len(found)


def require_onednn() -> None:
    """Refuse a torch without it, as `linear_by_onednn` does."""
    if not torch.backends.mkldnn.is_available():
        raise ConfigError(
            "this torch has no oneDNN", where="onednn", fix="leave onednn out, or set it to false"
        )


def _forward(layer: nn.Module, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    narrow = torch.is_autocast_enabled("cpu")
    if torch.compiler.is_compiling():  # inductor chooses its own kernels, and has none for this
        return plain(x)
    if narrow or x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
        return plain(x)
    rows = x.reshape(-1, x.shape[-1])
    out: Tensor = _Linear.apply(rows, layer.weight, layer.bias)
    return out.reshape(*x.shape[:-1], out.shape[-1])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
