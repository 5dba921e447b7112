"""What objectives over many modalities at once share: their points, side by side and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import Embeddings
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives.pairwise.contrastive import widen
from medmcl.objectives.pairwise.cross_modal import require_pooled
from medmcl.objectives.pairwise.scale import LogitScale
from medmcl.objectives.settings import MultiwaySettings

Many = Sequence[Tensor] | Mapping[str, Tensor]


class Multiway(nn.Module):
    """What every objective over many modalities has: their names, one view, one scale."""

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("pooled",)

    def __init__(self, settings: MultiwaySettings, shape: ModelShape) -> None:
        super().__init__()
        self.names = named_modalities(settings, shape)
        self.views: tuple[str, ...] = (settings.view,)
        self.scale = LogitScale(settings.scale)

    def scale_of(self, pair: tuple[str, str]) -> LogitScale | None:
        """The scale of all modalities together; None if one of the pair is not among them."""
        return self.scale if set(pair) <= set(self.names) else None

    def together(self, seen: Mapping[str, Embeddings]) -> list[Tensor] | None:
        """Points of the rows that have every modality, (rows, D) each; None of fewer than two."""
        (view,) = self.views
        rows = rows_with_all(seen[view], self.names, view)
        return [seen[view].pooled[name][rows] for name in self.names] if len(rows) > 1 else None


def stacked(embeddings: Many, normalise: bool = True) -> Tensor:
    """Give M tensors (B, D) as one (M, B, D), in float32 or wider, of unit length if asked.

    Raises:
        MedmclError: If there are fewer than 2 modalities or rows, shapes differ, or values are not
            real numbers with a fraction.
    """
    points = list(embeddings.values() if isinstance(embeddings, Mapping) else embeddings)
    if len(points) < 2:
        raise MedmclError("at least 2 modalities are needed", got=len(points))
    shapes = {tuple(x.shape) for x in points}
    if len(shapes) > 1 or points[0].ndim != 2:
        raise MedmclError("embeddings must be matrices of one shape (B, D)", got=sorted(shapes))
    if len(points[0]) < 2:
        raise MedmclError(
            "a contrastive loss needs at least 2 rows: with fewer there is no negative",
            got=len(points[0]),
            fix="leave the term out, or use larger batches",
        )
    if not all(x.is_floating_point() for x in points):
        raise MedmclError("embeddings must hold floating-point numbers", fix="embeddings.float()")
    wider = widen(points[0]).dtype
    for x in points[1:]:
        wider = torch.promote_types(wider, widen(x).dtype)
    whole = torch.stack([x.to(wider) for x in points])
    return functional.normalize(whole, dim=-1) if normalise else whole


def named_modalities(settings: MultiwaySettings, shape: ModelShape) -> tuple[str, ...]:
    """Modalities that are taken together; `ConfigError` if one has no tower or stands twice."""
    if settings.modalities == "all":
        names = tuple(shape.inputs)
    else:
        names = tuple(lookup("modality", n, {m: m for m in shape.inputs})
                      for n in settings.modalities)  # fmt: skip
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError("at least two different modalities are needed", got=", ".join(names))
    return names


def rows_with_all(embeddings: Embeddings, names: Sequence[str], view: str) -> Tensor:
    """Numbers of the rows that have every modality named, (rows,)."""
    for name in names:
        require_pooled(embeddings, name, view)
    present = torch.stack([embeddings.batch.present[name] for name in names])
    return present.all(0).nonzero().squeeze(1)
