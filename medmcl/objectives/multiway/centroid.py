"""CentroBind: each modality is aligned with the mean of the others that a subject has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.contracts import ModelShape
from medmcl.objectives.multiway.multiway import Multiway
from medmcl.objectives.pairwise.chance import info_nce_chance
from medmcl.objectives.pairwise.contrastive import info_nce
from medmcl.objectives.pairwise.cross_modal import require_pooled
from medmcl.objectives.settings import CentroBindSettings


class CentroBind(Multiway):
    """Charges for every modality against the mean point of the other present ones.

    Sees: what a modality shares with the others on average; needs no middle modality, and uses
    every row with two modalities or more. Cannot: see what shows in no pair, or leave out a
    modality that is noise, which blurs every mean it is part of.

    Source:
        Jeong et al. 2024, arXiv 2410.02086. Differs: a modality is left out of its own mean, so
        that nothing is aligned with itself; the mean is taken over present modalities.
    """

    Settings = CentroBindSettings

    def __init__(self, settings: CentroBindSettings, shape: ModelShape) -> None:
        super().__init__(settings, shape)
        self.settings = settings
        self.terms: tuple[str, ...] = tuple(f"centrobind/{name}" for name in self.names)

    def forward(
        self,
        seen: Mapping[str, Embeddings],
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[str, Term]:
        """Give a term for each modality with at least two rows that have another one too."""
        embeddings, scale = seen[self.settings.view], self.scale()
        for name in self.names:
            require_pooled(embeddings, name, self.settings.view)
        present = torch.stack([embeddings.batch.present[name] for name in self.names])
        points = torch.stack(
            [
                _present(embeddings.pooled[n], here)
                for n, here in zip(self.names, present, strict=True)
            ]
        )
        charged: dict[str, tuple[Tensor, int]] = {}
        for number, term in enumerate(self.terms):
            elsewhere = present.sum(0) - present[number].int() > 0
            rows = (present[number] & elsewhere).nonzero().squeeze(1)
            if len(rows) < 2:
                continue
            others = [x for k, x in enumerate(points) if k != number]
            mean = functional.normalize(torch.stack(others).sum(0)[rows], dim=1)
            charged[term] = (info_nce(points[number][rows], mean, scale), len(rows))
        return {
            name: Term(value, count, 1 / len(charged), info_nce_chance(count))
            for name, (value, count) in charged.items()
        }


def _present(x: Tensor, here: Tensor) -> Tensor:
    """Unit points, zeros where absent, whatever stands there."""
    return functional.normalize(torch.where(here[:, None], x, 0.0), dim=1)
