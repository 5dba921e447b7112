"""The transformer block of ViTs that name its parts ``attn.fn.to_qkv`` and ``ff.fn.net``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.layers import require_heads

EPSILON = 1e-5
"""Of every LayerNorm of these networks; 1e-6 elsewhere in medmcl."""


def refuse_shape(x: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse records (B, ...) of another shape, which would be read as if they had this one.

    Raises:
        RuntimeError: They have.
    """
    if tuple(x.shape[1:]) != expected:
        raise RuntimeError(f"shape {tuple(x.shape[1:])} is not {expected}")


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        rows, tokens, width = x.shape
        qkv = self.to_qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads)
        mixed = functional.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        out: Tensor = self.to_out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return out


class FeedForward(nn.Module):
    """Two linear layers with exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        # The authors drop out after GELU and at the end: places 2 and 4 of five.
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give (..., E)."""
        out: Tensor = self.net(x)
        return out


class NormFirst(nn.Module):
    """LayerNorm, then ``fn``."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, T, E) for (B, T, E)."""
        out: Tensor = self.fn(self.norm(x))
        return out


class NormFirstBlock(nn.Module):
    """A pre-norm transformer block.

    Source:
        Dosovitskiy et al. 2021, eq. 2-3, arXiv 2010.11929; names as in the code of MERL and ST-MEM.
        Differs: no dropout and no drop path, which their probes do not use.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = NormFirst(width, SelfAttention(width, heads))
        self.ff = NormFirst(width, FeedForward(width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        x = x + self.attn(x)
        out: Tensor = x + self.ff(x)
        return out


class NumberedBlocks(nn.Module):
    """A network whose blocks are called ``block0``, ``block1``, ... as the authors' are."""

    depth: int

    def add_blocks(self, depth: int, width: int, heads: int) -> None:
        """Add blocks, whose hidden layers are 4 E wide, behind the modules that are there."""
        self.depth = depth
        for number in range(depth):
            self.add_module(f"block{number}", NormFirstBlock(width, heads, 4 * width))

    def through_blocks(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) after all blocks."""
        for number in range(self.depth):
            x = self.get_submodule(f"block{number}")(x)
        return x


def drawn_on() -> str:
    """Where first values are made: on the CPU, so that they are the same beside any accelerator.

    On ``meta``, in no memory, while only shapes are asked for: a file may say any size.
    """
    return "meta" if torch.get_default_device().type == "meta" else "cpu"


def learned(*shape: int) -> nn.Parameter:
    """A learned token or position with first values, N(0, 0.02)."""
    value = nn.Parameter(torch.empty(shape, device=drawn_on()))
    nn.init.normal_(value, std=0.02)
    return value
