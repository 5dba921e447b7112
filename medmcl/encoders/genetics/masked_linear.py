"""A linear layer most of whose weights are zero by design: only linked units have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.errors import ArtefactError

_AT_ONCE = 2**22
"""Products of a gradient that are held at once."""


class MaskedLinear(nn.Module):
    """y = (M * W) x + b, where M says which units are linked; only the weights of links are kept.

    With ``channels`` c each unit on the right has c numbers. If units on the left have c numbers
    too (``is_deep``), channel k of the right reads channel k of the left.

    Args:
        pairs: Linked (left, right) units, each once. (E, 2) int64
        left: Number of units on the left.
        right: Number of units on the right.
        channels: c.
        is_deep: Whether the left has c numbers a unit.
    """

    def __init__(
        self, pairs: Tensor, left: int, right: int, channels: int = 1, *, is_deep: bool = False
    ) -> None:
        super().__init__()
        channel = torch.arange(channels, device="cpu")
        source = pairs[:, :1].expand(-1, channels)
        if is_deep:
            source = source * channels + channel
        target = pairs[:, 1:] * channels + channel
        index = torch.stack([target.reshape(-1), source.reshape(-1)])
        order = (index[0] * (left * channels) + index[1]).argsort()
        self.index: Tensor
        self.register_buffer("index", index[:, order].contiguous())
        self.size = (right * channels, left * channels if is_deep else left)
        links = torch.bincount(index[0], minlength=self.size[0])[self.index[0]]
        self.weight = nn.Parameter(torch.randn(index.shape[1], device="cpu") / links.sqrt())
        self.bias = nn.Parameter(torch.zeros(self.size[0], device="cpu"))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **others: Any
    ) -> None:
        """Load weights of the same links; those of other links are refused."""
        saved = state_dict.get(f"{prefix}index")
        if saved is not None and not torch.equal(saved.to(self.index.device), self.index):
            raise ArtefactError(
                "the saved weights are of other links than the map gives",
                where=prefix.rstrip("."),
                got=f"{saved.shape[-1]:,} links saved, {self.index.shape[1]:,} in the map",
                fix="name the maps of genes and pathways that the run was trained with",
            )
        super()._load_from_state_dict(state_dict, prefix, *rest, **others)

    def dense(self) -> Tensor:
        """Give M * W, (right units x c, left units [x c])."""
        matrix = self.weight.new_zeros(self.size)
        return matrix.index_put((self.index[0], self.index[1]), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, right units x c) of (B, left units [x c]); in the precision of the weights."""
        with torch.autocast(x.device.type, enabled=False):
            product: Tensor = _Product.apply(
                self.weight, x.to(self.weight.dtype), self.index, self.size
            )
        return product + self.bias


class _Product(torch.autograd.Function):
    """x M' with a sparse M, and gradients at its links only.

    PyTorch's own gradient of a sparse product is that of the whole matrix, masked afterwards, which
    for genes and variants takes more memory than there is.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, x: Tensor, index: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Give (B, R) of x (B, L) and a matrix (R, L) with the values ``weight`` at ``index``."""
        ctx.save_for_backward(weight, x, index)
        ctx.size = size
        return torch.sparse.mm(_sparse(index, weight, size), x.T).T

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Give the gradients of weight and x."""
        weight, x, index = ctx.saved_tensors
        above, below = given[0].T.contiguous(), x.T.contiguous()
        to_weight, to_x = None, None
        if ctx.needs_input_grad[0]:
            step = max(1, _AT_ONCE // max(1, len(x)))
            parts = zip(index[0].split(step), index[1].split(step), strict=True)
            to_weight = torch.cat([(above[i] * below[j]).sum(dim=1) for i, j in parts])
        if ctx.needs_input_grad[1]:
            order = (index[1] * ctx.size[0] + index[0]).argsort()
            turned = _sparse(index.flip(0)[:, order], weight[order], ctx.size[::-1])
            to_x = torch.sparse.mm(turned, above).T
        return to_weight, to_x, None, None


def _sparse(index: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sparse_coo_tensor(
        index, values, size, device=values.device, is_coalesced=True, check_invariants=False
    )
