"""The network of wav2vec 2.0 and HuBERT, as HuBERT-ECG and ECG-FM have it.

Convolutions turn a signal into tokens, a wide convolution tells them where they are, and
transformer layers that normalise after each sum attend over them. Settings tell the models apart.
Parameters are called as in transformers' ``HubertModel``; of fairseq's files a card renames them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config
from medmcl.core.errors import ArtefactError
from medmcl.core.layers import require_heads
from medmcl.encoders.published.norm_first import drawn_on
from medmcl.encoders.published.told import plain, refuse_other, table

EPSILON = 1e-5
"""Of every normalisation; both papers keep that of torch."""


MOST = 100
"""Layers: no file is believed that says it has more."""


class Wav2VecSettings(Config):
    """Sizes; the defaults are those of HuBERT-ECG base."""

    channels: int = Field(default=1, ge=1)
    """Rows of the input: 1 where leads are laid one after another, else the leads."""
    conv_width: int = Field(default=512, ge=1)
    """Channels of each convolution."""
    kernels: tuple[int, ...] = Field(default=(10, 3, 3, 2, 2), min_length=1, max_length=MOST)
    strides: tuple[int, ...] = Field(default=(4, 2, 2, 2, 2), min_length=1, max_length=MOST)
    width: int = Field(default=768, ge=1)
    """Width of a token."""
    depth: int = Field(default=12, ge=1, le=MOST)
    """Transformer layers."""
    heads: int = Field(default=12, ge=1)
    hidden: int = Field(default=3072, ge=1)
    """Width of a layer's hidden layer."""
    position_kernel: int = Field(default=128, ge=1)
    """Tokens that the convolution for positions sees."""
    position_groups: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _match(self) -> Wav2VecSettings:
        if len(self.kernels) != len(self.strides):
            raise ValueError("kernels and strides: one of each a convolution")
        if self.width % self.position_groups:
            raise ValueError("position_groups must divide width")
        return self


CONFIGS = ("config.json", "model_config", "cfg")
"""Where files keep their sizes: transformers folders, the .pt of HuBERT-ECG, that of fairseq."""
SIZES = {
    "hidden_size": "width",
    "encoder_embed_dim": "width",
    "num_hidden_layers": "depth",
    "encoder_layers": "depth",
    "num_attention_heads": "heads",
    "encoder_attention_heads": "heads",
    "intermediate_size": "hidden",
    "encoder_ffn_embed_dim": "hidden",
    "conv_kernel": "kernels",
    "conv_stride": "strides",
    "num_conv_pos_embeddings": "position_kernel",
    "conv_pos": "position_kernel",
    "num_conv_pos_embedding_groups": "position_groups",
    "conv_pos_groups": "position_groups",
    "in_d": "channels",
}
OTHERWISE = {
    "do_stable_layer_norm": False,
    "layer_norm_first": False,
    "feat_extract_norm": "group",
    "extractor_mode": "default",
    "conv_bias": False,
    "hidden_act": "gelu",
    "activation_fn": "gelu",
    "feat_extract_activation": "gelu",
    "layer_norm_eps": EPSILON,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
}
"""What a file may say of its network, and the one value that the network here has."""


def told_by(content: Any) -> dict[str, Any]:
    """Sizes that a file says of itself, as settings.

    Raises:
        ArtefactError: It says that its network normalises, activates or begins otherwise.
    """
    found = table(content)
    config = next((said for key in CONFIGS if (said := table(found.get(key)))), {})
    config = table(config.get("model")) or config
    config = plain(config, (*SIZES, *OTHERWISE, "conv_feature_layers", "conv_dim"))
    refuse_other(config, OTHERWISE)
    sizes = {own: config[theirs] for theirs, own in SIZES.items() if theirs in config}
    if "conv_feature_layers" in config:
        layers = _layers(config["conv_feature_layers"])
        sizes |= {"kernels": [one[1] for one in layers], "strides": [one[2] for one in layers]}
        config = {**config, "conv_dim": [one[0] for one in layers]}
    if "conv_dim" in config:
        said = config["conv_dim"]
        widths = said if isinstance(said, list) else [said]
        refuse_other({"conv_dim": widths}, {"conv_dim": widths[:1] * len(widths)})
        sizes["conv_width"] = widths[0] if widths else None
    return sizes


def _layers(said: Any) -> list[tuple[int, ...]]:
    """Width, kernel and stride of each convolution, of ``[(256, 2, 2)] * 4`` as fairseq says it."""
    text = "".join(str(said).split())
    term = r"\[((?:\(\d{1,9},\d{1,9},\d{1,9}\),?)+)\](?:\*(\d\d?))?"
    if not re.fullmatch(rf"{term}(?:\+{term})*", text):
        raise ArtefactError(
            "says its convolutions in a form that is not known",
            got=f"conv_feature_layers: {said!r}"[:160],
            expected="[(WIDTH, KERNEL, STRIDE), ...], with * and + between such lists",
            fix="take a file that its authors published",
        )
    found: list[tuple[int, ...]] = []
    for layers, times in re.findall(term, text):
        each = [tuple(map(int, one.split(","))) for one in re.findall(r"\(([\d,]+)\)", layers)]
        found += each * int(times or 1)
    return found


class ConvLayer(nn.Module):
    """A convolution without bias, then a norm of each channel over time (the first only), GELU."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inward, outward, kernel, stride, bias=False)
        self.layer_norm = nn.GroupNorm(outward, outward, eps=EPSILON) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, outward, T) for (B, inward, S)."""
        return functional.gelu(self.layer_norm(self.conv(x)))


class PositionConv(nn.Module):
    """A grouped convolution over tokens; its weight is a direction times a length a position.

    Source:
        Salimans & Kingma 2016, arXiv 1602.07868, over the first two axes (wav2vec 2.0's code).
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        direction = torch.empty(width, width // groups, kernel, device=drawn_on())
        nn.init.normal_(direction, std=2 / (kernel * width) ** 0.5)
        self.weight_v = nn.Parameter(direction)
        self.weight_g = nn.Parameter(direction.norm(dim=(0, 1), keepdim=True))
        self.bias = nn.Parameter(torch.zeros(width, device=drawn_on()))
        self.kernel, self.groups = kernel, groups

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, E, T) for (B, E, T); of an even kernel the last place is cut off."""
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        out = functional.conv1d(x, weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        return out[..., : x.shape[-1]]


class Attention(nn.Module):
    """Multi-head self-attention, its four linear layers apart."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        query, key, value = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, hidden)
        self.output_dense = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give (..., E)."""
        out: Tensor = self.output_dense(functional.gelu(self.intermediate_dense(x)))
        return out


class Layer(nn.Module):
    """A transformer layer that normalises after each sum."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.layer_norm = nn.LayerNorm(width, eps=EPSILON)
        self.feed_forward = FeedForward(width, hidden)
        self.final_layer_norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        x = self.layer_norm(x + self.attention(x))
        out: Tensor = self.final_layer_norm(x + self.feed_forward(x))
        return out


class ConvStack(nn.Module):
    """The convolutions, each over the answer of the one before."""

    def __init__(self, settings: Wav2VecSettings) -> None:
        super().__init__()
        width = settings.conv_width
        inward = (settings.channels, *[width] * len(settings.kernels))
        spans = zip(inward, settings.kernels, settings.strides, strict=False)
        self.conv_layers = nn.ModuleList(
            ConvLayer(channels, width, kernel, stride, norm=number == 0)
            for number, (channels, kernel, stride) in enumerate(spans)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, width, T) for (B, C, S)."""
        for layer in self.conv_layers:
            x = layer(x)
        return x


class Projection(nn.Module):
    """A norm and a linear layer, from the width of the convolutions to that of tokens."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(inward, eps=EPSILON)
        self.projection = nn.Linear(inward, outward)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, T, outward) for (B, T, inward)."""
        out: Tensor = self.projection(self.layer_norm(x))
        return out


class PositionEmbedding(nn.Module):
    """What is added to tokens so that they know where they are."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = PositionConv(width, kernel, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, T, E) for tokens (B, T, E)."""
        return functional.gelu(self.conv(x.transpose(1, 2))).transpose(1, 2)


class Transformer(nn.Module):
    """Positions, a norm, and the layers; no norm at the end."""

    def __init__(self, settings: Wav2VecSettings) -> None:
        super().__init__()
        width = settings.width
        self.pos_conv_embed = PositionEmbedding(
            width, settings.position_kernel, settings.position_groups
        )
        self.layer_norm = nn.LayerNorm(width, eps=EPSILON)
        self.layers = nn.ModuleList(
            Layer(width, settings.heads, settings.hidden) for _ in range(settings.depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for tokens (B, T, E)."""
        x = self.layer_norm(x + self.pos_conv_embed(x))
        for layer in self.layers:
            x = layer(x)
        return x


class Wav2Vec(nn.Module):
    """Signals to tokens; features are their mean, as the authors probe them.

    Source:
        Baevski et al. 2020, arXiv 2006.11477, and Hsu et al. 2021, arXiv 2106.07447, with the
        sizes of HuBERT-ECG (Coppola et al. 2024) and ECG-FM (McKeen et al. 2024, arXiv
        2408.05178). Differs: what hides tokens and what predicts them is left out, and nothing is
        dropped out in training.
    """

    Settings = Wav2VecSettings

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        settings = Wav2VecSettings(**sizes)
        self.width = settings.width
        self.feature_extractor = ConvStack(settings)
        self.feature_projection = Projection(settings.conv_width, settings.width)
        self.encoder = Transformer(settings)
        for module in self.modules():  # first values, as in both authors' code
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:  # noqa: ARG004  (as `ToldByFile`)
        """Sizes that a file says of itself."""
        return told_by(content)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Encode signals (B, C, S); (B, S) where there is one channel.

        Returns:
            features: (B, E), the mean over tokens.
            tokens: (B, T, E), of the last layer.
        """
        if x.ndim == 2:
            x = x[:, None]
        tokens = self.encoder(self.feature_projection(self.feature_extractor(x).transpose(1, 2)))
        return {"features": tokens.mean(1), "tokens": tokens}
