"""Projection heads: from an encoder's features into the space that modalities share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

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


class Head(nn.Module):
    """Linear layers, ReLU between them, and no norm unless asked for.

    Source:
        Turgut et al. 2025, arXiv 2308.05764 (code). Differs: none.
    """

    def __init__(self, width: int, settings: HeadSettings) -> None:
        super().__init__()
        self.width = settings.out
        layers: list[nn.Module] = []
        norms = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        for _ in range(settings.layers - 1):
            layers.append(nn.Linear(width, settings.hidden, bias=settings.bias))
            if settings.norm != "none":
                layers.append(norms[settings.norm](settings.hidden))
            layers.append(nn.ReLU())
            width = settings.hidden
        layers.append(nn.Linear(width, settings.out, bias=settings.bias))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Project (N, E) to (N, D)."""
        projected: Tensor = self.layers(features)
        return projected
