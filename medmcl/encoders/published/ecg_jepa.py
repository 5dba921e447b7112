"""ECG-JEPA of Weimann and Conrad: a transformer that learned to predict tokens it did not see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.layers import EPSILON, Block, require_heads
from medmcl.encoders.published.norm_first import drawn_on, learned
from medmcl.encoders.published.told import plain, refuse_other, table
from medmcl.modalities.ecg.leads import TWELVE, canonical
from medmcl.modalities.ecg.steps import Standardise


class PatchEmbed(nn.Module):
    """Pieces of time that span all leads, as tokens."""

    def __init__(self, leads: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv1d(leads, width, patch, patch, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens (B, T, E) for records (B, L, S)."""
        out: Tensor = self.proj(x).transpose(1, 2)
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of one query over tokens, projected to logits."""

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        require_heads(width, heads)
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(width, classes, bias=False)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Give (B, classes) for a query (B, 1, E) and tokens (B, T, E)."""
        rows, count, width = tokens.shape
        each = width // self.heads
        asked = self.q(query).reshape(rows, 1, self.heads, each).transpose(1, 2)
        kv = self.kv(tokens).reshape(rows, count, 2, self.heads, each).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(asked, *kv)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(rows, width))
        return out


class AttentivePool(nn.Module):
    """The authors' linear probe: attention of a learned query, over register and pieces."""

    def __init__(self, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.query_token = learned(1, 1, width)
        self.cross_attention_block = CrossAttention(width, heads, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Give logits (B, classes) for tokens (B, T, E)."""
        query = self.query_token.expand(len(tokens), -1, -1)
        out: Tensor = self.cross_attention_block(query, tokens)
        return out


class ECGJEPA(nn.Module):
    """A transformer over pieces of time, with one more token that belongs to no piece.

    Outputs: ``features`` (B, E), the mean of the pieces; ``register`` (B, E), the token of no
    piece; ``tokens`` (B, 1 + T, E), the register first. The authors probe by attention over these
    tokens that they train with the labels; where a file holds it, ``logits`` (B, classes) are its.

    Source:
        Weimann & Conrad 2025 (Computers in Biology and Medicine), arXiv 2410.13867, and its code.
        Differs: none.
    """

    class Settings(Config):
        """Sizes; those of ViT-S."""

        leads: int = Field(default=12, ge=1)
        samples: int = Field(default=5000, ge=1, le=100_000)
        """The longest record; any whole number of patches may come."""
        patch: int = Field(default=25, ge=1)
        width: int = Field(default=384, gt=0, le=8192, multiple_of=2)
        depth: int = Field(default=8, ge=1, le=512)
        heads: int = Field(default=6, ge=1)
        mlp_ratio: float = Field(default=4.0, gt=0, le=64)
        classes: int = Field(default=0, ge=0)
        """Of a file with the authors' probe; 0: it has none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        own = self.Settings(**settings)
        self.width, self.patch, self.classes = own.width, own.patch, own.classes
        self.pieces = own.samples // own.patch
        self.patch_embed = PatchEmbed(own.leads, own.width, own.patch)
        self.registers = learned(1, 1, own.width)
        self.positions: Tensor
        places = interleaved_positions(self.pieces, own.width)
        self.register_buffer("positions", places, persistent=False)
        self.blocks = nn.ModuleList(
            Block(own.width, own.heads, own.mlp_ratio, bias=False) for _ in range(own.depth)
        )
        self.norm = nn.LayerNorm(own.width, eps=EPSILON, bias=False)
        if own.classes:
            self.attn_pool = AttentivePool(own.width, own.heads, own.classes)

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings that a file decides: sizes of its ``config``, classes of its probe.

        Raises:
            ArtefactError: Its ``config`` is of a network that differs from this one.
        """
        config = plain(table(table(content).get("config")), (*_SIZES, *_OTHERWISE))
        refuse_other(config, _OTHERWISE)
        said = {own: config[theirs] for theirs, own in _SIZES.items() if theirs in config}
        found = {key: one for key, one in said.items() if isinstance(one, (int, float))}
        if names := ECGJEPA.reads(content).get("channels"):
            found["leads"] = len(names)
        probe = state.get("attn_pool.cross_attention_block.proj.weight")
        return found if probe is None else {**found, "classes": len(probe)}

    @staticmethod
    def reads(content: Any) -> dict[str, Any]:
        """What a file says of its records: ``channels`` in their order, ``mean`` and ``std``.

        Raises:
            ArtefactError: Its channels are no leads, or its constants are not one a lead, or such
                as `Standardise` does not take.
        """
        said = table(content)
        constants = plain(table(said.get("preprocess")), ("mean", "std"))
        channels = plain(table(said.get("config")), ["channels"]).get("channels", TWELVE)
        names = [canonical(str(one))[0] for one in _listed(channels)]
        found: dict[str, Any] = {} if names == [*TWELVE] else {"channels": names}
        given = ("mean", "std") if table(said.get("preprocess")) else ()
        for key in given:
            found[key] = _listed(constants.get(key))
        if not set(names) <= {*TWELVE} or len(set(names)) < len(names) or not names:
            raise ArtefactError(
                "reads other channels than leads of a 12-lead ECG",
                got=f"config, channels: {channels}",
                expected=", ".join(TWELVE),
                fix="take a file that its authors published",
            )
        if any(
            len(found[key]) != len(TWELVE) or not all(isinstance(one, float) for one in found[key])
            for key in given
        ):
            raise ArtefactError(
                "has no constant for each of the twelve leads of a record",
                got=f"preprocess: {constants}",
                expected="mean and std of 12 leads each",
                fix="take a file that its authors published",
            )
        if given:
            step = {"step": "standardise", **{key: found[key] for key in given}}
            check(Standardise, step, "preprocess", ArtefactError)
        return found

    @staticmethod
    def prepared_as(settings: Mapping[str, Any], reads: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the preparation of a file: its constants, then its order of leads.

        The constants are of records in the standard order: the authors normalise before they
        order, and fine-tune on PTB-XL.
        """
        order = [TWELVE.index(name) for name in reads.get("channels", TWELVE)]
        steps = [dict(one) for one in settings["steps"]]
        for step in steps:
            if step["step"] == "standardise":
                for key in ("mean", "std"):
                    constants = reads.get(key, step[key])
                    step[key] = [constants[place] for place in order]
        leads = {"leads": reads["channels"]} if "channels" in reads else {}
        return {**settings, **leads, "steps": steps}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Encode records (B, L, S), S a multiple of ``patch`` up to ``samples``."""
        if x.shape[-1] % self.patch or x.shape[-1] > self.pieces * self.patch:
            raise ConfigError(
                "ECG-JEPA reads whole pieces of time",
                got=f"{x.shape[-1]} samples",
                expected=f"a multiple of {self.patch}, up to {self.pieces * self.patch}",
            )
        pieces = self.patch_embed(x)
        pieces = pieces + self.positions[: pieces.shape[1]]
        tokens = torch.cat([self.registers.expand(len(x), -1, -1), pieces], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        found = {"features": tokens[:, 1:].mean(1), "register": tokens[:, 0], "tokens": tokens}
        if self.classes:
            found["logits"] = self.attn_pool(tokens)
        return found


_SIZES = {
    "channel_size": "samples",
    "patch_size": "patch",
    "dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
}
"""What a file's ``config`` calls them, and we."""
_OTHERWISE = {
    "sampling_frequency": 500,
    "num_registers": 1,
    "bias": False,
    "qkv_bias": False,
    "norm_eps": EPSILON,
    "layer_scale_eps": 0.0,
}
"""What a file's ``config`` may say of its network, and the one value that the network here has."""


def _listed(value: Any) -> list[Any]:
    """What stands in a list of a file, whole numbers as floats; empty for others."""
    found = value if isinstance(value, (list, tuple)) else ()
    return [float(one) if isinstance(one, int) else one for one in found]


def interleaved_positions(length: int, width: int) -> Tensor:
    """Give fixed positions, (length, width) float32; sine and cosine of a period side by side.

    Source:
        Vaswani et al. 2017, section 3.5. Differs: none; `medmcl.core.layers.sincos_1d` has all
        sines first.
    """
    place = torch.arange(length, dtype=torch.float64, device=drawn_on())[:, None]
    order = torch.arange(0, width, 2, dtype=torch.float64, device=drawn_on())
    angle = place / 10000.0 ** (order / width)
    return torch.stack([angle.sin(), angle.cos()], 2).reshape(length, width).float()
