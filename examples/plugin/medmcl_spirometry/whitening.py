"""A stage that reads another: what it made of train people says how its embeddings are whitened."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from medmcl.stages.derived.derived import Derive
from medmcl.stages.derived.spec import DerivedSpec


class Whitening(nn.Module):
    """Rows (B, E) to rows (B, E) whose covariance, over train people, is near the identity.

    Args:
        width: E.
        shrink: Share of a round covariance, 0 to 1.
    """

    def __init__(self, width: int, shrink: float) -> None:
        super().__init__()
        self.width, self.shrink = width, shrink
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    def fit(self, x: np.ndarray) -> None:
        """Learn mean and covariance of features (N, E) of train people."""
        x = x.astype(np.float64)
        own = np.atleast_2d(np.cov(x.T))
        round_one = np.trace(own) / len(own) * np.eye(len(own))
        values, vectors = np.linalg.eigh((1 - self.shrink) * own + self.shrink * round_one)
        matrix = vectors / np.sqrt(np.maximum(values, 1e-12)) @ vectors.T
        self.mean.copy_(torch.from_numpy(x.mean(axis=0)))
        self.matrix.copy_(torch.from_numpy(matrix))

    def forward(self, x: Tensor) -> Tensor:
        """Whiten each row."""
        return (x - self.mean) @ self.matrix


class WhitenSpec(DerivedSpec):
    """Whiten the embeddings of an earlier stage."""

    stage: Literal["whiten"]
    shrink: float = Field(default=0.1, gt=0, le=1)
    """Share of a round covariance: more where train people are few."""

    @override
    def layer(self, width: int) -> Whitening:
        """Build it for features of a width."""
        return Whitening(width, self.shrink)


class Whiten(Derive[WhitenSpec]):
    """Whitening, as a stage: all that it does is in the layer."""

    Settings = WhitenSpec
