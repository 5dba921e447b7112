"""The norm of a convolutional encoder: batch, or group."""

from __future__ import annotations

from torch import nn

from medmcl.encoders.settings import Norm


def norm_layer(kind: Norm, channels: int, axes: int) -> nn.Module:
    """Give the norm of (B, channels, *axes): batch norm, or group norm with at most 8 groups.

    Group norm keeps rows apart: an embedding does not depend on the rest of its batch, and several
    processes give what one gives.
    """
    if kind == "batch":
        return nn.BatchNorm1d(channels) if axes == 1 else nn.BatchNorm2d(channels)
    return nn.GroupNorm(next(n for n in (8, 4, 2, 1) if channels % n == 0), channels)
