"""Models made of other models: several joined, side by side or averaged; one derived by a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from medmcl.core.batch import Batch, Embeddings
from medmcl.core.errors import ConfigError
from medmcl.encoders.encoded import EncoderModule
from medmcl.encoders.towers import EPSILON, Towers

How = Literal["concatenation", "average"]


class Side(EncoderModule):
    """What stands for the tower of a modality: its widths, and that it has no tokens."""

    def __init__(self, features: int, pooled: int) -> None:
        super().__init__()
        self.width = features
        self.head = SimpleNamespace(width=pooled)

    @property
    def facts(self) -> Side:
        """Its widths."""
        return self

    @property
    def encoder(self) -> Side:
        """None of its own."""
        return self

    def layer_depths(self) -> dict[str, int]:
        """No layer of its own."""
        return {}


class Joined(Towers):
    """The model: several models read the same batch, and their embeddings are brought together.

    Those of each are scaled to unit length first, so that none outweighs the others. Similarities
    of concatenated points are the mean of the similarities of the models.

    Args:
        parts: The models.
        names: Modalities that all of them have.
        how: ``concatenation``, or ``average`` of equal widths.

    Raises:
        ConfigError: A part lacks a modality; widths differ and are to be averaged.

    Source:
        Zhang et al. 2024, arXiv 2402.11816 (cross-stage integration). Differs: the authors' code
        joins points that are not scaled, so that a stage with longer ones outweighs the others.
    """

    def __init__(self, parts: Sequence[Towers], names: Sequence[str], how: How) -> None:
        sides: dict[str, nn.Module] = {}
        for name in names:
            towers = [part.tower(name) for part in parts]
            features = [tower.facts.width for tower in towers]
            pooled = [t.facts.width if t.head is None else t.head.width for t in towers]
            if how == "average" and (len(set(features)) > 1 or len(set(pooled)) > 1):
                raise ConfigError(
                    "embeddings of different widths have no average",
                    where=f"modality {name}",
                    got=f"features {features}, pooled {pooled}",
                    fix="how: concatenation",
                )
            taken = slice(None) if how == "concatenation" else slice(1)
            sides[name] = Side(sum(features[taken]), sum(pooled[taken]))
        super().__init__(sides)
        self.how = how
        self.parts = nn.ModuleList(parts)

    def depths(self) -> dict[str, tuple[int, int]]:
        """None: it is not trained."""
        return {}

    def forward(self, batch: Batch) -> Embeddings:
        """Encode the modalities of a batch with every part."""
        seen = [part(batch) for part in self.parts]
        names = [name for name in self.towers if name in batch.inputs]
        return Embeddings(
            batch=batch,
            features={name: self._bring([one.features[name] for one in seen]) for name in names},
            pooled={name: self._bring([one.pooled[name] for one in seen]) for name in names},
        )

    @override
    def alone(self, modality: str, space: str) -> nn.Module:
        parts = [cast(Towers, part).alone(modality, space) for part in self.parts]
        return _Several(parts, self._bring)

    def _bring(self, parts: Sequence[Tensor]) -> Tensor:
        unit = [functional.normalize(part, dim=-1, eps=EPSILON) for part in parts]
        if self.how == "average":
            return functional.normalize(torch.stack(unit).mean(0), dim=-1, eps=EPSILON)
        return torch.cat(unit, dim=-1) / len(unit) ** 0.5


class _Several(nn.Module):
    """One modality, encoded by several parts."""

    def __init__(self, parts: Sequence[nn.Module], bring: Callable[..., Tensor]) -> None:
        super().__init__()
        self.parts, self.bring = nn.ModuleList(parts), bring

    def forward(self, x: Tensor) -> Tensor:
        return self.bring([part(x) for part in self.parts])


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

    @override
    def alone(self, modality: str, space: str) -> nn.Module:
        part = cast(Towers, self.parts[0]).alone(modality, "features")
        return _Layered(part, self.layers[modality], is_unit=space == "pooled")


class _Layered(nn.Module):
    """One modality, encoded by a part and then derived."""

    def __init__(self, part: nn.Module, layer: nn.Module, *, is_unit: bool) -> None:
        super().__init__()
        self.part, self.layer, self.is_unit = part, layer, is_unit

    def forward(self, x: Tensor) -> Tensor:
        derived: Tensor = self.layer(self.part(x))
        return functional.normalize(derived, dim=-1, eps=EPSILON) if self.is_unit else derived
