"""Net1D, the residual network of ECGFounder: grouped convolutions and squeeze-excitation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config


class SameConv(nn.Module):
    """A convolution that gives ceil(S / stride) samples: zeros at both ends, the odd one last."""

    def __init__(
        self, width: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, out, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, S)."""
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        pad = max(0, (-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1])
        out: Tensor = self.conv(functional.pad(x, (pad // 2, pad - pad // 2)))
        return out


class Block(nn.Module):
    """1 x 1, grouped and 1 x 1 convolutions, squeeze-excitation, and what came in."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, first: bool) -> None:
        super().__init__()
        self.first, self.stride, self.wider = first, stride, out - width
        self.conv1 = SameConv(width, out)
        self.conv2 = SameConv(out, out, kernel, stride, groups=out // GROUP_WIDTH)
        self.conv3 = SameConv(out, out)
        self.se_fc1 = nn.Linear(out, out // 2)
        self.se_fc2 = nn.Linear(out // 2, out)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, out, ceil(S / stride))."""
        h = self.conv1(x if self.first else functional.silu(x))
        h = self.conv3(functional.silu(self.conv2(functional.silu(h))))
        squeezed = functional.silu(self.se_fc1(h.mean(-1)))
        h = h * torch.sigmoid(self.se_fc2(squeezed))[..., None]
        if self.stride > 1:  # the zero at the end counts where the length is odd
            x = functional.max_pool1d(functional.pad(x, (0, self.stride - 1)), self.stride)
        if self.wider:
            x = functional.pad(x, (0, 0, self.wider // 2, self.wider - self.wider // 2))
        return h + x


class Stage(nn.Module):
    """Blocks of one width; the first halves the time."""

    def __init__(self, width: int, out: int, kernel: int, blocks: int, first: bool) -> None:
        super().__init__()
        self.block_list = nn.ModuleList(
            Block(out if n else width, out, kernel, 1 if n else 2, first and n == 0)
            for n in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, out, ceil(S / 2))."""
        for block in self.block_list:
            x = block(x)
        return x


GROUP_WIDTH = 16
"""Channels of a group of the middle convolutions."""


class Net1DSettings(Config):
    """Sizes; those of the released files."""

    leads: int = 12
    base: int = 64
    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)
    blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)
    kernel: int = 16


class Net1D(nn.Module):
    """ECGFounder without its 150-class head.

    Source:
        Li et al. 2025, NEJM AI; PKUDigitalHealth/ECGFounder@04edac7. Differs: the batch norms that
        its files hold are not built; the authors' settings never read them.
    """

    Settings = Net1DSettings

    def __init__(
        self,
        leads: int,
        base: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        kernel: int,
    ) -> None:
        super().__init__()
        self.width = widths[-1]
        self.first_conv = SameConv(leads, base, kernel, 2)
        sizes = pairwise((base, *widths))
        self.stage_list = nn.ModuleList(
            Stage(width, out, kernel, blocks[n], first=n == 0)
            for n, (width, out) in enumerate(sizes)
        )

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG004  (as `ToldByFile`)
        """Whether the file is of 12 leads or of one."""
        kernel = state.get("first_conv.conv.weight")
        leads = kernel.shape[1] if kernel is not None and kernel.ndim == 3 else None
        return {"leads": leads} if leads in (1, 12) else {}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Give ``features`` (B, 1024) and ``tokens`` (B, T, 1024) of signals (B, L, S)."""
        x = functional.silu(self.first_conv(x))
        for stage in self.stage_list:
            x = stage(x)
        return {"features": x.mean(-1), "tokens": x.transpose(1, 2)}
