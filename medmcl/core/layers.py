"""Layers that encoders and decoders share: transformer block, sine-cosine positions, pooling.

Dropout and drop path draw from torch's own generator, which the engine seeds anew at every step.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.errors import ConfigError

EPSILON = 1e-6
"""Of every LayerNorm in a transformer; Dosovitskiy et al. 2021, and so He et al. 2022."""


class DropPath(nn.Module):
    """Leaves out a residual branch for a whole row, with probability ``rate``, when training.

    Source:
        Huang et al. 2016, arXiv 1603.09382. Differs: kept branches are scaled up when training,
        so that nothing changes in evaluation.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError("drop_path lies in [0, 1)", got=rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Give ``x`` (B, ...) with some rows zeroed and the others scaled."""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        kept = x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(keep)
        return x * (kept / keep)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias)
        self.proj = nn.Linear(width, width, bias)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend within each row.

        Args:
            x: Tokens, (B, T, E).
            padding: (B, T) bool, True = nobody attends to this token.
        """
        rows, tokens, width = x.shape
        qkv = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        allowed = None if padding is None else attendable(padding)[:, None, None, :]
        mixed = attend(query, key, value, allowed)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return out


def attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
    """Mix values by the softmax of scaled products, (B, H, T, D).

    ``allowed`` is true where a key is heard, some for each query.
    In bfloat16 on a CPU by products of matrices: torch's kernel is slower there in the backward
    pass, up to twice. It holds (B, H, T, T) numbers then.
    """
    narrow = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not (narrow and torch.is_grad_enabled()):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1, dtype=scores.dtype) @ value


class MLP(nn.Module):
    """Two linear layers with GELU between them: exact, or (``approximate``) in its tanh form."""

    def __init__(
        self,
        width: int,
        hidden: int,
        approximate: Literal["none", "tanh"] = "none",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = nn.Linear(width, hidden, bias)
        self.fc2 = nn.Linear(hidden, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give (..., E)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate=self.approximate))
        return out


class Block(nn.Module):
    """A pre-norm transformer block; parameters are named as in timm's ViT.

    Source:
        Dosovitskiy et al. 2021, eq. 2-3, arXiv 2010.11929. Differs: none; linear layers start
        Xavier-uniform with zero bias, as in He et al. 2022.

    Args:
        width: E, a multiple of ``heads``.
        heads: Attention heads.
        mlp_ratio: Width of the hidden layer over E.
        drop_path: Probability that a branch is left out for a row, when training.
        bias: Whether linear layers and norms have one.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON, bias=bias)
        self.attn = Attention(width, heads, bias)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON, bias=bias)
        self.mlp = MLP(width, int(width * mlp_ratio), bias=bias)
        self.drop_path = DropPath(drop_path)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                start_linear(module)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E); ``padding`` (B, T) bool, True = ignored."""
        x = x + self.drop_path(self.attn(self.norm1(x), padding))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class AttentionPool(nn.Module):
    """Pools tokens by attention; the query is their mean, keys and values are the tokens.

    Source:
        Fine-tuning of Turgut et al. 2025, arXiv 2308.05764. Differs: padding is left out of the
        mean and of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """Give (B, E) for tokens (B, T, E); ``padding`` (B, T) bool, True = ignored."""
        query = masked_mean(tokens, padding)[:, None]
        ignored = None if padding is None else ~attendable(padding)
        if ignored is not None:
            tokens = tokens.masked_fill(ignored[..., None], 0)
        pooled, _ = self.attention(
            query, tokens, tokens, key_padding_mask=ignored, need_weights=False
        )
        out: Tensor = self.norm(pooled[:, 0])
        return out


class ProbePool(nn.Module):
    """Pools tokens by attention of one learned probe, then y + MLP(LayerNorm(y)): MAP pooling.

    Source:
        Zhai et al. 2022, arXiv 2106.04560, as the code of V-MoE has it. Differs: padding is left
        out of the attention.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.probe = nn.Parameter(nn.Linear(width, 1).weight.detach()[None])
        nn.init.xavier_uniform_(self.probe[0].data)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = MLP(width, hidden, approximate="tanh")
        start_linear(self.mlp.fc1)
        start_linear(self.mlp.fc2)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """Give (B, E) for tokens (B, T, E); ``padding`` (B, T) bool, True = ignored."""
        query = self.probe.expand(len(tokens), -1, -1)
        ignored = None if padding is None else ~attendable(padding)
        pooled, _ = self.attention(
            query, tokens, tokens, key_padding_mask=ignored, need_weights=False
        )
        pooled = pooled[:, 0]
        out: Tensor = pooled + self.mlp(self.norm(pooled))
        return out


def masked_mean(tokens: Tensor, padding: Tensor | None) -> Tensor:
    """Give the mean over the tokens that are not padding, (B, E); zero where all are."""
    if padding is None:
        return tokens.mean(1)
    real = (~padding)[..., None]
    return tokens.masked_fill(~real, 0).sum(1) / real.sum(1).clamp(min=1).to(tokens.dtype)


def attendable(padding: Tensor) -> Tensor:
    """Turn padding (B, T) into what may be attended to; all of it in a row of nothing else.

    A row of padding only means nothing, but its softmax must stay finite for gradients' sake.
    """
    return ~padding | padding.all(1, keepdim=True)


def sincos_1d(length: int, width: int, device: torch.device | str) -> Tensor:
    """Give fixed sine-cosine positions, (length, width) float32; sines first.

    Source:
        Vaswani et al. 2017, section 3.5; arranged as in He et al. 2022. Differs: none.
    """
    if width % 2:
        raise ConfigError("positions need an even width", got=width)
    place = torch.arange(length, dtype=torch.float64, device="cpu")
    order = torch.arange(width // 2, dtype=torch.float64, device="cpu")
    angle = place[:, None] / 10000.0 ** (order / (width / 2))
    return torch.cat([angle.sin(), angle.cos()], 1).to(device=device, dtype=torch.float32)


def sincos_2d(rows: int, cols: int, width: int, device: torch.device | str) -> Tensor:
    """Give fixed positions on a grid, (rows * cols, width) float32, row after row.

    The first half of a position codes the column, the second half the row.

    Source:
        He et al. 2022, arXiv 2111.06377, as its code arranges it. Differs: none.
    """
    if width % 4:
        raise ConfigError("positions on a grid need a width that is a multiple of 4", got=width)
    across = sincos_1d(cols, width // 2, device).repeat(rows, 1)
    down = sincos_1d(rows, width // 2, device).repeat_interleave(cols, 0)
    return torch.cat([across, down], 1)


def start_linear(layer: nn.Linear) -> None:
    """Set first weights: Xavier-uniform, zero bias."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def require_heads(width: int, heads: int) -> None:
    """Refuse a width that the heads cannot share."""
    if heads < 1 or width % heads:
        raise ConfigError(
            "the width must be a multiple of the number of heads",
            got=f"width {width}, {heads} heads",
        )


def zero_absent(x: Tensor) -> Tensor:
    """Zero values, x[:, 0], whose flags, x[:, 1], say that they are absent, whatever stands there.

    Args:
        x: (B, 2, F).
    """
    flags = (x[:, 1] > 0).float()
    values = torch.where(flags > 0, x[:, 0].float(), torch.zeros_like(flags))
    return torch.stack([values, flags], dim=1)


def widen(x: Tensor) -> Tensor:
    """Turn half precision to float32; leave float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
