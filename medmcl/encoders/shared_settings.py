"""Sizes and settings of a shared tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from medmcl.core.config import Config
from medmcl.encoders.moe import ExpertSettings


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


class SharedSettings(Config):
    """The tower that modalities share, and how each enters and leaves it."""

    size: Literal["tiny", "S/16", "B/32", "B/16", "L/16", "H/14"] = "tiny"
    """Where width, depth, heads and the image patch come from."""
    width: int | None = Field(default=None, gt=0)
    """D, instead of the size's."""
    depth: int | None = Field(default=None, ge=1)
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
    entrances: dict[str, dict[str, Any]] = {}
    """Modality to its entrance: ``name`` and settings; what is not named suits its kind."""

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
