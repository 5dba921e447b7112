"""Uniformity: embeddings of different people spread over the sphere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import Config, lookup
from medmcl.core.contracts import ModelShape


class UniformSettings(Config):
    """What is spread."""

    modality: str
    view: str = "plain"
    t: float = 2.0


class Uniform(nn.Module):
    """Charges for rows that lie close together.

    Source: Wang and Isola 2020, eq. (2), arXiv 2005.10242.
    """

    Settings = UniformSettings

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("pooled",)

    def __init__(self, settings: UniformSettings, shape: ModelShape) -> None:
        super().__init__()
        lookup("modality", settings.modality, shape.inputs)
        self.settings = settings
        self.views: tuple[str, ...] = (settings.view,)
        self.terms: tuple[str, ...] = (f"uniform/{settings.modality}",)

    def forward(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        name = self.settings.modality
        rows = seen[self.settings.view].pooled[name][batch.present[name]]
        if len(rows) < 2:
            return {}
        apart = torch.pdist(rows.float()).square()
        value = apart.mul(-self.settings.t).exp().mean().log()
        return {self.terms[0]: Term(value, count=len(rows))}
