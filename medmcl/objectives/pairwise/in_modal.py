"""In-modal contrast: two disturbed views of one record are drawn together, others apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError
from medmcl.objectives.pairwise.contrastive import (
    LogitScale,
    info_nce,
    info_nce_chance,
    nt_xent,
    with_groups,
)
from medmcl.objectives.pairwise.cross_modal import require_pooled
from medmcl.objectives.settings import InModalSettings


class InModal(nn.Module):
    """Charges for two views of one modality over the rows that have it (SimCLR).

    Source:
        Chen et al. 2020, eq. (1), arXiv 2002.05709. Differs: ``negatives: cross`` leaves out the
        negatives within a view, as the in-modal term of Bansal et al. 2023 (CleanCLIP,
        arXiv 2303.03323) does; negatives come from all ranks.
    """

    Settings = InModalSettings

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("pooled",)
    takes_groups: ClassVar[bool] = True

    def __init__(self, settings: InModalSettings, shape: ModelShape) -> None:
        super().__init__()
        lookup("modality", settings.modality, shape.inputs)
        if settings.views[0] == settings.views[1]:
            raise ConfigError("in_modal needs two different views", got=settings.views[0])
        if settings.negatives == "all" and settings.weight != 0.5:
            raise ConfigError(
                "in_modal: with negatives of both views the loss has no directions to weigh",
                got=f"weight: {settings.weight:g}, negatives: all",
                fix="set negatives: cross, or leave weight out",
            )
        self.settings = settings
        self.views: tuple[str, ...] = settings.views
        self.terms: tuple[str, ...] = (f"in_modal/{settings.modality}",)
        self.scale = LogitScale(settings.scale)

    def forward(
        self,
        seen: Mapping[str, Embeddings],
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        name = self.settings.modality
        first, second = (seen[view] for view in self.settings.views)
        for view in self.settings.views:
            require_pooled(seen[view], name, view)
        present = first.batch.present[name] & second.batch.present[name]
        rows, groups = with_groups(first.batch, present.nonzero().squeeze(1))
        if len(rows) < 2:
            return {}
        a, b = first.pooled[name][rows], second.pooled[name][rows]
        if self.settings.negatives == "all":
            value = nt_xent(a, b, self.scale(), groups=groups)
        else:
            value = info_nce(a, b, self.scale(), self.settings.weight, groups=groups)
        views = 2 if self.settings.negatives == "all" else 1
        return {
            self.terms[0]: Term(value, len(rows), chance=info_nce_chance(len(rows), groups, views))
        }
