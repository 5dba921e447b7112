"""What a student learns from a teacher's embeddings (Distil), or departs from (Par)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings, Term, distill_target
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import widen
from medmcl.objectives.pairwise.alignment import require_pooled
from medmcl.objectives.settings import DistilSettings, ParSettings


class Distil(nn.Module):
    """Charges where features do not tell those of the teacher, and where similarities differ.

    Two terms a modality: ``vectors``, the share of the variance of the teacher's features, over
    train rows, that a linear map of the student's leaves unexplained; ``relations``, the mean
    squared difference of the cosines of all two rows; and those of rows of every two modalities.
    The teacher sees records undisturbed; the student sees the view.

    Source:
        Relations: Park et al. 2019, arXiv 1904.05068, and Tung and Mori 2019, arXiv 1907.09682,
        with cosines in the place of distances and of scaled products; vectors: Romero et al. 2015,
        arXiv 1412.6550, with a linear map. To distil the stages of multistage contrastive learning
        is ours.
    """

    Settings = DistilSettings

    across_ranks: Literal["gather", "rows"] = "gather"
    gathers: tuple[str, ...] = ("features", "pooled")

    def __init__(self, settings: DistilSettings, shape: ModelShape) -> None:
        super().__init__()
        if not shape.teacher_widths:
            raise ConfigError(
                "the objective distil has nothing to learn from",
                fix="name an earlier stage that has the same modalities: `teacher: joined`",
            )
        self.settings = settings
        self.views: tuple[str, ...] = (settings.view,)
        self.names = tuple(shape.teacher_widths)
        self.maps = nn.ModuleDict(
            {
                name: nn.Linear(shape.widths[name], width)
                for name, width in shape.teacher_widths.items()
            }
        )
        ends = [(a, b) for n, a in enumerate(self.names) for b in self.names[n:]]
        vectors = [f"distil/{name}/vectors" for name in self.names if settings.vectors]
        relations = [_relation(a, b) for a, b in ends if settings.relations]
        self.pairs = ends
        self.terms: tuple[str, ...] = (*vectors, *relations)

    def forward(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]:
        """Give the terms that have two rows at least."""
        embeddings = seen[self.settings.view]
        charged: dict[str, tuple[Tensor, int, float]] = {}
        for name in self.names if self.settings.vectors else ():
            require_pooled(embeddings, name, self.settings.view)
            rows = _taught_rows(embeddings, batch, name, "features")
            if len(rows) >= 2:
                own = self.maps[name](embeddings.features[name][rows])
                value = unexplained(own, batch.targets[distill_target(name, "features")][rows])
                charged[f"distil/{name}/vectors"] = (value, len(rows), self.settings.vectors)
        for a, b in self.pairs if self.settings.relations else ():
            first, second = (_taught_rows(embeddings, batch, name, "pooled") for name in (a, b))
            if len(first) >= 2 and len(second) >= 2:
                value = relations(
                    embeddings.pooled[a][first],
                    embeddings.pooled[b][second],
                    batch.targets[distill_target(a, "pooled")][first],
                    batch.targets[distill_target(b, "pooled")][second],
                )
                weight = self.settings.relations
                charged[_relation(a, b)] = (value, len(first), weight)
        total = sum(weight for _, _, weight in charged.values())
        return {
            name: Term(value, count, weight / total, 1.0 if name.endswith("/vectors") else None)
            for name, (value, count, weight) in charged.items()
        }


def _taught_rows(embeddings: Embeddings, batch: Batch, name: str, space: str) -> Tensor:
    """Numbers of the rows that have a modality, and of which the teacher says something."""
    known = batch.values(batch.known[distill_target(name, space)])[:, 0]
    present = embeddings.batch.values(embeddings.batch.present[name])
    return host.numbers(present & known, batch.ids.device)


def _relation(a: str, b: str) -> str:
    return f"distil/{a}/relations" if a == b else f"distil/{a}~{b}/relations"


def unexplained(own: Tensor, teacher: Tensor) -> Tensor:
    """Give the squared distance to the teacher's features, whose variance over train rows is 1.

    The variance in the batch would not do: records of which the teacher says the same, such
    as reports of normal findings, would then cost without bound.

    Args:
        own: What the student says, (B, E).
        teacher: What the teacher says, (B, E), scaled so that the variances of its columns over
            train rows sum to 1.

    Returns:
        Scalar, lower is better; 0 = equal, 1 = no better than the mean of train rows.
    """
    own = widen(own)
    return (own - teacher.to(own.dtype)).square().sum(dim=1).mean()


def relations(a: Tensor, b: Tensor, teacher_a: Tensor, teacher_b: Tensor) -> Tensor:
    """Give the mean squared difference between the student's cosines and the teacher's.

    Args:
        a: Student, unit points of one modality, (N, D).
        b: Student, of the same or another modality, (M, D).
        teacher_a: Teacher, (N, F).
        teacher_b: Teacher, (M, F).

    Returns:
        Scalar, lower is better; 0 = every two rows are as alike as the teacher has them.
    """
    a, b = widen(a), widen(b)
    with torch.autocast(a.device.type, enabled=False):
        theirs = teacher_a.to(a.dtype) @ teacher_b.to(a.dtype).T
        return torch.mean((a @ b.T - theirs) ** 2)


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
            rows = _taught_rows(embeddings, batch, name, "pooled")
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
