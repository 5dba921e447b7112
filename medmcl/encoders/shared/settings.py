"""Sizes and settings of a shared tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config, Depth

Rounding = Literal["ceil", "round"]
TRUNK = "shared"
"""What the part that modalities share is called in a recipe, beside the modalities."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a transformer: width, blocks, heads, edge of a patch, last blocks with experts."""

    width: int
    depth: int
    heads: int
    patch: int
    last: int | None = None


SIZES = {
    "tiny": Size(width=64, depth=4, heads=4, patch=8),
    "S/16": Size(width=512, depth=8, heads=8, patch=16),
    "B/32": Size(width=768, depth=12, heads=12, patch=32),
    "B/16": Size(width=768, depth=12, heads=12, patch=16),
    "L/16": Size(width=1024, depth=24, heads=16, patch=16),
    "H/14": Size(width=1280, depth=32, heads=16, patch=14, last=12),
}
"""Riquelme et al. 2021 (S, B, L) and Mustafa et al. 2022 (H, with 12 layers of experts); tiny is
ours. The S of other papers is 384 wide and 12 deep. A token meets 0.1 billion parameters in B, 0.3
in L and 0.68 in H, as in the paper. Of 32 experts in every second block B has 1.0 billion in all
and L 3.5, where others quote 0.5 and 1.7 for the paper: `ExpertSettings.last` says how many of
those blocks have experts."""


class ExpertSettings(Config):
    """How many experts there are, and how tokens reach them."""

    experts: int = Field(default=32, ge=1)
    """E; 32 in Mustafa et al. 2022."""
    k: int = Field(default=1, ge=1)
    """Experts a token; 1 in Mustafa et al. 2022, so that the cost is that of the dense model."""
    routing: Literal["tokens", "experts"] = "tokens"
    """Tokens choose experts, or experts choose tokens (Zhou et al. 2022)."""
    capacity_factor: float = Field(default=1.05, gt=0)
    """Room of an expert in training over its fair share; 1.05 in V-MoE's training. At evaluation
    nothing is dropped."""
    rounding: Rounding = "ceil"
    """How the capacity becomes a whole number."""
    multiple_of: int = Field(default=1, ge=1)
    """Capacity is rounded up to a multiple of this; 4 in V-MoE's code."""
    priority: bool = True
    """Batch priority routing: over-full experts drop the tokens with the lowest gates."""
    noise: float = Field(default=1.0, ge=0)
    """Noise on the logits in training is normal with sigma = noise / E (V-MoE)."""
    grouping: Literal["joint", "per_modality"] = "joint"
    """Whether modalities compete for the same slots (Mustafa et al. 2022) or have their own."""
    group_rows: int | None = Field(default=None, ge=1)
    """Rows of a batch that share slots; all if not given."""
    normalise: bool = False
    """Whether the K gates of a token are divided by their sum (for K of at least 2; CLIP-UP). Not
    so in V-MoE and LIMoE."""
    bias_rate: float = Field(default=0.0, ge=0)
    """Loss-free balance (Wang et al. 2024; 0.001 there): each step moves a bias an expert by this
    towards equal loads over all tokens; it chooses experts and does not weigh them. 0: none. The
    balance losses are then best off, and the entropies on: balance sees no modality."""
    last: int | None = Field(default=None, ge=1)
    """Only the last so many of every second block have experts; all of them if not given."""

    @model_validator(mode="after")
    def _enough_experts(self) -> ExpertSettings:
        if self.k > self.experts:
            raise ValueError(f"k {self.k} is above the number of experts, {self.experts}")
        if self.normalise and (self.k == 1 or self.routing == "experts"):
            raise ValueError(
                "normalise needs tokens that choose 2 experts or more: the gate of one would be 1, "
                "and the router would learn nothing"
            )
        if self.bias_rate and self.routing == "experts":
            raise ValueError("bias_rate needs tokens that choose: experts that choose are balanced")
        return self

    @property
    def noise_std(self) -> float:
        """Sigma of the noise on the logits in training."""
        return self.noise / self.experts


class SharedSettings(Config):
    """The tower that modalities share, and how each enters and leaves it."""

    size: Literal["tiny", "S/16", "B/32", "B/16", "L/16", "H/14"] = "tiny"
    """Where width, depth, heads and the image patch come from."""
    width: int | None = Field(default=None, gt=0)
    """D, instead of the size's."""
    depth: Depth | None = None
    """Blocks, instead of the size's."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads, instead of the size's."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of the hidden layer of an MLP, and of each expert, over D."""
    experts: ExpertSettings | None = ExpertSettings()
    """Experts in blocks 1, 3, 5, ... (from 0); null: a dense tower."""
    pool: Literal["gap", "map"] = "gap"
    """Mean of a modality's tokens (Mustafa et al. 2022), or attention of a learned probe, which all
    modalities share."""
    out: int | None = Field(default=None, gt=0)
    """Shared dimension; D if not given."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """In the last block; rises linearly from 0."""
    input_projections: dict[str, dict[str, Any]] = {}
    """Modality to its input projection: ``name`` and settings; what is not named suits its kind."""

    @property
    def sizes(self) -> Size:
        """The size, with what was given instead."""
        base = SIZES[self.size]
        return Size(
            width=self.width or base.width,
            depth=self.depth or base.depth,
            heads=self.heads or base.heads,
            patch=base.patch,
            last=base.last,
        )


class PatchesSettings(Config):
    """Size of a patch."""

    patch: int | None = Field(default=None, ge=1)
    """Edge in pixels; that of the tower's size if not given."""


class TableSettings(Config):
    """Nothing to set: the vocabulary and the length are the cohort's."""


class SignalSettings(Config):
    """How a signal is cut."""

    patch: int = Field(default=100, ge=1)
    """Samples a patch: 0.2 s at 500 Hz."""
    joint_leads: bool = False
    """Patches span all leads: a twelfth of the tokens."""


class AnyEncoderSettings(Config):
    """Which encoder."""

    encoder: dict[str, Any]
    """``name`` in `ENCODERS`, and the settings of that encoder, which must give tokens."""
