"""What can be set of a tower and its projection head."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from medmcl.core.config import Config


class HeadSettings(Config):
    """Size of a projection head; the paper's."""

    hidden: int = Field(default=2048, gt=0)
    """Width of hidden layers (Turgut et al. 2025, code)."""
    out: int = Field(default=128, gt=0)
    """D, the shared dimension (Turgut et al. 2025, code)."""
    layers: int = Field(default=2, ge=1)
    """Linear layers, with ReLU between them; 2 in Turgut et al. 2025."""
    bias: bool = True
    """Whether linear layers have a bias. CLIP's projection is ``layers: 1, bias: false``."""
    norm: Literal["none", "layer", "batch"] = "none"
    """Before each ReLU. None, as in the authors' pinned release of lightly; its later default,
    batch norm, makes an embedding depend on the other rows of its batch."""


class TowerSettings(Config):
    """One tower."""

    encoder: dict[str, Any]
    """``name`` in `ENCODERS`, and the settings of that encoder."""
    head: HeadSettings | None = None
    """Projection head; without one the features themselves are the shared space."""
    frozen: bool | Literal["encoder"] = False
    """Whether the tower, or its encoder only, keeps its weights (and batch statistics)."""
