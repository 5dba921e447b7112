"""Transformers over the tokens of a text; token 0 is padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import InputShape
from medmcl.core.layers import EPSILON, Block, masked_mean, require_heads, sincos_1d
from medmcl.encoders.encoded import Encoded, EncoderModule, require_words, unmaskable
from medmcl.encoders.settings import ClipTextSettings, TextTransformerSettings

PADDING = 0


class TextTransformer(EncoderModule):
    """Token embeddings, positions, pre-norm blocks; nobody attends to padding."""

    Settings = TextTransformerSettings
    takes_cut_rows = True

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: TextTransformerSettings) -> None:
        super().__init__()
        length = require_words(shape, "text_transformer")
        self.width, self.pool = settings.width, settings.pool
        self.embed = nn.Embedding(shape.vocabulary, self.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        positions = sincos_1d(length, self.width, "cpu") * 0.02
        self.positions = nn.Parameter(positions)
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(self.width, settings.heads, settings.mlp_ratio, settings.drop_path)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPSILON)
        self.grid: tuple[int, ...] = (length,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers (B, T) int64; tokens of padding are zero."""
        unmaskable(mask, "text_transformer")
        padding = x == PADDING
        tokens = self.dropout(self.embed(x) + self.positions[: x.shape[1]])
        for block in self.blocks:
            tokens = block(tokens, padding)
        pooled = tokens[:, 0] if self.pool == "cls" else masked_mean(tokens, padding)
        shown = torch.where(padding[..., None], 0.0, self.norm(tokens))
        return Encoded(features=self.norm(pooled), tokens=shown, padding=padding)


def quick_gelu(x: Tensor) -> Tensor:
    """Give x sigmoid(1.702 x), an approximation of GELU; OpenAI's towers were trained with it."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "quick_gelu": quick_gelu,
}


class ClipText(EncoderModule):
    """Token embeddings, learned positions, causal pre-norm blocks, the norm of the end token.

    The projection (CLIP's ``text_projection``) is the tower's head: ``layers: 1, bias: false``.

    Source:
        Radford et al. 2021, arXiv 2103.00020, sections 2.4 and 2.5, as the code of OpenAI and
        open_clip has it. Differs: 0 is padding, so CLIP's token n is number n + 1 here; the end
        token is the last that is not padding (theirs: the first of the highest number).
    """

    Settings = ClipTextSettings
    takes_cut_rows = True

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: ClipTextSettings) -> None:
        super().__init__()
        length = require_words(shape, "clip_text")
        require_heads(settings.width, settings.heads)
        self.width = settings.width
        self.embed = nn.Embedding(shape.vocabulary, self.width, padding_idx=PADDING)
        self.positions = nn.Parameter(torch.empty(length, self.width, device="cpu"))
        layers = [
            nn.TransformerEncoderLayer(
                self.width,
                settings.heads,
                int(self.width * settings.mlp_ratio),
                dropout=0.0,
                activation=ACTIVATIONS[settings.activation],
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.depth)
        ]
        self.blocks = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(self.width)
        self._start(layers)
        self.grid: tuple[int, ...] = (length,)

    def _start(self, layers: list[nn.TransformerEncoderLayer]) -> None:
        """Set first weights as OpenAI's code does."""
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.zeros_(self.embed.weight.data[PADDING])
        nn.init.normal_(self.positions, std=0.01)
        narrow = self.width**-0.5
        into_residual = narrow * (2 * len(layers)) ** -0.5
        for block in layers:
            nn.init.normal_(block.self_attn.in_proj_weight, std=narrow)
            nn.init.normal_(block.self_attn.out_proj.weight, std=into_residual)
            nn.init.normal_(block.linear1.weight, std=(2 * self.width) ** -0.5)
            nn.init.normal_(block.linear2.weight, std=into_residual)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers (B, T) int64; tokens of padding are zero."""
        unmaskable(mask, "clip_text")
        length = x.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        tokens = self.embed(x) + self.positions[:length]
        for block in self.blocks:
            tokens = block(tokens, src_mask=later)
        tokens = self.norm(tokens)
        padding = x == PADDING
        places = torch.arange(length, device=x.device)
        end = torch.where(padding, 0, places).amax(1)
        features = tokens[torch.arange(len(x), device=x.device), end]
        shown = torch.where(padding[..., None], 0.0, tokens)
        return Encoded(features=features, tokens=shown, padding=padding)
