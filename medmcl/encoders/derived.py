"""A model whose embeddings are derived from those of another, by a layer a modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings
from medmcl.encoders.joined import Side
from medmcl.encoders.towers import EPSILON, Towers


class Layer(Protocol):
    """What derives embeddings: an `nn.Module` that learns from those of train people, once.

    What it learns stands in its buffers or parameters, of shapes that are known when it is built,
    and is kept with the weights of the stage.
    """

    width: int
    """Of what it gives, D."""

    def fit(self, x: np.ndarray) -> None:
        """Learn from features of train rows, (N, E) float32; changes its buffers in place."""

    def __call__(self, x: Tensor) -> Tensor:
        """Give rows (B, D) for features (B, E), each from its own row alone."""


class Derived(Towers):
    """The model: features are what a layer makes of another model's, pooled the same, unit-norm.

    Args:
        part: The model whose features are read.
        layers: Modality to what derives its embeddings.
    """

    def __init__(self, part: Towers, layers: Mapping[str, Layer]) -> None:
        super().__init__({name: Side(one.width, one.width) for name, one in layers.items()})
        self.parts = nn.ModuleList([part])
        self.layers = nn.ModuleDict({name: cast(nn.Module, one) for name, one in layers.items()})

    def depths(self) -> dict[str, tuple[int, int]]:
        """None: it is not trained."""
        return {}

    def forward(self, batch: Batch) -> Embeddings:
        """Encode the modalities of a batch, then derive."""
        seen = self.parts[0](batch)
        features = {
            name: self.layers[name](seen.features[name].float())
            for name in self.towers
            if name in batch.inputs
        }
        pooled = {
            name: functional.normalize(one, dim=-1, eps=EPSILON) for name, one in features.items()
        }
        return Embeddings(batch=batch, features=features, pooled=pooled)
