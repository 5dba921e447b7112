"""Convolutions over a flow curve."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.encoders.encoded import Encoded, require_axes, unmaskable


class FlowCNNSettings(Config):
    """Sizes of the encoder."""

    width: PositiveInt = 32


class FlowCNN(nn.Module):
    """Three strided convolutions; keeps the contract `medmcl.encoders.encoded.Encoder`."""

    Settings = FlowCNNSettings

    early: tuple[str, ...] = ()

    def __init__(self, shape: InputShape, settings: FlowCNNSettings) -> None:
        super().__init__()
        channels, samples = require_axes(shape, ("channels", "samples"), "flow_cnn")
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv1d(channels, settings.width, 5, stride=2, padding=2), nn.GELU()]
            channels, samples = settings.width, -(-samples // 2)
        self.layers = nn.Sequential(*layers)
        self.width = settings.width
        self.num_tokens: int | None = None
        self.patch: int | None = None
        self.grid: tuple[int, ...] = (samples,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode curves (B, 1, T)."""
        unmaskable(mask, "flow_cnn")
        tokens = self.layers(x).transpose(1, 2)
        return Encoded(features=tokens.mean(1), tokens=tokens)
