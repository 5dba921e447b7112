"""PAR: an encoder departs from what a poisoned model makes of a record, up to a distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings, Term, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError
from medmcl.objectives.pairwise.contrastive import widen
from medmcl.objectives.pairwise.cross_modal import require_pooled
from medmcl.objectives.settings import ParSettings


class Par(nn.Module):
    """Rewards distance from the teacher, the poisoned model that the stage starts from.

    Beside `cross_modal` on clean pairs: what the clean pairs do not hold in place is lost, a
    backdoor with it.

    Source:
        PAR (Singh et al. 2024, arXiv 2412.00727): CLIP - 1/2 sum_m h(mean ||z_m - z_m^0||^2),
        h(d) = d up to a threshold and 0 beyond. Differs: the teacher sees records undisturbed, and
        once; theirs sees the augmented image of the student. Every modality of the teacher has the
        weight 1/2.
    """

    Settings = ParSettings

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("pooled",)

    def __init__(self, settings: ParSettings, shape: ModelShape) -> None:
        super().__init__()
        if not shape.teacher_widths:
            raise ConfigError(
                "the objective par has nothing to depart from",
                fix="name the poisoned stage as teacher: `teacher: victim`",
            )
        self.settings = settings
        self.views: tuple[str, ...] = (settings.view,)
        self.names = tuple(shape.teacher_widths)
        self.terms: tuple[str, ...] = tuple(f"par/{name}" for name in self.names)

    def forward(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]:
        """Give a term for each modality that has two rows; negative: the further, the lower."""
        embeddings = seen[self.settings.view]
        found = {}
        for name in self.names:
            require_pooled(embeddings, name, self.settings.view)
            known = batch.known[distill_target(name, "pooled")][:, 0]
            rows = (embeddings.batch.present[name] & known).nonzero().squeeze(1)
            if len(rows) >= 2:
                far = departure(
                    embeddings.pooled[name][rows],
                    batch.targets[distill_target(name, "pooled")][rows],
                    self.settings.threshold,
                )
                found[f"par/{name}"] = Term(-far, len(rows), 0.5)
        return found


def departure(own: Tensor, reference: Tensor, threshold: float = 2.15) -> Tensor:
    """Give the mean squared distance of unit rows, or 0 where it is beyond the threshold.

    Args:
        own: Of the student, (B, D), of unit length.
        reference: Of the poisoned model, (B, D), of unit length.
        threshold: Of the mean over the batch.

    Returns:
        Scalar, 0 to ``threshold``; its gradient is 0 beyond.
    """
    own = widen(own)
    with torch.autocast(own.device.type, enabled=False):
        far = (own - reference.to(own.dtype)).square().sum(dim=1).mean()
        return torch.where(far <= threshold, far, torch.zeros_like(far))
