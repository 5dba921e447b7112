"""Projection heads: from an encoder's features into the space that modalities share."""

from __future__ import annotations

from torch import Tensor, nn

from medmcl.encoders.tower_settings import HeadSettings


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
